//! Reading an actor's history as such: typed events, the state over a range, and what a reader has missed.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::altered::Sample;
use crate::clock::Timestamp;
use crate::encryption::{Attempts, StateOf};
use crate::error::{Error, Result};
use crate::event::RecordedEvent;
use crate::fold::Aggregate;
use crate::load::Options;
use crate::loaded::Loaded;
use crate::replay::{Replay, decode};
use crate::report::{Report, Source, Unreadable};
use crate::repository::Repository;
use crate::store::{Direction, EventStore as _, VersionRange};
use crate::stream::{Head, StreamId, Version};

/// An event of a history: as stored, and as a typed one where it can be read as such. An event whose key was
/// forgotten is there, with its time, type and metadata, and says so.
#[derive(Clone, Debug)]
pub struct HistoryEvent<E> {
    /// The event as stored, with its place.
    pub recorded: RecordedEvent,
    /// The typed event, upcast to its newest version; or what is wrong with it, and where it stands.
    pub event: Result<E, Unreadable>,
}

/// What a reader that stands before some version has missed.
#[derive(Debug)]
#[non_exhaustive]
pub struct CatchUp<F: Aggregate> {
    /// A state that takes the place of the reader's own; `None` where the reader keeps its own.
    pub base: Option<Loaded<F>>,
    /// The events to fold after that.
    pub events: Vec<HistoryEvent<F::Event>>,
    /// Where the reader stands afterwards.
    pub head: Option<Head>,
}

/// A snapshot as a typed value.
#[derive(Clone)]
#[non_exhaustive]
pub struct Snapshot<F> {
    /// The stream whose history it stands for.
    pub stream: StreamId,
    /// Where in that history.
    pub head: Head,
    /// The state there.
    pub state: Arc<F>,
    /// When it was taken, by the taker's clock.
    pub taken_at: Timestamp,
}

