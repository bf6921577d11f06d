//! Load, decide, append; again on a conflict.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use crate::append::{Receipt, Stamp};
use crate::chain::Chain;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::{EventId, Metadata, Position, RecordedEvent, Tag};
use crate::filter::Filter;
use crate::fold::Aggregate;
use crate::load::Options;
use crate::loaded::Loaded;
use crate::repository::{Inner, Repository};
use crate::schema::IntoEvents;
use crate::store::{Direction, EventStore as _, EventStoreExt as _, Remembered, Truncation, VersionRange};
use crate::stream::{StreamId, Version};

/// A command, to be refined and awaited; see [`Repository::execute`].
#[must_use = "a command does nothing until it is awaited"]
pub struct Execute<'a, F, R, E> {
    repository: Repository<F>,
    stream: Result<StreamId>,
    decide: Box<Decide<'a, F, R, E>>,
    stamp: Stamp,
}

type Decide<'a, F, R, E> = dyn Fn(&F) -> Result<R, E> + Send + 'a;

/// How commands are repeated after conflicts, and appends after unknown outcomes; and how a subscription repeats an event
/// that could not be handled, with other defaults ([`SubscriptionBuilder::retry`](crate::SubscriptionBuilder::retry)).
///
/// The pause before repetition n is random between 0 and the smaller of `first_pause` * 2^n and `longest_pause` (full
/// jitter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Most repetitions; 0: none. Default: 32.
    pub limit: u32,
    /// Bound of the first pause. Default: 1 ms.
    pub first_pause: Duration,
    /// Bound of every pause. Default: 250 ms.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: 32, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(250) }
    }
}

impl Retry {
    pub(crate) async fn pause(&self, repetition: u32) {
        tokio::time::sleep(self.draw_pause(repetition)).await;
    }

    /// How long to wait before a repetition, counted from 0.
    pub(crate) fn draw_pause(&self, repetition: u32) -> Duration {
        let bound = self.first_pause.saturating_mul(1u32 << repetition.min(30)).min(self.longest_pause);
        bound.mul_f64(fastrand::f64())
    }
}

impl<'a, F: Aggregate, R: IntoEvents<F::Event>, E> Execute<'a, F, R, E> {
    pub(crate) fn new(
        repository: Repository<F>,
        stream: Result<StreamId>,
        decide: impl Fn(&F) -> Result<R, E> + Send + 'a,
    ) -> Self {
        Self { repository, stream, decide: Box::new(decide), stamp: Stamp::default() }
    }

    /// Makes the command happen at most once for that key, however often and from wherever it is sent: when the key is
    /// found on the stream, the decision is not run and the original receipt comes back. 1..=200 bytes. The ids of the
    /// events are derived from the key.
    ///
    /// A decision that returns no events leaves no trace of its key. Where the command's events were truncated since, the marker
    /// of the truncation remembers it: the receipt then names the position and number of its events, and holds the present state
    /// and head instead of those of then, unless some of its events are left. A stream's marker remembers the last
    /// 8,192 commands that were cut off ([`Truncation::MOST_COMMANDS`](crate::Truncation::MOST_COMMANDS)) for as long as the stream
    /// is not erased. Erasing forgets: the same key then makes the command happen again, in the stream's next life.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.stamp.idempotency_key = Some(key.into());
        self
    }

    /// Sets the metadata of the events. Default: none.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.stamp.metadata = metadata;
        self
    }

    /// When the events were recorded, for imports. Default: now, by the repository's clock.
    pub fn recorded_at(mut self, time: Timestamp) -> Self {
        self.stamp.recorded_at = Some(time);
        self
    }
}

