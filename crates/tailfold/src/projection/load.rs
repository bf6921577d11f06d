//! Loading a projection: the newest snapshot that can be trusted, and the matching events after it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::TryStreamExt as _;
use tracing::Instrument as _;

use super::anchor::Anchors;
use super::baseline::Wanted;
use super::replay::{Applied, LogReplay};
use super::tail::LogTail;
use super::{Projected, Projection, ProjectionKey, cursor};
use crate::encryption::{Attempts, StateOf};
use crate::error::{Error, Result};
use crate::event::Position;
use crate::filter::Filter;
use crate::load::walk;
use crate::report::{Report, Source};
use crate::repository::{Inner, Repository, SnapshotSide};
use crate::schema::Events as _;
use crate::snapshot::Rejection;
use crate::store::{EventStore as _, Follow};
use crate::stream::Version;

/// The load of a projection, to be refined and awaited; see [`Repository::load`].
///
/// That events are what was recorded is checked, by their chains, where the load reads the event before them
/// in their stream as well: of one in 64 or fewer, chosen at random, the successor if it comes within 1,024 events. [`verify_chains`](crate::verify_chains) checks all.
#[must_use = "a load does nothing until it is awaited"]
pub struct LoadProjection<P: Projection> {
    repository: Repository<P>,
    key: P::Key,
    options: Options,
}

/// How far a long load has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The log was looked at up to here.
    pub position: Position,
    /// Events folded.
    pub events: u64,
}

#[derive(Clone, Default)]
pub(super) struct Options {
    pub(super) at: Option<Position>,
    without_snapshots: bool,
    lenient: bool,
    keep_now: bool,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl<P: Projection> LoadProjection<P> {
    pub(crate) fn new(repository: Repository<P>, key: P::Key) -> Self {
        Self { repository, key, options: Options::default() }
    }

    /// The state after everything up to a position, and nothing after it. Of streams that were erased or cut off since, what is
    /// left counts: where there are any, every matching event is replayed.
    pub fn at(mut self, position: Position) -> Self {
        self.options.at = Some(position);
        self
    }

    /// Replays every matching event; neither reads nor takes a snapshot.
    pub fn without_snapshots(mut self) -> Self {
        self.options.without_snapshots = true;
        self
    }

    /// Leaves out events that cannot be decoded and lists them in the report, instead of failing. Replays every matching event,
    /// and the state is never kept in a snapshot.
    pub fn skip_malformed(mut self) -> Self {
        self.options.lenient = true;
        self.options.without_snapshots = true;
        self
    }

    /// Is told how far the load has come, after each batch.
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.options.progress = Some(Arc::new(progress));
        self
    }

    /// Keeps a snapshot at the end, whatever the policy says, and waits until it is written: how the state of a new serial is
    /// built beside the running one, before a release that needs it takes over. A load that is interrupted goes on from its last
    /// checkpoint when it is repeated.
    ///
    /// The load fails with `Invalid` if snapshots are off.
    pub fn prewarm(mut self) -> Self {
        self.options.keep_now = true;
        self
    }
}

impl<P: Projection> IntoFuture for LoadProjection<P> {
    type Output = Result<Projected<P>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { repository, key, options } = self;
            repository.inner.load_projection(&key, &options).await
        })
    }
}

/// How a fold of the log ended.
enum Folded {
    /// Everything up to there was looked at.
    UpTo(Position),
    /// The state that it began with is no longer any good.
    Outdated(Rejection),
}

/// One instance of a projection over one store.
pub(super) struct Instance {
    /// For messages.
    name: String,
    pub(super) filter: Filter,
    pub(super) anchors: Anchors,
    pub(super) key: String,
    pub(super) cursor_key: String,
}

impl Instance {
    pub(super) fn tail_from<P>(&self, inner: &Inner<P>, position: Version) -> LogTail {
        LogTail::from(&inner.events, &self.filter, &self.anchors, position)
    }

    /// Whose events the state is folded from.
    pub(super) fn state_of<P: Projection>(&self) -> StateOf<'_> {
        StateOf::projection(P::NAME, self.key.strip_prefix('*').unwrap_or_default())
    }

    pub(super) fn tail_after<P>(&self, inner: &Inner<P>, position: Position) -> LogTail {
        LogTail::after(&inner.events, &self.filter, &self.anchors, position)
    }
}

impl<P: Projection> Inner<P> {
    pub(super) async fn instance(&self, key: &P::Key) -> Result<Instance> {
        let filter = P::query(key)?.restricted_to(&P::Event::sources())?;
        let anchors = Anchors::of(self.events.store_id().await?, &filter)?;
        let text = key.text();
        let name = match &text {
            None => format!("projection `{}`", P::NAME),
            Some(text) => format!("projection `{}` of `{text}`", P::NAME),
        };
        let text = text.unwrap_or_default();
        if text.len() > 300 || text.chars().any(char::is_control) {
            return Err(Error::invalid("a projection's key is 1..=300 bytes without control characters"));
        }
        // No stream's name begins with these.
        Ok(Instance { name, filter, anchors, key: format!("*{text}"), cursor_key: format!("^{text}") })
    }