impl<F: Aggregate> Repository<F> {
    /// The events of an actor, oldest first: `history("1787", ..)`, `history("1787", 900..=1000)`. An event that cannot
    /// be read as a typed one is an item that says so, with its position; the rest is read all the same.
    pub fn history(
        &self,
        id: impl AsRef<str>,
        versions: impl RangeBounds<u64>,
    ) -> BoxStream<'static, Result<HistoryEvent<F::Event>>> {
        let stream = match self.stream(id.as_ref()) {
            Ok(stream) => stream,
            Err(error) => return futures_util::stream::once(async { Err(error) }).boxed(),
        };
        let Some(range) = version_range(versions) else {
            return futures_util::stream::empty().boxed();
        };
        let inner = self.inner.clone();
        let operation = format!("history of `{stream}`");
        inner
            .events
            .read(&stream, range, Direction::Forward)
            .map_err(move |error| error.during(&operation))
            .map_ok(move |batch| {
                let inner = inner.clone();
                let typed = batch.into_iter().map(move |recorded| {
                    let event = decode(&recorded, inner.encryption.as_deref())?;
                    Ok(HistoryEvent { recorded, event })
                });
                futures_util::stream::iter(typed)
            })
            .try_flatten()
            .boxed()
    }

    /// The state that results from folding a range of versions alone, from empty; ignores every snapshot, and
    /// checks the chain of every event but the first of a range that begins later. The oracle that every
    /// other way of loading must agree with.
    ///
    /// # Errors
    /// As [`Repository::load`]; `Invalid` if the range ends beyond the stream, or before its first event that a truncation has
    /// left, or begins with a version above 1 that was truncated.
    pub async fn capture(&self, id: impl AsRef<str>, versions: impl RangeBounds<u64>) -> Result<Loaded<F>> {
        let stream = self.stream(id.as_ref())?;
        let range = version_range(versions);
        let operation = format!("capture `{stream}`");
        self.fold_range(stream, range).await.map_err(|error| error.during(operation))
    }

    async fn fold_range(&self, stream: StreamId, range: Option<VersionRange>) -> Result<Loaded<F>> {
        let started = std::time::Instant::now();
        let state_of = StateOf::Stream(stream.clone());
        let mut attempts = Attempts::default();
        let mut replay = loop {
            let replay = self.replay_range(&stream, range, self.inner.forgotten_keys(&state_of)?).await?;
            if attempts.is_settled(&self.inner.encryption, &state_of, replay.forgotten, &replay.trail)? {
                break replay;
            }
        };
        // A state of a part of the history must never become a snapshot.
        replay.trail.exact = range.is_some_and(|range| range.from.0 <= 1);
        let mut report = Report::new();
        report.replayed_events = replay.events;
        report.replayed_bytes = replay.bytes;
        report.forgotten_events = replay.forgotten;
        report.replay_time = started.elapsed();
        let Replay { state, head, trail, .. } = replay;
        Ok(Loaded { stream, state: Arc::new(state), head, report, trail })
    }

    async fn replay_range(
        &self,
        stream: &StreamId,
        range: Option<VersionRange>,
        forgotten_keys: u64,
    ) -> Result<Replay<F>> {
        let mut replay = Replay::<F>::from_start(forgotten_keys);
        replay.sample = Sample::All;
        if let Some(range) = range {
            let mut batches = self.inner.events.read(stream, range, Direction::Forward);
            while let Some(batch) = batches.try_next().await? {
                for event in batch {
                    if replay.head.is_none() && range.from.0 > 1 {
                        replay.begin_at(&event, range.from)?;
                    } else if replay.head.is_none() {
                        self.inner.check_first(&event).await?;
                    }
                    replay.apply(&event, self.inner.encryption.as_deref())?;
                }
            }
            let end = replay.head.map_or(Version::ZERO, |head| head.version);
            if let Some(to) = range.to.filter(|to| end < *to) {
                return Err(self.inner.no_version(stream, to, end).await?);
            }
        }
        Ok(replay)
    }

    /// What a reader has missed that stands at version `from` - 1. The events from `from` on, if they are no more than a
    /// policy's interval apart from the head; else the newest snapshot as a new base and the events after it.
    ///
    /// With snapshots every 100 events and a head at 1000: from 900 gives the events 900..=1000, from 50 gives a base at
    /// 1000 and no events.
    ///
    /// # Errors
    /// As [`Repository::load`]; `Invalid` if `from` lies more than one beyond the head.
    pub async fn catch_up(&self, id: impl AsRef<str>, from: impl Into<Version>) -> Result<CatchUp<F>> {
        let stream = self.stream(id.as_ref())?;
        let operation = format!("catch up on `{stream}`");
        self.missed(stream, from.into()).await.map_err(|error| error.during(operation))
    }

    async fn missed(&self, stream: StreamId, from: Version) -> Result<CatchUp<F>> {
        let inner = &self.inner;
        let from = from.max(Version::FIRST);
        let head = inner.events.head(&stream).await?;
        let end = head.map_or(Version::ZERO, |head| head.version);
        if from > end.next() {
            return Err(Error::invalid(format!(
                "version {from} lies beyond the stream, which ends at {end}"
            )));
        }
        let far = inner.snapshots.as_ref().filter(|side| {
            !side.policy.is_never() && end.since(from) > side.policy.interval().unwrap_or(DEFAULT_INTERVAL)
        });
        if let Some(side) = far {
            let mut report = Report::new();
            let (replay, tail) = inner.baseline(side, &stream, &Options::default(), &mut report).await?;
            if matches!(report.source, Source::Snapshot(version) if version >= from) {
                let Replay { state, head, trail, .. } = *replay;
                let events = collect(tail.into_events(), inner.encryption.as_deref()).await?;
                let end = events.last().map(|event| event.recorded.head()).or(head);
                let base = Loaded { stream, state: Arc::new(state), head, report, trail };
                return Ok(CatchUp { base: Some(base), events, head: end });
            }
        }
        let batches = inner.events.read(&stream, VersionRange::from(from), Direction::Forward);
        let events = collect(batches, inner.encryption.as_deref()).await?;
        if let Some(first) = events.first().filter(|event| event.recorded.version > from) {
            return Err(crate::load::truncated(from, first.recorded.version));
        }
        let head = events.last().map(|event| event.recorded.head()).or(head);
        Ok(CatchUp { base: None, events, head })
    }

    pub(crate) async fn newest_snapshot(&self, stream: StreamId) -> Result<Option<Snapshot<F>>> {
        let side = self.inner.snapshots.as_ref().ok_or_else(|| Error::invalid("snapshots are off"))?;
        let Some(newest) = self.inner.newest_of_all(side, &stream).await? else { return Ok(None) };
        let Replay { state, head, taken_at, .. } = *newest;
        Ok(head.zip(taken_at).map(|(head, taken_at)| Snapshot {
            stream,
            head,
            state: Arc::new(state),
            taken_at,
        }))
    }
}

/// Where a policy counts no events.
const DEFAULT_INTERVAL: u64 = 100;

async fn collect<E: crate::schema::Event>(
    mut batches: BoxStream<'static, Result<Vec<RecordedEvent>>>,
    encryption: Option<&dyn crate::encryption::Encryption>,
) -> Result<Vec<HistoryEvent<E>>> {
    let mut events = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        for recorded in batch {
            let event = decode(&recorded, encryption)?;
            events.push(HistoryEvent { recorded, event });
        }
    }
    Ok(events)
}

/// `None` for a range that holds nothing.
fn version_range(versions: impl RangeBounds<u64>) -> Option<VersionRange> {
    let from = match versions.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let to = match versions.end_bound() {
        Bound::Included(to) => Some(*to),
        Bound::Excluded(after) => Some(after.checked_sub(1)?),
        Bound::Unbounded => None,
    };
    if to.is_some_and(|to| to < from || to == 0) {
        return None;
    }
    Some(VersionRange { from: Version(from), to: to.map(Version) })
}

impl<F: fmt::Debug> fmt::Debug for Snapshot<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("stream", &self.stream)
            .field("head", &self.head)
            .field("state", &self.state)
            .field("taken_at", &self.taken_at)
            .finish()
    }
}
