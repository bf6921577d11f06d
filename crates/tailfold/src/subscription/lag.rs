//! How far a read model is behind.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use metrics::{Key, Label};
use serde::Serialize;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::event::Position;
use crate::filter::Filter;
use crate::meter;
use crate::store::{EventStore, Follow};

/// How far a read model is behind what is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lag {
    /// Events that match and are still to be handled.
    pub events: u64,
    /// Age of the oldest of them; zero if there is none.
    pub age: Duration,
}

impl Lag {
    pub(super) async fn of(
        store: &dyn EventStore,
        filter: &Filter,
        after: Position,
        now: Timestamp,
    ) -> Result<Self> {
        let mut batches = store.read_all(after, filter.clone(), Follow::ToEnd);
        let (mut events, mut oldest) = (0, None);
        while let Some(batch) = batches.try_next().await? {
            events += batch.events.len() as u64;
            oldest = oldest.or_else(|| batch.events.first().map(|event| event.data.recorded_at));
        }
        Ok(Self { events, age: oldest.map_or(Duration::ZERO, |oldest| age(oldest, now)) })
    }

    pub(super) fn tell(&self, name: &str) {
        meter::set(&key("tailfold_subscription_lag_events", name), self.events as f64);
        meter::set(&key("tailfold_subscription_lag_seconds", name), self.age.as_secs_f64());
    }
}

/// How long ago a moment was; zero if it is yet to come.
pub(super) fn age(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(now.as_micros().saturating_sub(moment.as_micros())).unwrap_or(0))
}

pub(super) fn key(metric: &'static str, name: &str) -> Key {
    meter::key(metric, [Label::new("subscription", name.to_owned())])
}