    async fn load_projection(&self, key: &P::Key, options: &Options) -> Result<Projected<P>> {
        let instance =
            self.instance(key).await.map_err(|error| error.during(format!("load `{}`", P::NAME)))?;
        let span = tracing::debug_span!("tailfold.load", fold = P::NAME, key = %instance.key);
        let loaded = self.load_instance(&instance, options, None).instrument(span).await;
        loaded.map_err(|error| error.during(format!("load {}", instance.name)))
    }

    /// `seen`: a state of this process to go on from, if it will do.
    pub(super) async fn load_instance(
        &self,
        instance: &Instance,
        options: &Options,
        seen: Option<Box<Projected<P>>>,
    ) -> Result<Projected<P>> {
        if options.keep_now && self.snapshots.is_none() {
            return Err(Error::invalid("snapshots are off"));
        }
        let side = self.snapshots.as_ref().filter(|_| !options.without_snapshots);
        let state_of = instance.state_of::<P>();
        let mut attempts = Attempts::default();
        let mut seen = seen;
        let (replay, position, mut report) = loop {
            let keys = self.forgotten_keys(&state_of)?;
            let folded = Box::pin(self.fold_instance(instance, options, side, seen.take(), keys)).await?;
            if attempts.is_settled(&self.encryption, &state_of, folded.0.forgotten, &folded.0.trail)? {
                break folded;
            }
        };
        let head = replay.head(&instance.anchors);
        let LogReplay { state, trail, events, bytes, skipped, told, forgotten, .. } = *replay;
        (report.replayed_events, report.replayed_bytes, report.skipped) = (events, bytes, skipped);
        report.forgotten_events = forgotten;
        self.counters.loaded(&report);
        tracing::debug!(source = %report.source, replayed = events, visited = report.visited_events, "loaded");
        let filter = instance.filter.clone();
        let mut loaded = Projected { state: Arc::new(state), filter, position, head, report, trail };
        if let Some(side) = side.filter(|_| options.at.is_none()) {
            self.keep(side, instance, &mut loaded, told).await;
        }
        if options.keep_now
            && let Some(side) = side
        {
            self.keep_now(side, instance, &mut loaded).await?;
        }
        Ok(loaded)
    }

    /// `forgotten_keys`: as many as there were before anything was read.
    async fn fold_instance(
        &self,
        instance: &Instance,
        options: &Options,
        side: Option<&SnapshotSide<P>>,
        seen: Option<Box<Projected<P>>>,
        forgotten_keys: u64,
    ) -> Result<(Box<LogReplay<P>>, Position, Report)> {
        let started = Instant::now();
        let mut report = Report::new();
        let in_memory = match seen {
            Some(seen) => self.log_from_memory(instance, *seen, forgotten_keys).await?,
            None => None,
        };
        let (mut replay, mut tail) = match (in_memory, side) {
            (Some((replay, tail)), _) => {
                report.source = Source::Memory(Version(replay.position().0));
                (replay, tail)
            }
            (None, Some(side)) => {
                self.log_baseline(side, instance, options, forgotten_keys, &mut report).await?
            }
            (None, None) => self.log_start(instance, forgotten_keys),
        };
        replay.lenient = options.lenient;
        let replaying = Instant::now();
        report.snapshot_time = replaying.duration_since(started);
        let mut folded = self.fold_log(instance, &mut replay, &mut tail, options, side).await?;
        if let Folded::Outdated(reason) = folded {
            // Events were removed that the state may have folded.
            if let Source::Snapshot(version) = report.source {
                let name = report.tier.clone().unwrap_or_else(|| "own".into());
                report.reject(&name, Some(version), reason);
            }
            (report.source, report.tier) = (Source::Replay, None);
            // What a load of the past is not served with may be right for the present.
            if let Some(side) = side.filter(|_| options.at.is_none()) {
                side.forget_slot(&instance.key).await;
            }
            let visited = tail.visited;
            (replay, tail) = self.log_start(instance, forgotten_keys);
            replay.lenient = options.lenient;
            tail.visited = visited;
            folded = self.fold_log(instance, &mut replay, &mut tail, options, side).await?;
        }
        let Folded::UpTo(position) = folded else {
            return Err(Error::corrupt("a replay from the start met what it had folded"));
        };
        report.replay_time = replaying.elapsed();
        report.visited_events = tail.visited;
        Ok((replay, position, report))
    }

    fn log_start(&self, instance: &Instance, forgotten_keys: u64) -> (Box<LogReplay<P>>, LogTail) {
        (Box::new(LogReplay::from_start(forgotten_keys)), instance.tail_after(self, Position::ZERO))
    }

