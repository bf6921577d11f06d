//! Whether what is folded is what was recorded: each event's chain must follow from the event before and from
//! its own bytes.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;

use crate::chain::{Chain, Digest};
use crate::error::{Error, Result};
use crate::event::{Position, RecordedEvent};
use crate::filter::Filter;
use crate::repository::Inner;
use crate::store::{Direction, EventStore as _, Follow, VersionRange};
use crate::stream::{Head, StreamId, Version};

/// So many events of a load are all checked. Hashing one costs about as much as reading and folding it.
const ALL_OF: u64 = 100;
/// Beyond that, one in so many on average, so that the check costs a long replay less than 3 %.
const ONE_IN: u32 = 64;
/// A projection waits for so many events until the one comes that follows an event in its stream.
const MOST_WAITED_FOR: u32 = 1024;

/// Which events of a load are checked.
#[derive(Debug)]
pub(crate) struct Sample {
    seen: u64,
    left_out: u32,
    all: bool,
}

impl Sample {
    /// The first hundred, and some at random after that.
    pub(crate) fn of_a_load() -> Self {
        Self { seen: 0, left_out: random_gap(), all: false }
    }

    /// Every event.
    pub(crate) fn all() -> Self {
        Self { all: true, ..Self::of_a_load() }
    }

    /// Whether to check the next one.
    fn draws(&mut self) -> bool {
        self.seen += 1;
        if self.is_complete() {
            return true;
        }
        match self.left_out.checked_sub(1) {
            Some(left) => {
                self.left_out = left;
                false
            }
            None => {
                self.left_out = random_gap();
                true
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.all || self.seen <= ALL_OF
    }

    /// Checks an event that follows a head in its stream, if it is drawn.
    ///
    /// # Errors
    /// `Corrupt` if one of the two was altered.
    pub(crate) fn check(&mut self, before: Head, event: &RecordedEvent) -> Result<()> {
        if self.draws() { check_link(before.chain, event) } else { Ok(()) }
    }
}

/// As many as `ONE_IN` - 1 on average, and never a pattern.
fn random_gap() -> u32 {
    fastrand::u32(..ONE_IN * 2 - 1)
}

fn check_link(before: Chain, event: &RecordedEvent) -> Result<()> {
    if before.link(Digest::of(&event.data)) == event.chain { Ok(()) } else { Err(altered(event)) }
}

fn altered(event: &RecordedEvent) -> Error {
    Error::corrupt(format!(
        "stream `{}`: version {} (position {}) does not follow from the event before it: one of them was \
         altered after it was recorded. `tailfold verify` names every such place; restore it from a backup",
        event.stream, event.version, event.position
    ))
}

/// The checks of a projection, which meets the events of a stream among those of others.
#[derive(Debug)]
pub(crate) struct LogSample {
    sample: Sample,
    /// Heads of the streams met among the first events.
    heads: HashMap<StreamId, Head>,
    /// A head beyond those, and for how many events it is remembered.
    awaited: Option<(StreamId, Head, u32)>,
}

impl LogSample {
    pub(crate) fn of_a_load() -> Self {
        Self { sample: Sample::of_a_load(), heads: HashMap::new(), awaited: None }
    }

    /// Checks an event where the one before it in its stream is remembered.
    ///
    /// # Errors
    /// `Corrupt` if one of the two was altered.
    pub(crate) fn check(&mut self, event: &RecordedEvent) -> Result<()> {
        let drawn = self.sample.draws();
        if self.sample.is_complete() {
            let before = match event.data.event_type.is_tombstone() {
                true => self.heads.remove(&event.stream),
                false => self.heads.insert(event.stream.clone(), event.head()),
            };
            return before.map_or(Ok(()), |before| check_if_next(before, event));
        }
        if !self.heads.is_empty() {
            self.heads = HashMap::new();
        }
        match &mut self.awaited {
            Some((stream, before, _)) if *stream == event.stream => {
                let before = *before;
                self.awaited = None;
                check_if_next(before, event)
            }
            Some((_, _, left)) if *left > 0 => {
                *left -= 1;
                Ok(())
            }
            _ => {
                let awaited = drawn && !event.data.event_type.is_tombstone();
                self.awaited = awaited.then(|| (event.stream.clone(), event.head(), MOST_WAITED_FOR));
                Ok(())
            }
        }
    }
}

/// What lies between two events that a projection reads, it may not read.
fn check_if_next(before: Head, event: &RecordedEvent) -> Result<()> {
    if event.version == before.version.next() { check_link(before.chain, event) } else { Ok(()) }
}

impl<F> Inner<F> {
    /// Checks the first event of a stream: it follows from the stream's name, or from the tombstone of the
    /// life before.
    ///
    /// # Errors
    /// `Corrupt` if it was altered.
    pub(crate) async fn check_first(&self, first: &RecordedEvent) -> Result<()> {
        // What lay before an origin is gone, and the chain there with it.
        if first.version != Version::FIRST || check_link(Chain::genesis(&first.stream), first).is_ok() {
            return Ok(());
        }
        let mut tombstone = None;
        let filter = Filter::stream(first.stream.clone());
        let mut batches = self.events.read_all(Position::ZERO, filter, Follow::ToEnd);
        'before: while let Some(batch) = batches.try_next().await? {
            for event in batch.events {
                if event.position >= first.position {
                    break 'before;
                }
                if event.data.event_type.is_tombstone() {
                    tombstone = Some(event.chain);
                }
            }
            if batch.checked_to >= first.position {
                break;
            }
        }
        let genesis = tombstone.map(|tombstone| Chain::genesis_after(&first.stream, tombstone));
        if genesis.is_some_and(|genesis| check_link(genesis, first).is_ok()) {
            return Ok(());
        }
        // Erased meanwhile, and the older tombstone with it: what was read stood when it was read.
        let range = VersionRange::from(Version::FIRST).up_to(Some(Version::FIRST));
        let now: Vec<_> = self.events.read(&first.stream, range, Direction::Forward).try_concat().await?;
        match now.first() {
            Some(event) if event.chain == first.chain => Err(altered(first)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hundred_are_checked_and_one_in_64_after_them() {
        let mut sample = Sample::of_a_load();
        assert!((0..ALL_OF).all(|_| sample.draws()));
        let drawn = (0..640_000).filter(|_| sample.draws()).count();
        assert!((9_500..10_500).contains(&drawn), "{drawn}");
        let mut all = Sample::all();
        assert!((0..10_000).all(|_| all.draws()));
    }
}