impl<'a, F: Aggregate, R: IntoEvents<F::Event> + 'a, E: 'a> IntoFuture for Execute<'a, F, R, E> {
    type Output = Result<Result<Receipt<F>, E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { repository, stream, decide, stamp } = self;
            let inner = &repository.inner;
            let stream = stream?;
            let operation = format!("execute on `{stream}`");
            let mut repetition = 0;
            loop {
                let appended = match inner.begin(&stream, &stamp).await {
                    Ok(Begun::Repeated(receipt)) => return Ok(Ok(receipt)),
                    Ok(Begun::New(loaded)) => {
                        let events = match decide(loaded.state()) {
                            Ok(events) => events.into_events(),
                            Err(refused) => return Ok(Err(refused)),
                        };
                        if events.is_empty() {
                            return Ok(Ok(Receipt::of_nothing(loaded)));
                        }
                        match inner.prepare(&stream, events, &stamp) {
                            Ok(prepared) => inner.commit(loaded, prepared).await,
                            Err(error) => Err(error),
                        }
                    }
                    Err(error) => Err(error),
                };
                match appended {
                    Ok(receipt) => return Ok(Ok(receipt)),
                    Err(error) if error.is_conflict() && repetition < inner.retry.limit => {
                        tracing::debug!(%error, repetition, "deciding again");
                        inner.retry.pause(repetition).await;
                        repetition += 1;
                    }
                    Err(error) => return Err(error.during(operation)),
                }
            }
        })
    }
}

/// What a command finds.
enum Begun<F> {
    /// It has happened before.
    Repeated(Receipt<F>),
    /// It has not: what is decided on.
    New(Loaded<F>),
}

impl<F: Aggregate> Inner<F> {
    async fn begin(&self, stream: &StreamId, stamp: &Stamp) -> Result<Begun<F>> {
        let loaded = self.load(stream.clone(), Options::default()).await?;
        let repeated = match &stamp.idempotency_key {
            // After the load: whoever records the key later moves the head, and the append meets a conflict.
            Some(key) => self.receipt_of_key(stream, key, loaded.head().is_none()).await?,
            None => None,
        };
        Ok(repeated.map_or(Begun::New(loaded), Begun::Repeated))
    }

    /// The receipt of the command that was recorded under a key, if there is one in the stream's present life.
    ///
    /// # Errors
    /// `Conflict` if events of the stream were removed between two reads: whatever they have given says nothing then.
    async fn receipt_of_key(
        &self,
        stream: &StreamId,
        key: &str,
        was_empty: bool,
    ) -> Result<Option<Receipt<F>>> {
        let mut trace = self.trace_of_key(stream, key).await?;
        // Of a stream that was empty nothing can have been cut off: whoever has written to it since is met by the append.
        while trace.is_nothing() && !was_empty && self.is_truncated(stream).await? {
            // The events may have gone, and the marker come after the end of the read, while it was under way: what two reads
            // find in the same place did not move.
            let again = self.trace_of_key(stream, key).await?;
            if again == trace {
                break;
            }
            trace = again;
        }
        let answered = match trace {
            Trace::Nothing { .. } => return Ok(None),
            Trace::Recorded(first) => match self.receipt_of_recorded(stream, key, first.version).await {
                // Loaded at the head that the command has left: it is of the life that the key was found in.
                Ok(Some(receipt)) => return Ok(Some(receipt)),
                answered => answered,
            },
            Trace::CutOff(remembered) => self.receipt_of_cut_off(stream, key, remembered).await,
        };
        if self.trace_of_key(stream, key).await? != trace {
            self.counters.conflicted();
            let actual = self.events.head(stream).await?;
            return Err(Error::conflict(
                stream.clone(),
                format_args!("the events of idempotency key {key:?}, which were removed meanwhile"),
                actual,
            ));
        }
        let found_at = match trace {
            Trace::Recorded(Place { position, .. }) | Trace::CutOff(Remembered { position, .. }) => position,
            Trace::Nothing { .. } => return Ok(None),
        };
        match answered? {
            Some(receipt) => Ok(Some(receipt)),
            None => Err(Error::corrupt(format!(
                "idempotency key {key:?} is found at position {found_at}, its events are not"
            ))),
        }
    }

