//! What lies in the log after each of some positions, counted in one read.

use futures_util::TryStreamExt as _;
use tailfold::{EventStore, Filter, Follow, Position, Timestamp};

use crate::error::Result;

#[derive(Debug)]
pub(super) struct Behind {
    /// In order.
    begins: Vec<Position>,
    /// Of each: the events after it and not after the next.
    between: Vec<Between>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Between {
    events: u64,
    first: Option<Timestamp>,
}

impl Behind {
    /// Reads the log from the first of the positions.
    pub(super) async fn count(
        store: &dyn EventStore,
        begins: impl Iterator<Item = Position>,
    ) -> Result<Self> {
        let mut begins: Vec<_> = begins.collect();
        begins.sort_unstable();
        begins.dedup();
        let mut between = vec![Between::default(); begins.len()];
        if let Some(first) = begins.first() {
            let mut batches = store.read_all(*first, Filter::all(), Follow::ToEnd);
            while let Some(batch) = batches.try_next().await? {
                for event in &batch.events {
                    let passed = begins.partition_point(|begin| *begin < event.position);
                    if let Some(between) = passed.checked_sub(1).and_then(|last| between.get_mut(last)) {
                        between.events += 1;
                        between.first.get_or_insert(event.data.recorded_at);
                    }
                }
            }
        }
        Ok(Self { begins, between })
    }

    /// Events after one of the positions.
    pub(super) fn events(&self, begin: Position) -> u64 {
        self.after(begin).map(|between| between.events).sum()
    }

    /// When the first of them was recorded.
    pub(super) fn since(&self, begin: Position) -> Option<Timestamp> {
        self.after(begin).find_map(|between| between.first)
    }

    fn after(&self, begin: Position) -> impl Iterator<Item = &Between> {
        self.between.iter().skip(self.begins.partition_point(|other| *other < begin))
    }
}
