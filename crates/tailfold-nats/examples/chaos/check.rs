//! Compares what the store holds in the end with what it promised.

use std::collections::{BTreeMap, HashMap, HashSet};

use tailfold::{
    Chain, EventStoreExt as _, Filter, Fold as _, Policy, Position, Repository, Result, SlotFilter, StreamId,
    Version, verify_snapshots,
};
use tailfold_nats::NatsConfig;
use tailfold_testkit::verify_chain;

use crate::actor::{Step, Trace, step};
use crate::live::LiveReader;
use crate::truth::{Fate, Operation, Stretch, Truth};

/// A stream as the log has it.
#[derive(Default)]
struct Replayed {
    state: Trace,
    /// Chain and digest of the state at each version, from 1.
    at: Vec<(Chain, u64)>,
}

/// Where the log has an event of an operation.
struct Found {
    stream: StreamId,
    version: Version,
    index: u64,
    chain: Chain,
}

pub(crate) async fn check(config: NatsConfig, truth: &Truth, followers: Vec<LiveReader>) -> Result<()> {
    let store = config.connect().await?;
    let log = store.read_all_to_vec(Position::ZERO, Filter::all()).await?;
    let mut streams: BTreeMap<StreamId, Replayed> = BTreeMap::new();
    let mut found: HashMap<u64, Vec<Found>> = HashMap::new();
    let mut ids = HashSet::new();
    for event in &log {
        let place = format!("{} version {}", event.stream, event.version);
        if !ids.insert(event.data.id) {
            truth.violation(format!("event {} stands twice, again at {place}", event.data.id));
        }
        let taken = match step(event) {
            Ok(step) => step,
            Err(error) => {
                truth.violation(format!("{place}: {error}"));
                continue;
            }
        };
        let Step::Taken { operation, index, .. } = taken;
        let replayed = streams.entry(event.stream.clone()).or_default();
        if event.version.0 != replayed.at.len() as u64 + 1 {
            truth.violation(format!("{place}: comes after version {}", replayed.at.len()));
        }
        replayed.state.apply(taken, &event.meta());
        replayed.at.push((event.chain, replayed.state.digest));
        let (stream, version, chain) = (event.stream.clone(), event.version, event.chain);
        found.entry(operation).or_default().push(Found { stream, version, index, chain });
    }

    let operations = truth.operations();
    for (number, operation) in &operations {
        let found = found.get(number).map(Vec::as_slice).unwrap_or_default();
        if let Some(wrong) = wrong_about(operation, found) {
            truth.violation(format!("{} {number}, {}: {wrong}", operation.by, operation.fate));
        }
    }
    if let Some(number) = found.keys().find(|number| !operations.contains_key(number)) {
        truth.violation(format!("nobody began operation {number}"));
    }
    truth.checked(format!(
        "{:>10}  operations compared with the log of {} events",
        operations.len(),
        log.len()
    ));

    let sightings = truth.sightings();
    for ((stream, version), seen) in &sightings {
        let there = streams.get(stream).and_then(|replayed| replayed.at.get(version.0 as usize - 1));
        if !there.is_some_and(|(chain, digest)| {
            *chain == seen.chain && seen.digest.is_none_or(|seen| seen == *digest)
        }) {
            truth.violation(format!("{stream} was seen at {version} as {seen:?}; the log has {there:?}"));
        }
    }
    truth.checked(format!("{:>10}  heads and states that were seen compared with replay", sightings.len()));

    let verified = verify_chain(&store).await;
    match verified {
        Ok(verified) if verified.events == log.len() as u64 && verified.streams == streams.len() as u64 => {
            truth.checked(format!("{:>10}  streams whose chains verify", verified.streams));
        }
        Ok(verified) => truth.violation(format!("chains of {verified:?}, {} events", log.len())),
        Err(error) => truth.violation(error.to_string()),
    }

    let accounts = Repository::<Trace>::builder(store.clone()).snapshots(Policy::never()).build()?;
    for (stream, replayed) in &streams {
        let (loaded, plain) =
            (accounts.load(stream.id()).await?, accounts.load(stream.id()).without_snapshots().await?);
        if loaded.state() != &replayed.state
            || plain.state() != &replayed.state
            || loaded.head() != plain.head()
        {
            truth.violation(format!("{stream}: {loaded:?}, {plain:?}, {:?} differ", replayed.state));
        }
    }
    let snapshots = verify_snapshots(&store, &store, SlotFilter::default(), |_| {}).await?;
    if snapshots.wrong == 0 {
        truth.checked(format!("{:>10}  snapshots stand for their streams", snapshots.snapshots));
    }
    for wrong in &snapshots.rejected {
        truth.violation(format!("snapshot: {wrong:?}"));
    }

    let log: Vec<_> = log.iter().map(|event| (event.position, event.data.id)).collect();
    for (number, follower) in followers.into_iter().enumerate() {
        let seen = follower.finish(log.len()).await;
        if seen == log {
            truth.checked(format!(
                "{:>10}  events seen by live reader {number}, each once and in order",
                seen.len()
            ));
            continue;
        }
        let same = seen.iter().zip(&log).take_while(|(seen, there)| seen == there).count();
        truth.violation(format!(
            "live reader {number} has seen {} events, the log has {}; they differ from {:?} ({:?} in the log) on",
            seen.len(),
            log.len(),
            seen.get(same),
            log.get(same)
        ));
    }
    Ok(())
}

/// What is wrong with an operation, given its events in the log in the order of the log.
fn wrong_about(operation: &Operation, found: &[Found]) -> Option<String> {
    let mut stretches = Vec::new();
    for (stream, count) in &operation.writes {
        let here: Vec<&Found> = found.iter().filter(|found| found.stream == *stream).collect();
        let whole = here.len() as u64 == *count
            && here.iter().zip(0..).all(|(found, index)| found.index == index)
            && here.windows(2).all(|pair| match pair {
                [one, next] => one.version.next() == next.version,
                _ => true,
            });
        if let (true, Some(first), Some(last)) = (whole, here.first(), here.last()) {
            let head = tailfold::Head { version: last.version, chain: last.chain };
            stretches.push(Stretch { stream: stream.clone(), first: first.version, head });
        }
    }
    let whole = stretches.len() == operation.writes.len()
        && found.len() as u64 == operation.writes.iter().map(|(_, count)| count).sum::<u64>();
    let places = || {
        let places = found.iter().map(|found| format!("{} {} #{}", found.stream, found.version, found.index));
        places.collect::<Vec<_>>().join(", ")
    };
    match &operation.fate {
        Fate::Acknowledged(_) if !whole => Some(format!("the log has [{}]", places())),
        Fate::Acknowledged(told) if *told != stretches => Some(format!("the log has it at [{}]", places())),
        Fate::Refused(_) if !found.is_empty() => Some(format!("the log has [{}]", places())),
        Fate::Unknown if !whole && !found.is_empty() => {
            Some(format!("the log has a part of it: [{}]", places()))
        }
        _ => None,
    }
}
