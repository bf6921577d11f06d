//! The repository: one fold over one store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::append::Append;
use crate::clock::{Clock, SystemClock};
use crate::codec::Codec;
use crate::encryption::{Encryption, StateOf};
use crate::error::{Error, Result};
use crate::execute::{Execute, Retry};
use crate::fingerprint::Shape;
use crate::fold::{Aggregate, Fold};
use crate::loaded::Loaded;
use crate::projection::Turns;
use crate::schema::{Event, Events as _, IntoEvents};
use crate::scope::LoadBy;
use crate::snapshot::{
    GuardedTier, Owner, Peer, Policy, Sealer, Serial, SnapshotConfig, SnapshotKeys, SnapshotMode,
    SnapshotStore, Snapshots, Tiers, Writer, peers_over,
};
use crate::stats::{Counters, Stats};
use crate::store::{EventStore, EventStoreExt as _, Removal, Removed, Store, VersionRange};
use crate::stream::{StreamId, Version};

/// Default of how long [`Repository::close`] waits.
const CLOSE_DEADLINE: Duration = Duration::from_secs(30);

/// Loads states of one fold, decides on them, appends events. Cheap to clone; clones share everything.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tailfold::{Event, EventMeta, Fold, MemoryStore, Policy, Repository, State};
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "account")]
/// enum AccountEvent {
///     Deposited { cents: i64 },
///     Withdrawn { cents: i64 },
/// }
///
/// #[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
/// #[state(name = "account")]
/// struct Account {
///     cents: i64,
/// }
///
/// impl Fold for Account {
///     type Event = AccountEvent;
///
///     fn apply(&mut self, event: AccountEvent, _meta: &EventMeta<'_>) {
///         match event {
///             AccountEvent::Deposited { cents } => self.cents += cents,
///             AccountEvent::Withdrawn { cents } => self.cents -= cents,
///         }
///     }
/// }
///
/// #[derive(Debug)]
/// struct Overdrawn;
///
/// impl Account {
///     fn withdraw(&self, cents: i64) -> Result<AccountEvent, Overdrawn> {
///         if cents > self.cents { Err(Overdrawn) } else { Ok(AccountEvent::Withdrawn { cents }) }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let accounts = Repository::<Account>::builder(MemoryStore::new()).snapshots(Policy::every(100)).build()?;
/// accounts.execute("1787", |_| Ok::<_, Overdrawn>(AccountEvent::Deposited { cents: 700 })).await?.expect("granted");
/// let receipt = accounts.execute("1787", |account| account.withdraw(500)).await?.expect("granted");
/// assert_eq!(receipt.state().cents, 200);
/// let refused = accounts.execute("1787", |account| account.withdraw(500)).await?;
/// assert!(matches!(refused, Err(Overdrawn)));
/// accounts.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct Repository<F> {
    pub(crate) inner: Arc<Inner<F>>,
}

pub(crate) struct Inner<F> {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) snapshots: Option<SnapshotSide<F>>,
    pub(crate) encryption: Option<Arc<dyn Encryption>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retry: Retry,
    pub(crate) counters: Arc<Counters>,
    /// Who decides on which projection.
    pub(crate) turns: Turns<F>,
}

/// What a repository with snapshots switched on has besides.
pub(crate) struct SnapshotSide<F> {
    /// Nearest first; at least one.
    pub(crate) tiers: Arc<[GuardedTier]>,
    pub(crate) policy: Policy<F>,
    pub(crate) config: SnapshotConfig,
    pub(crate) sealer: Arc<Sealer<F>>,
    pub(crate) writer: Arc<Writer<F>>,
    /// Kept for as long as the repository lives: see [`Owner`].
    _owner: Option<Arc<Owner>>,
}

/// Builds a [`Repository`].
pub struct RepositoryBuilder<F> {
    events: Arc<dyn EventStore>,
    own_snapshots: Option<Arc<dyn SnapshotStore>>,
    tiers: Option<Tiers>,
    snapshots: Option<Snapshots<F>>,
    encryption: Option<Arc<dyn Encryption>>,
    snapshot_keys: Option<Result<SnapshotKeys>>,
    clock: Arc<dyn Clock>,
    retry: Retry,
}

