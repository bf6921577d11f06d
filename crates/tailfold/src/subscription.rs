//! Live projections: a read model that follows the log, event by event, and says where it stands.

mod anchored;
mod by_position;
mod checkpoint;
mod hand_over;
mod lag;
mod put_aside;
mod read_model;
mod share;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::by_position::ByPosition;
pub use self::checkpoint::{Checkpoint, CheckpointInfo, HandledEvent};
pub use self::lag::Lag;
pub use self::read_model::{Batch, BoxError, Claim, Claimed, Delivery, HandleError, Parked, ReadModel};
use self::worker::{Settings, Standing, Worker};
use crate::clock::{Clock, SystemClock};
use crate::codec::Codec;
use crate::encryption::Encryption;
use crate::error::{Error, Outcome, Result};
use crate::event::{EventId, Position};
use crate::execute::Retry;
use crate::filter::Filter;
use crate::schema::Events as _;
use crate::store::{EventStore, Follow};
use crate::stream::StreamId;

/// Name of a subscription: what is kept of it is found by that.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    match (1..=64).contains(&name.len()) && name.bytes().all(good) {
        true => Ok(()),
        false => Err(Error::invalid_text(
            "name of a subscription",
            name,
            "must be 1..=64 ASCII letters, digits, `_`, `-` or `.`",
        )),
    }
}