    async fn trace_of_key(&self, stream: &StreamId, key: &str) -> Result<Trace> {
        let filter = Filter::stream(stream.clone()).and_tag(Tag::idempotency(key)?);
        let mut found = self.events.read_all_to_vec(Position::ZERO, filter).await?;
        // Tombstones and markers match too; what stood before a tombstone is gone.
        let ended = found.iter().rposition(|event| event.data.event_type.is_tombstone());
        let living = found.split_off(ended.map_or(0, |tombstone| tombstone + 1));
        if let Some(first) = living.iter().rfind(|event| !event.data.event_type.is_truncation()) {
            return Ok(Trace::Recorded(Place::of(first)));
        }
        let Some(marker) = living.last() else { return Ok(Trace::Nothing { marker: None }) };
        Ok(match Truncation::from_event(marker)?.find(stream, key) {
            Some(remembered) => Trace::CutOff(remembered),
            None => Trace::Nothing { marker: Some(marker.position) },
        })
    }

    async fn is_truncated(&self, stream: &StreamId) -> Result<bool> {
        let first = VersionRange::ALL.up_to(Some(Version::FIRST));
        Ok(self.events.read_to_vec(stream, first).await?.is_empty())
    }

    /// `None` if the command's events are not found as one stream has them.
    async fn receipt_of_recorded(
        &self,
        stream: &StreamId,
        key: &str,
        first: Version,
    ) -> Result<Option<Receipt<F>>> {
        let Some((last, events)) = self.command_from(stream, key, first, 0).await? else { return Ok(None) };
        self.receipt_at(stream, last, events).await
    }

    /// `None` if the events that are left are not found as one stream has them.
    async fn receipt_of_cut_off(
        &self,
        stream: &StreamId,
        key: &str,
        remembered: Remembered,
    ) -> Result<Option<Receipt<F>>> {
        // The rest of it may be left.
        match self.command_from(stream, key, remembered.last.next(), remembered.events).await? {
            Some((last, events)) => self.receipt_at(stream, last, events).await,
            None => {
                let loaded = self.load(stream.clone(), Options::default()).await?;
                Ok(Some(Receipt::of_repeated(loaded, remembered.position, remembered.events)))
            }
        }
    }

    /// With the state at the command's last event; `None` if another event stands there by now.
    async fn receipt_at(&self, stream: &StreamId, last: Place, events: u64) -> Result<Option<Receipt<F>>> {
        let options = Options { at: Some(last.version), ..Options::default() };
        let loaded = self.load(stream.clone(), options).await?;
        let is_same = loaded.head().is_some_and(|head| head.chain == last.chain);
        Ok(is_same.then(|| Receipt::of_repeated(loaded, last.position, events)))
    }

    /// The last event of a command, and how many it has, where those before `version` are counted already; `None` if the event
    /// there is none of its.
    async fn command_from(
        &self,
        stream: &StreamId,
        key: &str,
        version: Version,
        mut events: u64,
    ) -> Result<Option<(Place, u64)>> {
        let mut last: Option<Place> = None;
        let mut batches = self.events.read(stream, VersionRange::from(version), Direction::Forward);
        while let Some(batch) = futures_util::TryStreamExt::try_next(&mut batches).await? {
            for event in batch {
                let next = last.map_or(version, |last| last.version.next());
                if event.version != next || event.data.id != EventId::derived(key, stream, events as usize) {
                    return Ok(last.map(|last| (last, events)));
                }
                events += 1;
                last = Some(Place::of(&event));
            }
        }
        Ok(last.map(|last| (last, events)))
    }
}

/// What is known of a command by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    /// Neither an event nor the stream's marker, if it has one, knows of it.
    Nothing { marker: Option<Position> },
    /// Its first event stands there.
    Recorded(Place),
    /// The stream's marker remembers it.
    CutOff(Remembered),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    version: Version,
    chain: Chain,
    position: Position,
}

impl Place {
    fn of(event: &RecordedEvent) -> Self {
        Self { version: event.version, chain: event.chain, position: event.position }
    }
}

impl Trace {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing { .. })
    }
}

impl<F, R, E> fmt::Debug for Execute<'_, F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("stream", &self.stream)
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
}
