//! Loading: the newest snapshot that can be trusted, and the tail after it.

mod baseline;
pub(crate) mod walk;

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use tracing::Instrument as _;

use crate::clock::Timestamp;
use crate::encryption::{Attempts, StateOf};
use crate::error::{Error, Result};
use crate::event::RecordedEvent;
use crate::fold::{Aggregate, Fold};
use crate::loaded::{Loaded, Trail};
use crate::panics::caught;
use crate::replay::Replay;
use crate::report::Report;
use crate::repository::{Inner, Repository, SnapshotSide};
use crate::snapshot::Moment;
use crate::stats::Outcome;
use crate::store::{Direction, EventBatches, VersionRange};
use crate::stream::{Head, StreamId, Version};

/// A load, to be refined and awaited; see [`Repository::load`].
#[must_use = "a load does nothing until it is awaited"]
#[derive(Debug)]
pub struct Load<F> {
    repository: Repository<F>,
    stream: Result<StreamId>,
    options: Options,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) at: Option<Version>,
    pub(crate) as_of: Option<Timestamp>,
    pub(crate) without_snapshots: bool,
    pub(crate) lenient: bool,
}

impl Options {
    /// Whether the load is about the stream as it is now.
    pub(crate) fn is_current(&self) -> bool {
        self.at.is_none() && self.as_of.is_none()
    }
}

impl<F: Aggregate> Load<F> {
    pub(crate) fn new(repository: Repository<F>, stream: Result<StreamId>) -> Self {
        Self { repository, stream, options: Options::default() }
    }

    /// The state right after the event of that version; 0: before the first. `Invalid` if there is no such event, or it was
    /// truncated.
    pub fn at(mut self, version: impl Into<Version>) -> Self {
        self.options.at = Some(version.into());
        self
    }

    /// The state as it was known at a moment: the longest prefix with no event recorded after it. `Invalid` if that prefix ends
    /// before the first event that a truncation has left.
    pub fn as_of(mut self, time: Timestamp) -> Self {
        self.options.as_of = Some(time);
        self
    }

    /// Replays every event; neither reads nor takes a snapshot.
    ///
    /// That events are what was recorded is checked, by their chains, for one in 64 of those that a load folds,
    /// at random; [`Repository::capture`] and [`verify_chains`](crate::verify_chains) check all.
    pub fn without_snapshots(mut self) -> Self {
        self.options.without_snapshots = true;
        self
    }

    /// Leaves out events that cannot be decoded and lists them in the report, instead of failing. Replays every event,
    /// and the state is never kept in a snapshot.
    pub fn skip_malformed(mut self) -> Self {
        self.options.lenient = true;
        self.options.without_snapshots = true;
        self
    }
}

impl<F: Aggregate> IntoFuture for Load<F> {
    type Output = Result<Loaded<F>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.repository.inner.load(self.stream?, self.options).await })
    }
}

/// Events still to be folded.
pub(crate) struct Tail {
    first: std::vec::IntoIter<RecordedEvent>,
    rest: EventBatches,
}

impl Tail {
    fn of(rest: EventBatches) -> Self {
        Self { first: Vec::new().into_iter(), rest }
    }

    async fn next_batch(&mut self) -> Result<Option<std::vec::IntoIter<RecordedEvent>>> {
        if self.first.len() > 0 {
            return Ok(Some(std::mem::take(&mut self.first)));
        }
        self.rest.next().await.transpose().map(|batch| batch.map(Vec::into_iter))
    }

    /// What is left.
    pub(crate) fn into_events(self) -> EventBatches {
        let first = futures_util::stream::once(async move { Ok(self.first.collect()) });
        Box::pin(first.chain(self.rest))
    }

    /// The next event without taking it.
    async fn peek(&mut self) -> Result<Option<&RecordedEvent>> {
        while self.first.len() == 0 {
            match self.rest.next().await.transpose()? {
                Some(batch) => self.first = batch.into_iter(),
                None => return Ok(None),
            }
        }
        Ok(self.first.as_slice().first())
    }
}

impl<F: Aggregate> Inner<F> {
    pub(crate) async fn load(&self, stream: StreamId, options: Options) -> Result<Loaded<F>> {
        let span = tracing::debug_span!("tailfold.load", fold = F::NAME, %stream);
        let name = stream.clone();
        let loaded = self.load_stream(stream, options).instrument(span).await;
        loaded.map_err(|error| error.during(format!("load `{name}`")))
    }

    async fn load_stream(&self, stream: StreamId, options: Options) -> Result<Loaded<F>> {
        let side = self.snapshots.as_ref().filter(|_| !options.without_snapshots);
        let state_of = StateOf::Stream(stream.clone());
        let mut attempts = Attempts::default();
        let (replay, mut report) = loop {
            let (replay, report) = self.fold_stream(&stream, &options, side).await?;
            if attempts.is_settled(&self.encryption, &state_of, replay.forgotten, &replay.trail)? {
                break (replay, report);
            }
        };
        let Replay { state, head, trail, events, bytes, skipped, forgotten, .. } = *replay;
        if let Some(at) = options.at {
            let version = head.map_or(Version::ZERO, |head| head.version);
            if version < at && options.as_of.is_none() {
                return Err(self.no_version(&stream, at, version).await?);
            }
            // What was known at a moment may end before the version; that all of it was cut off is something else.
            if version == Version::ZERO
                && at > version
                && let Some(first) = self.cut_off(&stream, at).await?
            {
                return Err(truncated(at, first));
            }
        }
        report.replayed_events = events;
        report.replayed_bytes = bytes;
        report.skipped = skipped;
        report.forgotten_events = forgotten;
        self.counters.loaded(&report);
        tracing::debug!(source = %report.source, replayed = events, rejected = report.rejected.len(), "loaded");
        let mut loaded = Loaded { stream, state: Arc::new(state), head, report, trail };
        if let Some(side) = side.filter(|_| options.is_current()) {
            side.take_if_due(&mut loaded);
        }
        Ok(loaded)
    }