/// A read model at work: everything that is recorded and matches is handed to it, in order, from where it stands on, and then as
/// it is recorded. Dropping it stops the work after the batch under way; [`Subscription::stop`] waits for that.
///
/// - **No gap, no duplicate**: events and checkpoint move in one transaction where the read model's store has such
///   (`tailfold-sqlite`, `tailfold-postgres`); with [`ByPosition`], what was under way when a process ended comes again.
/// - **Several processes** may run the same subscription: one works, the others wait for its lease to end.
/// - **Events that cannot be handled**, or whose handler panics, are parked after some minutes of retries, by name, with position
///   and error, and the rest goes on ([`SubscriptionBuilder::retry`]). [`Subscription::wait_for`] says so. They are listed, tried
///   again and dropped by [`Subscription::parked`], [`Subscription::retry_parked`] and [`Subscription::drop_parked`], and their
///   likes for read models in tables.
/// - **Read your writes**: [`Subscription::wait_for`] the position of a receipt.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::sync::Arc;
///
/// use serde::{Deserialize, Serialize};
/// use tailfold::{ByPosition, Delivery, Event, EventMeta, Fold, MemoryStore, Repository, State, Subscription};
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "account")]
/// enum AccountEvent {
///     Deposited { cents: u64 },
/// }
///
/// # #[derive(Clone, Default, Serialize, Deserialize, State)]
/// # #[state(name = "account")]
/// # struct Account {}
/// # impl Fold for Account {
/// #     type Event = AccountEvent;
/// #     fn apply(&mut self, _: AccountEvent, _: &EventMeta<'_>) {}
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let total = Arc::new(AtomicU64::new(0));
/// let model = ByPosition::new(store.clone(), "total", {
///     let total = total.clone();
///     move |delivery: &Delivery<AccountEvent>| {
///         if let Some(AccountEvent::Deposited { cents }) = delivery.event() {
///             total.fetch_add(*cents, Ordering::Relaxed);
///         }
///         Ok(())
///     }
/// })?;
/// let subscription = Subscription::builder(store.clone(), "total", model).start()?;
///
/// let accounts = Repository::<Account>::builder(store).build()?;
/// let receipt = accounts.execute("1787", |_| Ok::<_, String>(AccountEvent::Deposited { cents: 700 })).await??;
/// subscription.wait_for(receipt.position()).await?;
/// assert_eq!(total.load(Ordering::Relaxed), 700);
/// subscription.stop().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a subscription stops when it is dropped"]
pub struct Subscription {
    name: Arc<str>,
    events: Arc<dyn EventStore>,
    filter: Filter,
    clock: Arc<dyn Clock>,
    standing: watch::Receiver<Standing>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Builds a [`Subscription`].
pub struct SubscriptionBuilder<M> {
    events: Arc<dyn EventStore>,
    name: String,
    model: M,
    filter: Filter,
    settings: Settings,
    encryption: Option<Arc<dyn Encryption>>,
    clock: Arc<dyn Clock>,
}

impl Subscription {
    /// A subscription of that name: 1..=64 ASCII letters, digits, `_`, `-` or `.`. Its read model keeps its checkpoint under it.
    pub fn builder<M: ReadModel>(
        events: impl EventStore + 'static,
        name: impl Into<String>,
        model: M,
    ) -> SubscriptionBuilder<M> {
        SubscriptionBuilder {
            events: Arc::new(events),
            name: name.into(),
            model,
            filter: Filter::all(),
            settings: Settings::default(),
            encryption: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// Returns once everything up to a position has been handled, by this process or the one that has the
    /// lease; of the latter it hears at most a third of a lease later. Takes what a receipt says: where nothing
    /// was recorded, there is nothing to wait for. An event that fails is waited for as long as it is tried
    /// again: see [`SubscriptionBuilder::retry`], and put a timeout around this where that is too long.
    ///
    /// # Errors
    /// What ended the subscription, if it has ended. `Invalid` if something is parked, and so not handled,
    /// without which the read model does not show what was written: the event at that position, one before it
    /// in its stream, or any up to there that was parked during the call. Of a commit to several streams, what
    /// was parked before the call is told of the last event's stream alone. What reading the log meets, where
    /// something is parked.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>) -> Result<()> {
        let Some(position) = position.into() else { return Ok(()) };
        let known = self.known_position();
        self.reached(position).await?;
        if let Some(error) = self.parked_since(known, position) {
            return Err(error);
        }
        // A read model that goes on in a stream without one of its events does not hold what the later ones build on.
        if self.standing.borrow().parked.range(..position).next().is_none() {
            return Ok(());
        }
        let Some(stream) = self.stream_at(position).await? else { return Ok(()) };
        let standing = self.standing.borrow();
        let mut before = standing.parked.range(..position).rev().map(|(_, parked)| parked);
        match before.find(|parked| parked.stream == stream) {
            Some(parked) => Err(self.not_handled(parked)),
            None => Ok(()),
        }
    }

    /// Returns once everything has been handled that was recorded before the call: for the switch from one read
    /// model to the one that was built beside it.
    ///
    /// # Errors
    /// What ended the subscription, if it has ended, and what reading the log meets. `Invalid` if anything up
    /// to there is parked, since whenever: all the rest is handled then. Of what was tried again or dropped
    /// since, this process hears at most a third of a lease later.
    pub async fn wait_until_current(&self) -> Result<()> {
        let mut last = self.position();
        let mut batches = self.events.read_all(last, self.filter.clone(), Follow::ToEnd);
        while let Some(batch) = futures_util::TryStreamExt::try_next(&mut batches).await? {
            last = batch.events.last().map_or(last, |event| event.position);
        }
        self.reached(last).await?;
        let standing = self.standing.borrow();
        match standing.parked.first_key_value().filter(|(at, _)| **at <= last) {
            Some((_, parked)) => Err(self.not_handled(parked)),
            None => Ok(()),
        }
    }

    /// Returns once the model has come to a position.
    async fn reached(&self, position: Position) -> Result<()> {
        let mut standing = self.standing.clone();
        let reached =
            standing.wait_for(|standing| standing.position >= position || standing.ended.is_some()).await;
        let standing = reached.map_err(|_| self.stopped())?;
        match standing.ended.as_ref().filter(|_| standing.position < position) {
            Some(ended) => Err(ended.clone().unwrap_or_else(|| self.stopped())),
            None => Ok(()),
        }
    }

    /// The error for the event at a position if that is parked, or for one before it that was parked since the model stood at
    /// `known`, or since that became known.
    fn parked_since(&self, known: Option<Position>, position: Position) -> Option<Error> {
        let standing = self.standing.borrow();
        let known = known.or(standing.began_at).unwrap_or(Position::ZERO);
        let mut up_to = standing.parked.range(..=position).rev();
        let parked = up_to.next().filter(|(at, _)| **at == position || **at > known);
        parked.map(|(_, parked)| self.not_handled(parked))
    }

    /// The stream of the event at a position, if that is still in the log.
    async fn stream_at(&self, position: Position) -> Result<Option<StreamId>> {
        let before = Position(position.0.saturating_sub(1));
        let mut batches = self.events.read_all(before, Filter::all(), Follow::ToEnd);
        while let Some(batch) = futures_util::TryStreamExt::try_next(&mut batches).await? {
            if let Some(event) = batch.events.into_iter().next() {
                return Ok(Some(event).filter(|event| event.position == position).map(|event| event.stream));
            }
        }
        Ok(None)
    }

    /// Everything up to this position has been handled.
    pub fn position(&self) -> Position {
        self.standing.borrow().position
    }

    /// The same, once it is known where the model stands.
    fn known_position(&self) -> Option<Position> {
        let standing = self.standing.borrow();
        standing.began_at.map(|_| standing.position)
    }

    /// Whether this process does the work; otherwise another one has the lease, or it has not begun, or it has ended.
    pub fn is_working(&self) -> bool {
        // A worker whose runtime was shut down tells nothing any more.
        self.standing.has_changed().is_ok() && self.standing.borrow().working
    }

    /// How many events are still to be handled, and how old the oldest of them is. Reads what is still to be handled.
    ///
    /// # Errors
    /// What reading the log meets.
    pub async fn lag(&self) -> Result<Lag> {
        let lag = Lag::of(&*self.events, &self.filter, self.position(), self.clock.now()).await;
        let lag =
            lag.map_err(|error| error.during(format!("measure the lag of subscription `{}`", self.name)))?;
        lag.tell(&self.name);
        Ok(lag)
    }

    /// Ends the work after the batch under way and gives the lease back.
    ///
    /// # Errors
    /// What had ended the subscription before.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        let ended = (&mut self.task).await;
        if let Err(panic) = ended
            && panic.is_panic()
        {
            return Err(Error::invalid(format!("subscription `{}`: its worker panicked", self.name)));
        }
        match self.standing.borrow().ended.clone() {
            Some(Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns when the subscription has ended by itself, with what ended it.
    pub async fn failed(&self) -> Error {
        let mut standing = self.standing.clone();
        let ended = standing.wait_for(|standing| standing.ended.is_some()).await;
        ended.ok().and_then(|standing| standing.ended.clone().flatten()).unwrap_or_else(|| self.stopped())
    }

    fn not_handled(&self, parked: &Parked) -> Error {
        let Parked { position, stream, event_type, attempts, error, .. } = parked;
        Error::invalid(format!(
            "subscription `{}`: the event at position {position} (`{event_type}` of `{stream}`) is parked and not handled, after \
             {attempts} attempts: {error}. Once that is mended, have it tried again (`retry_parked`), or drop it (`drop_parked`)",
            self.name
        ))
    }

    fn stopped(&self) -> Error {
        Error::unavailable(Outcome::NotDone, format!("subscription `{}` has ended", self.name))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl<M: ReadModel> SubscriptionBuilder<M> {
    /// Only events that match. Default: all that the read model's event type knows. The filter must not change while the name
    /// stays.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Most events that are handed to the read model at once, and so the most that one transaction holds. Default: 256.
    #[must_use]
    pub fn batch(mut self, events: usize) -> Self {
        self.settings.batch = events.max(1);
        self
    }

    /// How often, and after which pauses, an event that could not be handled is tried again before it is parked.
    /// Default: 12 times, after up to 100 ms at first and twice as long each time, at most a minute: two minutes
    /// on average and four at most, in which a service that the handler needs may come back. Meanwhile what
    /// stands before the event is handled and what stands after it waits, so that streams stay in order. A panic
    /// of the handler, or while the event is decoded, counts as a failure of the handler; what does not decode
    /// is parked at once. What fails because the read model's own store is away is tried until it is back.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// For how long a process that falls silent keeps the others from working. Default: 30 s; renewed each third of it.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.max(Duration::from_millis(10));
        self
    }

    /// Handles one of several shares of the streams, so that as many processes or tasks can work at the same time: those streams
    /// whose name hashes to `share`, 0..`of`. Each share has its own checkpoint and lease: the name is followed by
    /// `.SHARE-of-OF`. Every stream is in exactly one share, so that its events stay in order.
    #[must_use]
    pub fn share(mut self, share: u32, of: u32) -> Self {
        self.settings.share = Some((share, of));
        self
    }

    /// Tells the read model of truncations too, by a [`Delivery`] without an event ([`Delivery::truncated`]). Default: it hears of none,
    /// and what came of the events that were cut off stays in it.
    #[must_use]
    pub fn truncations(mut self) -> Self {
        self.settings.truncations = true;
        self
    }

    /// Opens sealed payloads. The same hook as the repositories of these streams.
    ///
    /// An event whose key is [forgotten](crate::Opened::Forgotten) is passed over: the read model never sees
    /// it. What it has handled before the key was forgotten, it holds until you take it out. A hook that
    /// answers `Unavailable` is asked again after a pause; no event is parked because of it.
    #[must_use]
    pub fn encryption(mut self, encryption: impl Encryption + 'static) -> Self {
        self.encryption = Some(Arc::new(encryption));
        self
    }

    /// What the lag is measured by. Default: [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Begins to work, on the runtime of the caller.
    ///
    /// # Errors
    /// `Invalid` for a name, share or filter that breaks the rules, or outside a runtime; `Unsupported` for events in JSON where
    /// `serde_json` is built with its feature `arbitrary_precision` (see [`Codec::JSON`](crate::Codec::JSON)). Whatever is met later is told by
    /// [`Subscription::wait_for`], [`Subscription::failed`] and [`Subscription::stop`].
    pub fn start(self) -> Result<Subscription> {
        let operation = format!("start subscription `{}`", self.name);
        self.begin().map_err(|error| error.during(operation))
    }

    fn begin(self) -> Result<Subscription> {
        let Self { events, name, model, filter, settings, encryption, clock } = self;
        let name = match settings.share {
            None => name,
            Some((share, of)) if share < of => format!("{name}.{share}-of-{of}"),
            Some((share, of)) => return Err(Error::invalid(format!("there is no share {share} of {of}"))),
        };
        check_name(&name)?;
        M::Event::codecs().iter().try_for_each(Codec::check_build)?;
        let filter = filter.restricted_to(&M::Event::sources())?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::invalid("a subscription is started on a tokio runtime"))?;
        let (standing_sender, standing) = watch::channel(Standing::default());
        let (stop, stopping) = watch::channel(false);
        let name: Arc<str> = name.into();
        let worker = Worker {
            events: events.clone(),
            claim: Claim { name: name.clone(), owner: EventId::fresh(), lease: settings.lease },
            model,
            filter: filter.clone(),
            settings,
            encryption,
            clock: clock.clone(),
            standing: standing_sender,
            stopping,
        };
        let task = runtime.spawn(worker.run());
        Ok(Subscription { name, events, filter, clock, standing, stop, task })
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("name", &self.name)
            .field("standing", &*self.standing.borrow())
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for SubscriptionBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionBuilder")
            .field("name", &self.name)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}