impl<F: Fold> Repository<F> {
    /// A repository over a store that keeps both events and snapshots. Snapshots are off until
    /// [`RepositoryBuilder::snapshots`] is called.
    pub fn builder(store: impl Store + 'static) -> RepositoryBuilder<F> {
        let store = Arc::new(store);
        RepositoryBuilder { own_snapshots: Some(store.clone()), ..Self::events_only(store) }
    }

    /// A repository over a store that keeps events only; snapshots need [`RepositoryBuilder::snapshots_in`].
    pub fn events_only(store: impl EventStore + 'static) -> RepositoryBuilder<F> {
        RepositoryBuilder {
            events: Arc::new(store),
            own_snapshots: None,
            tiers: None,
            snapshots: None,
            encryption: None,
            snapshot_keys: None,
            clock: Arc::new(SystemClock),
            retry: Retry::default(),
        }
    }

    /// Loads the current state: of an aggregate by the id of its actor, `load("1787")`, which gives a [`Load`]; of a
    /// [projection](crate::Projection) by its key, `load(())` where there is one, which gives a [`LoadProjection`]. Refine it
    /// before awaiting it: [`Load::at`], [`Load::as_of`], [`Load::without_snapshots`], [`Load::skip_malformed`].
    ///
    /// An empty stream loads as the default state without a head; so does a projection of nothing.
    ///
    /// # Errors
    /// `Invalid` for a bad id or key, `Codec` at an event that the fold does not know or that does not decode
    /// (with its position), `Corrupt` at a gap or an event that was altered, `Unavailable`. Never anything
    /// about snapshots.
    ///
    /// [`LoadProjection`]: crate::LoadProjection
    /// [`Load`]: crate::Load
    /// [`Load::at`]: crate::Load::at
    /// [`Load::as_of`]: crate::Load::as_of
    /// [`Load::without_snapshots`]: crate::Load::without_snapshots
    /// [`Load::skip_malformed`]: crate::Load::skip_malformed
    pub fn load<K>(&self, key: K) -> <F::Scope as LoadBy<F, K>>::Load
    where
        F::Scope: LoadBy<F, K>,
    {
        F::Scope::load(self, key)
    }

    /// What this repository has done since it was built, and what is stored for it. Lists the fold's snapshots in order
    /// to count them, in the farthest tier.
    ///
    /// # Errors
    /// That tier's.
    pub async fn stats(&self) -> Result<Stats> {
        let Some(side) = &self.inner.snapshots else {
            return Ok(self.inner.counters.stats("", 0, 0, 0));
        };
        let stored = side.count().await?;
        let queued = side.writer.waiting() as u64;
        let mut stats =
            self.inner.counters.stats(side.sealer.serial().as_str(), stored.snapshots, stored.bytes, queued);
        stats.tiers = side.tiers.iter().map(GuardedTier::stats).collect();
        Ok(stats)
    }

    /// The serial of the fold's snapshots; `None` if snapshots are off.
    pub fn serial(&self) -> Option<&Serial> {
        self.inner.snapshots.as_ref().map(|side| side.sealer.serial())
    }

    /// Waits until the snapshots that were due so far are written in all tiers, or failed and are counted.
    pub async fn flush(&self) {
        if let Some(side) = &self.inner.snapshots {
            side.writer.flush().await;
        }
    }

    /// Writes what is queued and takes no more snapshots; at most 30 seconds.
    ///
    /// # Errors
    /// `Unavailable` if a tier did not take everything in time. The events are safe in any case.
    pub async fn close(&self) -> Result<()> {
        match &self.inner.snapshots {
            Some(side) => side.writer.close(CLOSE_DEADLINE).await,
            None => Ok(()),
        }
    }
}