    async fn log_baseline(
        &self,
        side: &SnapshotSide<P>,
        instance: &Instance,
        options: &Options,
        forgotten_keys: u64,
        report: &mut Report,
    ) -> Result<(Box<LogReplay<P>>, LogTail)> {
        let slot = side.sealer.slot_of(&instance.key);
        let wanted = Wanted { inner: self, side, instance, slot, options, forgotten_keys };
        let cursor = Box::pin(async {
            match options.at {
                None => self.cursor(side, instance).await,
                Some(_) => None,
            }
        });
        let (found, cursor) = futures_util::future::join(walk::nearest(side, &wanted, report), cursor).await;
        let (replay, tail) = found?.served.unwrap_or_else(|| self.log_start(instance, forgotten_keys));
        if report.has_rejected(Rejection::Forgotten) {
            side.remove_outdated(&wanted.slot, forgotten_keys).await;
        }
        Ok((replay, tail.with_cursor(cursor)))
    }

    /// Folds everything to the end, or to where it was asked for.
    async fn fold_log(
        &self,
        instance: &Instance,
        replay: &mut LogReplay<P>,
        tail: &mut LogTail,
        options: &Options,
        side: Option<&SnapshotSide<P>>,
    ) -> Result<Folded> {
        let checkpoints = side.filter(|side| options.at.is_none() && !side.policy.is_never());
        let began_at = replay.position();
        let mut reached = began_at;
        let mut kept = 0;
        while let Some(batch) = tail.next().await? {
            for event in &batch.events {
                if let Some(at) = options.at.filter(|at| event.position > *at) {
                    return self.fold_ends_at(instance, replay, at).await;
                }
                // The anchor was folded before the snapshot was taken.
                if event.position <= began_at {
                    continue;
                }
                match replay.apply(event, self.encryption.as_deref())? {
                    Applied::Folded => {}
                    Applied::Outdated(reason) => return Ok(Folded::Outdated(reason)),
                }
            }
            if tail.has_jumped() && replay.events > 0 {
                replay.resume();
            }
            reached = reached.max(batch.checked_to);
            if let Some(progress) = &options.progress {
                progress(Progress { position: reached, events: replay.events });
            }
            if let Some(side) = checkpoints
                && replay.events - kept >= side.config.checkpoint_events
                && replay.trail.exact
                && let Some(head) = replay.head(&instance.anchors)
            {
                kept = replay.events;
                let slot = side.sealer.slot_of(&instance.key);
                side.writer.offer(slot, Arc::new(replay.state.clone()), head, &replay.trail);
            }
        }
        match options.at {
            // Nothing matches after it.
            Some(at) => Ok(Folded::UpTo(at)),
            None => Ok(Folded::UpTo(reached)),
        }
    }

    /// A state that was there before may hold what was removed after the position that was asked for; a replay does not.
    async fn fold_ends_at(&self, instance: &Instance, replay: &LogReplay<P>, at: Position) -> Result<Folded> {
        if replay.is_resumed() {
            let removals = instance.filter.clone().removals_only()?;
            let mut batches = self.events.read_all(at, removals, Follow::ToEnd);
            while let Some(batch) = batches.try_next().await? {
                if let Some(removal) = batch.events.first() {
                    return Ok(Folded::Outdated(match removal.data.event_type.is_tombstone() {
                        true => Rejection::Erased,
                        false => Rejection::Truncated,
                    }));
                }
            }
        }
        Ok(Folded::UpTo(at))
    }

    /// What a load leaves behind for the next one: a snapshot if one is due, and how far it has looked.
    async fn keep(&self, side: &SnapshotSide<P>, instance: &Instance, loaded: &mut Projected<P>, told: bool) {
        if let Some(head) = loaded.head
            && (told || side.is_due(&loaded.state, head, &loaded.trail))
        {
            let slot = side.sealer.slot_of(&instance.key);
            side.writer.offer(slot, loaded.state.clone(), head, &loaded.trail);
            loaded.trail.taken_at(head.version);
        }
        if loaded.report.visited_in_vain() >= cursor::AFTER_EVENTS && loaded.trail.exact {
            let noted = self.note_checked(side, instance, loaded.head, loaded.position).await;
            if let Err(error) = noted {
                tracing::debug!(%error, key = %instance.key, "cursor not written");
            }
        }
    }

    async fn keep_now(
        &self,
        side: &SnapshotSide<P>,
        instance: &Instance,
        loaded: &mut Projected<P>,
    ) -> Result<()> {
        let Some(head) = loaded.head else { return Ok(()) };
        side.writer.flush().await;
        let slot = side.sealer.slot_of(&instance.key);
        self.save_at(side, &slot, &loaded.state, head, &loaded.trail).await?;
        loaded.trail.taken_at(head.version);
        Ok(())
    }
}

impl<P: Projection> fmt::Debug for LoadProjection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadProjection")
            .field("projection", &P::NAME)
            .field("key", &self.key.text())
            .field("at", &self.options.at)
            .finish_non_exhaustive()
    }
}