    async fn fold_stream(
        &self,
        stream: &StreamId,
        options: &Options,
        side: Option<&SnapshotSide<F>>,
    ) -> Result<(Box<Replay<F>>, Report)> {
        let started = Instant::now();
        let mut report = Report::new();
        let (mut replay, tail) = match side {
            Some(side) => self.baseline(side, stream, options, &mut report).await?,
            None => {
                let forgotten_keys = self.forgotten_keys(&StateOf::Stream(stream.clone()))?;
                (Box::new(Replay::from_start(forgotten_keys)), self.tail(stream, Version::ZERO, options))
            }
        };
        replay.lenient = options.lenient;
        let replaying = Instant::now();
        report.snapshot_time = replaying.duration_since(started);
        self.fold_tail(stream, &mut replay, tail, options, side).await?;
        report.replay_time = replaying.elapsed();
        Ok((replay, report))
    }

    /// Why a stream that was read up to `end` has no such version.
    pub(crate) async fn no_version(
        &self,
        stream: &StreamId,
        version: Version,
        end: Version,
    ) -> Result<Error> {
        Ok(match self.cut_off(stream, version).await? {
            Some(first) => truncated(version, first),
            None => Error::invalid(format!("there is no version {version}: the stream ends at {end}")),
        })
    }

    /// Where a stream starts, if a version was cut off.
    async fn cut_off(&self, stream: &StreamId, version: Version) -> Result<Option<Version>> {
        let mut batches = self.events.read(stream, VersionRange::ALL, Direction::Forward);
        let first = batches.next().await.transpose()?.and_then(|batch| batch.into_iter().next());
        Ok(first.map(|first| first.version).filter(|first| *first > version))
    }

    fn tail(&self, stream: &StreamId, from: Version, options: &Options) -> Tail {
        if options.at == Some(Version::ZERO) {
            return Tail::of(Box::pin(futures_util::stream::empty()));
        }
        let range = VersionRange::from(from).up_to(options.at);
        Tail::of(self.events.read(stream, range, Direction::Forward))
    }

    async fn fold_tail(
        &self,
        stream: &StreamId,
        replay: &mut Replay<F>,
        mut tail: Tail,
        options: &Options,
        side: Option<&SnapshotSide<F>>,
    ) -> Result<()> {
        let checkpoints = side.filter(|side| options.is_current() && !side.policy.is_never());
        let mut kept = 0;
        while let Some(batch) = tail.next_batch().await? {
            for event in batch {
                if let Some(time) = options.as_of.filter(|time| event.data.recorded_at > *time) {
                    return match replay.head {
                        None if event.version > Version::FIRST => Err(Error::invalid(format!(
                            "what was known at {time} was truncated: the stream starts at {}, which was recorded at {}",
                            event.version, event.data.recorded_at
                        ))),
                        _ => Ok(()),
                    };
                }
                if replay.head.is_none() && replay.sample.draws() {
                    self.check_first(&event).await?;
                }
                replay.apply(&event, self.encryption.as_deref())?;
            }
            if let Some(side) = checkpoints
                && replay.events - kept >= side.config.checkpoint_events
            {
                kept = replay.events;
                if let Some(head) = replay.head {
                    let slot = side.sealer.slot(stream);
                    side.writer.offer(slot, Arc::new(replay.state.clone()), head, &replay.trail);
                }
            }
        }
        Ok(())
    }
}

/// The error for a version that was cut off.
pub(crate) fn truncated(version: Version, first: Version) -> Error {
    Error::invalid(format!("version {version} was truncated: the stream starts at {first}"))
}

impl<F: Aggregate> SnapshotSide<F> {
    /// Hands a state to the background writer if the policy says so; the policy counts from there on.
    pub(crate) fn take_if_due(&self, loaded: &mut Loaded<F>) {
        if let Some(head) = self.due(loaded) {
            let slot = self.sealer.slot(&loaded.stream);
            self.writer.offer(slot, loaded.state.clone(), head, &loaded.trail);
            loaded.mark_taken(head.version);
        }
    }

    /// The head to take a snapshot at, if one is due.
    pub(crate) fn due(&self, loaded: &Loaded<F>) -> Option<Head> {
        let head = loaded.head?;
        self.is_due(&loaded.state, head, &loaded.trail).then_some(head)
    }
}

impl<F: Fold> SnapshotSide<F> {
    /// Whether the policy wants a snapshot of a state at that head. One that panics does not, and that is counted: the
    /// events that it is asked about are recorded already.
    pub(crate) fn is_due(&self, state: &F, head: Head, trail: &Trail) -> bool {
        let types = trail.kinds.after(trail.since);
        let Trail { since, events, bytes, .. } = *trail;
        let moment = Moment { state, head, since, events, bytes, types: &types };
        trail.exact && caught(|| self.policy.is_due(&moment)).unwrap_or_else(|panicked| {
            tracing::error!(fold = F::NAME, version = %head.version, %panicked, "policy: no snapshot taken");
            self.writer.dropped(Outcome::Failed);
            false
        })
    }
}

impl<F> Loaded<F> {
    pub(crate) fn mark_taken(&mut self, version: Version) {
        self.trail.taken_at(version);
    }
}