impl<F: Aggregate> Repository<F> {
    /// Loads, decides, appends; on a conflict, again. See [`Execute`] for what can be set before awaiting it.
    ///
    /// The outer result is tailfold's, the inner one the decision's own. A decision that returns no events appends
    /// nothing. The closure may run several times, so it cannot change what it captures; it is never run again after an
    /// outcome that is unknown.
    ///
    /// # Errors
    /// As [`Repository::load`] and [`EventStore::append`]; `Conflict` only after the last retry.
    pub fn execute<'a, R, E>(
        &self,
        id: impl AsRef<str>,
        decide: impl Fn(&F) -> Result<R, E> + Send + 'a,
    ) -> Execute<'a, F, R, E>
    where
        R: IntoEvents<F::Event>,
    {
        Execute::new(self.clone(), self.stream(id.as_ref()), decide)
    }

    /// Appends events to what was loaded: the expected head comes from there. Give the loaded state away, not a clone of
    /// it, where performance counts: a state that nobody else holds is changed in place.
    ///
    /// # Errors
    /// `Conflict` with the actual head if somebody else was first; `Codec` if an event does not survive its codec;
    /// otherwise as [`EventStore::append`]. On every error but an unknown outcome nothing was written.
    pub fn append(&self, loaded: impl Into<Loaded<F>>, events: impl IntoEvents<F::Event>) -> Append<F> {
        Append::new(self.clone(), loaded.into(), events.into_events())
    }

    /// Keeps a snapshot of what was loaded, now, whatever the policy says. Of several tiers the farthest answers; the
    /// others get it in the background.
    ///
    /// # Errors
    /// `Invalid` if snapshots are off, the stream is empty, events were skipped, or the state exceeds the size limit;
    /// `Codec` if it cannot be encoded; or the store's error. Answers whether it was kept or a newer one was there.
    pub async fn save_snapshot(&self, loaded: &Loaded<F>) -> Result<crate::snapshot::Saved> {
        self.inner
            .save_now(loaded)
            .await
            .map_err(|error| error.during(format!("save snapshot of `{}`", loaded.stream)))
    }

    /// The newest snapshot of an actor that can be read and stands for its history, without the tail after it. Asks every
    /// tier.
    ///
    /// # Errors
    /// As [`Repository::load`]; `Invalid` if snapshots are off.
    pub async fn latest_snapshot(&self, id: impl AsRef<str>) -> Result<Option<crate::Snapshot<F>>> {
        let stream = self.stream(id.as_ref())?;
        let operation = format!("latest snapshot of `{stream}`");
        self.newest_snapshot(stream).await.map_err(|error| error.during(operation))
    }

    /// Erases an actor: its events and its snapshots, of every fold and serial, in the store of events and in every tier. A
    /// tombstone stays in the log. The next event begins another history.
    ///
    /// Snapshots of the actor that any repository of this process over the store is about to write, or has in a tier of its own,
    /// go as well. Another process may still be about to write one: it would never serve, and goes when it was not used for as
    /// long as is configured. Projections that have met the actor forget it with their next load, and keep until then what they
    /// have kept of it.
    ///
    /// On SQLite what was erased is in neither the file nor its log when this returns, see `SqliteStore`.
    ///
    /// # Errors
    /// `Unsupported` if the store cannot erase; `Unavailable`: where that is a tier, all the others have forgotten the actor
    /// all the same. Erasing again is safe and does what is left to do.
    pub async fn erase(&self, id: impl AsRef<str>) -> Result<Removed> {
        let stream = self.stream(id.as_ref())?;
        let operation = format!("erase `{stream}`");
        self.erase_everywhere(&stream).await.map_err(|error| error.during(operation))
    }

    async fn erase_everywhere(&self, stream: &StreamId) -> Result<Removed> {
        let events = &*self.inner.events;
        let mut writers = peers_over(events);
        if let Some(side) = &self.inner.snapshots {
            let own: Arc<dyn Peer> = side.writer.clone();
            if !writers.iter().any(|writer| Arc::ptr_eq(writer, &own)) {
                writers.push(own);
            }
        }
        // Before the events go: whatever is looked for from then on is not found.
        writers.iter().for_each(|writer| writer.doubt(stream));
        let mut removed = events.remove(stream, Removal::erase(self.inner.clock.now())).await?;
        let mut failed = None;
        for forgotten in join_all(writers.iter().map(|writer| writer.forget(stream))).await {
            match forgotten {
                Ok(snapshots) => removed.snapshots += snapshots,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    /// Cuts off the events of an actor before a version, which must be an origin (`#[event(origin)]`), and the snapshots below it. A
    /// marker in the log tells projections and remembers idempotency keys, see [`Removal::BeforeOrigin`].
    ///
    /// First the state that a fold from the origin alone gives is compared with that of the whole history: where they differ, loads
    /// would change their answers, and nothing is removed. That replays the stream up to the origin. It checks this fold: another fold
    /// over the same category must start from empty there, too; a projection is told.
    ///
    /// # Errors
    /// `Invalid` if the event at that version is no origin, or if the fold does not start from empty there; as
    /// [`Repository::load`]; `Unavailable`: truncating again is safe and does what is left to do.
    pub async fn truncate(&self, id: impl AsRef<str>, before: impl Into<Version>) -> Result<Removed> {
        let (stream, before) = (self.stream(id.as_ref())?, before.into());
        let operation = format!("truncate `{stream}` before version {before}");
        self.truncate_everywhere(&stream, before).await.map_err(|error| error.during(operation))
    }

    async fn truncate_everywhere(&self, stream: &StreamId, before: Version) -> Result<Removed> {
        self.check_origin(stream, before).await?;
        self.flush().await;
        let removal = Removal::before_origin(before, self.inner.clock.now());
        self.inner.events.remove(stream, removal).await
    }

    /// Whether what lies before an origin may go without changing the state.
    async fn check_origin(&self, stream: &StreamId, before: Version) -> Result<()> {
        let at = VersionRange::from(before).up_to(Some(before));
        let events = self.inner.events.read_to_vec(stream, at).await?;
        match events.first().filter(|event| event.version == before) {
            Some(event) if event.data.origin => {}
            Some(_) => return Err(Error::invalid("the event there is no origin: nothing before it can go")),
            None => return Err(Error::invalid("there is no event of that version")),
        }
        // At the origin, and not at the end: a later event may set what the origin leaves out, but a load of a version between
        // them would still answer otherwise. Where both are equal there, they are equal ever after.
        let from_origin = self.capture(stream.id(), before.0..=before.0).await?;
        let whole = self.capture(stream.id(), ..=before.0).await?;
        from_origin.state().compare(whole.state()).map_err(|difference| {
            Error::invalid(format!(
                "fold `{}` does not start from empty at its origin: at version {before}, `{difference}` is another than after \
                 the whole history. Let `apply` set the whole state where it meets that event, or truncate at another origin",
                F::NAME
            ))
        })
    }

    pub(crate) fn stream(&self, id: &str) -> Result<StreamId> {
        StreamId::new(F::Event::CATEGORY, id)
    }
}

impl<F> Inner<F> {
    /// How many keys were forgotten of those that may have sealed an event of a state.
    pub(crate) fn forgotten_keys(&self, state: &StateOf<'_>) -> Result<u64> {
        self.encryption.as_deref().map_or(Ok(0), |hook| hook.forgotten_keys(state))
    }
}

impl<F: Fold> RepositoryBuilder<F> {
    /// Switches snapshots on: a [`Policy`], a [`SnapshotConfig`], or both as a pair.
    #[must_use]
    pub fn snapshots(mut self, snapshots: impl Into<Snapshots<F>>) -> Self {
        self.snapshots = Some(snapshots.into());
        self
    }

    /// Keeps snapshots in another store than the events, or in several, nearest first; see [`Tier`]. Default: the store of
    /// events alone, [`Tier::own`].
    ///
    /// [`Tier`]: crate::Tier
    /// [`Tier::own`]: crate::Tier::own
    #[must_use]
    pub fn snapshots_in(mut self, tiers: impl Into<Tiers>) -> Self {
        self.tiers = Some(tiers.into());
        self
    }

    /// Seals payloads of events and snapshots. The same hook must be given to every repository and
    /// subscription of these streams. With a key for each person, it can forget one: see [`Encryption`].
    #[must_use]
    pub fn encryption(mut self, encryption: impl Encryption + 'static) -> Self {
        self.encryption = Some(Arc::new(encryption));
        self
    }

    /// Signs snapshots with a key, for tiers that others can write to. Default: none.
    ///
    /// Without a key, an envelope's checksum finds damage: whoever can write to a tier can make a snapshot
    /// with any state and the right checksum, and it is served. With keys, a snapshot is served only if a
    /// holder of one of them has written it: of this slot, at this head, with this state. What others have
    /// put there is rejected as [`Rejection::OtherKey`] and left alone, or as
    /// [`Rejection::Corrupt`] and removed. Cursors of projections are signed as well, checkpoints of [`ByPosition`] are not. Who can
    /// write to the store of events can change the history itself.
    ///
    /// The first key is written with, all of them (16 at most) are accepted. So keys are rotated in three
    /// steps, each of them rolled out everywhere before the next: accept the new key (`[old, new]`), write
    /// with it (`[new, old]`), and, when the old snapshots are replaced or may be replayed, forget the old
    /// one (`[new]`). Releases with and without keys do not use each other's snapshots and do not remove
    /// them; each costs the other replays until the roll-out is done. A key is 32 random bytes; the same for
    /// every repository that shares the tiers, and for no other purpose.
    ///
    /// [`ByPosition`]: crate::ByPosition
    /// [`Rejection::OtherKey`]: crate::Rejection::OtherKey
    /// [`Rejection::Corrupt`]: crate::Rejection::Corrupt
    #[must_use]
    pub fn snapshot_keys(mut self, keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        self.snapshot_keys = Some(SnapshotKeys::new(keys));
        self
    }

    /// Where recorded-at, created-at and the day of use come from. Default: [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How `execute` retries after conflicts.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Checks that everything fits together: with snapshots on, also that the codec keeps the default state, which is the one that
    /// every fold begins with. (A JSON state that begins with `f64::INFINITY` takes another codec, or an `Option`.)
    ///
    /// Two types of folds with one name, label and shape over one category would be served each other's snapshots: while a repository of the one
    /// lives in this process, none of the other is built over the same store. What is not noticed: two processes, and a store
    /// that cannot tell its [id](EventStore::store_id) without waiting, as all of tailfold's can.
    ///
    /// # Errors
    /// `Invalid` for a policy, configuration, name or label that breaks its rules, for a name, label and shape that another type
    /// has, and for a state that its codec cannot keep, with the reason as its cause; `Unsupported` for what the store cannot do,
    /// for a state whose shape its codec cannot keep (with the path of the field), and for JSON where `serde_json` is built with its feature `arbitrary_precision` (see [`Codec::JSON`]).
    pub fn build(self) -> Result<Repository<F>> {
        self.assemble().map_err(|error| error.during(format!("build the repository of fold `{}`", F::NAME)))
    }

    fn assemble(self) -> Result<Repository<F>> {
        F::Event::sources().iter().try_for_each(|source| crate::stream::check_category(source.category))?;
        F::Event::codecs().iter().try_for_each(Codec::check_build)?;
        let counters = Arc::new(Counters::new(F::NAME));
        let keys = self.snapshot_keys.transpose()?;
        let snapshots = match self.snapshots {
            None if keys.is_some() => {
                return Err(Error::invalid("`snapshot_keys` without `snapshots`: snapshots are off"));
            }
            None if self.tiers.is_some() => {
                return Err(Error::invalid("`snapshots_in` without `snapshots`: snapshots are off"));
            }
            None => None,
            Some(snapshots) => {
                snapshots.check()?;
                let Snapshots { policy, config } = snapshots;
                let own = self.own_snapshots.as_ref();
                if self.tiers.is_none() && own.is_none() {
                    return Err(Error::unsupported(
                        "the store keeps no snapshots: name one with `snapshots_in`",
                    ));
                }
                let tiers = self.tiers.unwrap_or_else(Tiers::own).guard(F::NAME, &config, own)?;
                if config.mode == SnapshotMode::Inline
                    && !(tiers.iter().any(GuardedTier::is_own) && self.events.capabilities().inline_snapshot)
                {
                    return Err(Error::unsupported(
                        "inline snapshots need a store that keeps them in the events' transaction, as one of the tiers",
                    ));
                }
                let codec = F::codec().unwrap_or_else(Codec::process_default);
                codec.check_build()?;
                if let Some(error) = Shape::unsupported_by::<F>(&codec) {
                    return Err(error);
                }
                let sealer =
                    Arc::new(Sealer::new(&config, codec, self.encryption.clone(), keys, self.clock.clone())?);
                sealer.check_default()?;
                let owner = Owner::of::<F>(&*self.events, sealer.serial())?;
                let writer = Writer::new(
                    tiers.clone(),
                    sealer.clone(),
                    config.clone(),
                    counters.clone(),
                    self.events.clone(),
                );
                Some(SnapshotSide { tiers, policy, config, sealer, writer, _owner: owner })
            }
        };
        let inner = Inner {
            events: self.events,
            snapshots,
            encryption: self.encryption,
            clock: self.clock,
            retry: self.retry,
            counters,
            turns: Turns::default(),
        };
        Ok(Repository { inner: Arc::new(inner) })
    }
}

impl<F> Clone for Repository<F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<F> fmt::Debug for Repository<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("events", &self.inner.events)
            .field("policy", &self.inner.snapshots.as_ref().map(|side| side.policy.to_string()))
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for RepositoryBuilder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryBuilder").field("events", &self.events).finish_non_exhaustive()
    }
}
