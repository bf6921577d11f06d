//! The dashboard beside an import: loaded when most of the file is recorded, and again after each of a few new events more.

use std::sync::Arc;
use std::time::Instant;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use tailfold::{Event as _, EventStore as _, Filter, Policy, Projected, Repository, Source, Store};

use super::aircraft::AircraftEvent;
use super::airport::AirportEvent;
use super::delays::DelaysByCarrier;
use super::flights::Input;
use super::import::Import;
use super::oracle::{count_events, dashboards};
use crate::error::{Error, Result};
use crate::tier::Tiers;

/// New events before each load but the first.
const STEPS: [u64; 3] = [1, 100, 10_000];

/// What came of loading the dashboard again and again.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    pub(crate) loads: Vec<Load>,
    pub(crate) carriers: u64,
    /// Steps were left out or shortened, and why.
    pub(crate) note: Option<&'static str>,
    pub(crate) differences: Vec<String>,
}

/// A load, and what must have come of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Events of the file that were recorded before it.
    recorded: u64,
    /// Those recorded since the load before; `None` of the first.
    pub(crate) new_events: Option<u64>,
    pub(crate) replayed_events: u64,
    /// `replay` or `snapshot`.
    pub(crate) source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    pub(crate) milliseconds: f64,
    /// Whether the state is that of the pass over the file's first events, as many as were recorded.
    pub(crate) equal: bool,
}

impl Load {
    /// Whether it began with the snapshot of the load before, and folded the new events and no other.
    pub(crate) fn is_exact(&self) -> bool {
        self.new_events == Some(self.replayed_events) && self.source != Source::Replay.as_str()
    }
}

impl Loads {
    pub(crate) fn equal(&self) -> u64 {
        self.loads.iter().filter(|load| load.equal).count() as u64
    }

    /// Loads after new events.
    pub(crate) fn tails(&self) -> u64 {
        self.loads.iter().filter(|load| load.new_events.is_some()).count() as u64
    }

    pub(crate) fn exact_tails(&self) -> u64 {
        self.loads.iter().filter(|load| load.is_exact()).count() as u64
    }
}

/// Records all of the file, and loads the dashboard on the way.
///
/// The policy takes a snapshot after every load that folded anything, and a flush waits until it is written: a load that comes before
/// that would begin with the snapshot before, and replay the events of two steps.
pub(crate) async fn record_and_load(
    store: &Arc<dyn Store>,
    tiers: &Tiers,
    input: &Input,
    import: &mut Import,
) -> Result<Loads> {
    let (there, all) = (events_there(store).await?, count(input).await?);
    let builder = Repository::<DelaysByCarrier>::builder(store.clone()).snapshots(Policy::every(1));
    let dashboard = builder.snapshots_in(tiers.chain()).build()?;
    let mut loads = Loads::default();
    let (mut steps, note) = steps(all.saturating_sub(there));
    loads.note = note;
    let mut recorded = all - steps.iter().sum::<u64>();
    import.record(recorded).await?;
    if import.found() != there && !steps.is_empty() {
        // An import that was interrupted: its lanes had not come equally far.
        loads.note = Some("the store holds more than the beginning of the file: loaded once, at the end");
        recorded = all;
        steps.clear();
    }
    if steps.is_empty() {
        import.record(u64::MAX).await?;
    }
    let mut states = Vec::new();
    for new in std::iter::once(None).chain(steps.into_iter().map(Some)) {
        if let Some(new) = new {
            import.record(new).await?;
            recorded += new;
        }
        let started = Instant::now();
        let loaded = dashboard.load(()).await?;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        dashboard.flush().await;
        loads.loads.push(load(&loaded, recorded, new, milliseconds));
        states.push(loaded);
    }
    // A row that could not be counted is told now.
    import.record(u64::MAX).await?;
    dashboard.close().await?;
    compare(input, &mut loads, &states).await?;
    Ok(loads)
}

fn load(
    loaded: &Projected<DelaysByCarrier>,
    recorded: u64,
    new_events: Option<u64>,
    milliseconds: f64,
) -> Load {
    let report = loaded.report();
    Load {
        recorded,
        new_events,
        replayed_events: report.replayed_events,
        source: report.source.as_str(),
        tier: report.tier.as_deref().map(str::to_owned),
        milliseconds,
        equal: false,
    }
}

/// How many new events there are to be before each load, of so many that are not recorded yet.
fn steps(new: u64) -> (Vec<u64>, Option<&'static str>) {
    if new == 0 {
        return (Vec::new(), Some("all events were there already: loaded once"));
    }
    // A quarter each at most, so that there is something to begin with.
    let steps: Vec<_> = STEPS.map(|step| step.min(new / 4)).into_iter().filter(|step| *step > 0).collect();
    let note = (steps != STEPS).then_some("no more than a quarter of the new events at a time");
    (steps, note)
}

async fn compare(input: &Input, loads: &mut Loads, states: &[Projected<DelaysByCarrier>]) -> Result<()> {
    let (input, ends) = (input.clone(), loads.loads.iter().map(|load| load.recorded).collect::<Vec<_>>());
    let right = tokio::task::spawn_blocking(move || dashboards(&input, &ends))
        .await
        .map_err(|error| Error::Refused(format!("sum up the dashboard: {error}")))??;
    for ((load, loaded), right) in loads.loads.iter_mut().zip(states).zip(&right) {
        load.equal = loaded.state() == right;
        if !load.equal {
            loads.differences.push(format!(
                "dashboard after {} events, position {}: {:?}, but the file says {right:?}",
                load.recorded,
                loaded.position(),
                loaded.state()
            ));
        } else if load.new_events.is_some() && !load.is_exact() {
            loads.differences.push(format!(
                "dashboard after {} events, position {}: replayed {} by {}, but {} were new",
                load.recorded,
                loaded.position(),
                load.replayed_events,
                load.source,
                load.new_events.unwrap_or_default()
            ));
        }
    }
    loads.carriers = right.last().map_or(0, |dashboard| dashboard.carriers.len() as u64);
    Ok(())
}

/// Events that a store holds of the demo's actors.
async fn events_there(store: &Arc<dyn Store>) -> Result<u64> {
    let actors = Filter::category(AircraftEvent::CATEGORY).or(Filter::category(AirportEvent::CATEGORY));
    let mut batches = store.streams(actors, None);
    let mut events = 0;
    while let Some(batch) = batches.try_next().await? {
        events += batch.iter().map(|summary| summary.head.version.0).sum::<u64>();
    }
    Ok(events)
}

async fn count(input: &Input) -> Result<u64> {
    let input = input.clone();
    tokio::task::spawn_blocking(move || count_events(&input))
        .await
        .map_err(|error| Error::Refused(format!("count the flights: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fit_what_is_there() {
        let of = |new| steps(new).0;
        assert_eq!(of(160_737), [1, 100, 10_000]);
        assert_eq!(of(1_800), [1, 100, 450]);
        assert_eq!(of(38), [1, 9, 9]);
        assert_eq!(of(3), [0; 0]);
        assert_eq!(of(0), [0; 0]);
    }
}
