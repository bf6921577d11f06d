//! Every actor loaded in two ways, both compared with the oracle.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use tailfold::{Aggregate, Loaded, Repository, Source};

use super::oracle::Expectation;
use crate::error::Result;
use crate::progress::Progress;

/// Most differences that are listed.
const MOST_LISTED: usize = 20;

/// What came of loading all actors of one kind.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) streams: u64,
    /// Streams whose state is right, loaded in both ways, at the right version.
    pub(crate) equal: u64,
    pub(crate) events: u64,
    pub(crate) replay: Way,
    pub(crate) snapshot: Way,
    /// Loads that a snapshot served, and the events that they replayed.
    pub(crate) served: u64,
    pub(crate) served_replayed: u64,
    /// Those of them whose snapshot came from another tier than the store of events.
    pub(crate) served_near: u64,
    pub(crate) rejected: u64,
    pub(crate) longest: Option<(String, u64)>,
    pub(crate) differences: Vec<String>,
}

/// Loads of one way, and how long they took together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Way {
    pub(crate) loads: u64,
    pub(crate) replayed_events: u64,
    #[serde(skip)]
    pub(crate) took: Duration,
}

impl Way {
    pub(crate) fn per_second(&self) -> f64 {
        if self.took.is_zero() { 0.0 } else { self.loads as f64 / self.took.as_secs_f64() }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            loads: self.loads + other.loads,
            replayed_events: self.replayed_events + other.replayed_events,
            took: self.took + other.took,
        }
    }

    async fn load<F: Aggregate>(&mut self, load: tailfold::Load<F>) -> Result<Loaded<F>> {
        let started = std::time::Instant::now();
        let loaded = load.await?;
        self.took += started.elapsed();
        self.loads += 1;
        self.replayed_events += loaded.report().replayed_events;
        Ok(loaded)
    }
}

pub(crate) async fn compare<F: Aggregate + PartialEq + Debug>(
    repository: &Repository<F>,
    expected: &BTreeMap<String, Expectation<F>>,
    progress: &Progress,
) -> Result<Comparison> {
    let mut seen = Comparison::default();
    for (id, right) in expected {
        let replayed = seen.replay.load(repository.load(id).without_snapshots()).await?;
        let loaded = seen.snapshot.load(repository.load(id)).await?;
        if let Source::Snapshot(_) = loaded.report().source {
            seen.served += 1;
            seen.served_replayed += loaded.report().replayed_events;
            seen.served_near += u64::from(loaded.report().tier.as_deref() != Some("own"));
        }
        seen.rejected += loaded.report().rejected.len() as u64;
        seen.streams += 1;
        seen.events += loaded.version().0;
        if seen.longest.as_ref().is_none_or(|(_, events)| loaded.version().0 > *events) {
            seen.longest = Some((loaded.stream().to_string(), loaded.version().0));
        }
        let ways = [("replay", &replayed), ("snapshot + tail", &loaded)];
        let wrong = ways
            .into_iter()
            .find(|(_, loaded)| *loaded.state() != right.state || loaded.version().0 != right.events);
        match wrong {
            None => seen.equal += 1,
            Some((way, loaded)) if seen.differences.len() < MOST_LISTED => {
                seen.differences.push(format!(
                    "{} by {way} at version {}: {:?}, but the file says {:?} after {} rows",
                    loaded.stream(),
                    loaded.version(),
                    loaded.state(),
                    right.state,
                    right.events
                ));
            }
            Some(_) => {}
        }
        progress.step();
    }
    Ok(seen)
}

/// Times of single loads, in both ways.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) replay: Vec<Duration>,
    pub(crate) snapshot: Vec<Duration>,
}

/// Loads each actor `rounds` times in both ways, in turn, so that both meet the same weather.
pub(crate) async fn time_loads<'a, F: Aggregate>(
    repository: &Repository<F>,
    ids: impl Iterator<Item = &'a String> + Clone,
    rounds: u32,
    progress: &Progress,
) -> Result<Times> {
    let mut times = Times::default();
    for _ in 0..rounds {
        for id in ids.clone() {
            let (mut replay, mut snapshot) = (Way::default(), Way::default());
            replay.load(repository.load(id).without_snapshots()).await?;
            snapshot.load(repository.load(id)).await?;
            times.replay.push(replay.took);
            times.snapshot.push(snapshot.took);
            progress.step();
        }
    }
    Ok(times)
}

/// The median, in microseconds; 0 of nothing.
pub(crate) fn median_us(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |index: usize| sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => at(n / 2),
        n => (at(n / 2 - 1) + at(n / 2)) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let us = Duration::from_micros;
        assert_eq!(median_us(&[]), 0.0);
        assert_eq!(median_us(&[us(3)]), 3.0);
        assert_eq!(median_us(&[us(9), us(1), us(3), us(5)]), 4.0);
    }
}
