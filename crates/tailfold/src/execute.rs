//! Load, decide, append; again on a conflict.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use crate::append::{Receipt, Stamp};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::{EventId, Metadata, Position, RecordedEvent, Tag};
use crate::filter::Filter;
use crate::fold::Aggregate;
use crate::load::Options;
use crate::repository::{Inner, Repository};
use crate::schema::IntoEvents;
use crate::store::{EventStore as _, EventStoreExt as _, VersionRange};
use crate::stream::StreamId;

/// A command, to be refined and awaited; see [`Repository::execute`].
#[must_use = "a command does nothing until it is awaited"]
pub struct Execute<'a, F, R, E> {
    repository: Repository<F>,
    stream: Result<StreamId>,
    decide: Box<Decide<'a, F, R, E>>,
    stamp: Stamp,
}

type Decide<'a, F, R, E> = dyn Fn(&F) -> Result<R, E> + Send + 'a;

/// How commands are repeated after conflicts, and appends after unknown outcomes.
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
        let bound = self.first_pause.saturating_mul(1u32 << repetition.min(20)).min(self.longest_pause);
        tokio::time::sleep(bound.mul_f64(fastrand::f64())).await;
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
    /// A decision that returns no events leaves no trace of its key.
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
                let loaded = inner.load(stream.clone(), Options::default()).await?;
                if let Some(key) = &stamp.idempotency_key {
                    // After the load: whoever records the key later moves the head, and the append meets a conflict.
                    let original = inner.receipt_of_key(&stream, key).await;
                    if let Some(receipt) = original.map_err(|error| error.during(&operation))? {
                        return Ok(Ok(receipt));
                    }
                }
                let events = match decide(loaded.state()) {
                    Ok(events) => events.into_events(),
                    Err(refused) => return Ok(Err(refused)),
                };
                if events.is_empty() {
                    return Ok(Ok(Receipt::of_nothing(loaded)));
                }
                let appended = async {
                    let prepared = inner.prepare(&stream, events, &stamp)?;
                    inner.commit(loaded, prepared).await
                };
                match appended.await {
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

impl<F: Aggregate> Inner<F> {
    /// The receipt of the command that was recorded under a key, if there is one in the stream's present life.
    async fn receipt_of_key(&self, stream: &StreamId, key: &str) -> Result<Option<Receipt<F>>> {
        let filter = Filter::stream(stream.clone()).and_tag(Tag::idempotency(key)?);
        let found = self.events.read_all_to_vec(Position::ZERO, filter).await?;
        // A tombstone matches too; what stood before it is gone.
        let Some(first) = found.last().filter(|event| !event.data.event_type.is_tombstone()) else {
            return Ok(None);
        };
        let mut count: usize = 0;
        let mut last: Option<RecordedEvent> = None;
        let mut batches =
            self.events.read(stream, VersionRange::from(first.version), crate::Direction::Forward);
        'commit: while let Some(batch) = futures_util::TryStreamExt::try_next(&mut batches).await? {
            for event in batch {
                if event.data.id != EventId::derived(key, stream, count) {
                    break 'commit;
                }
                count += 1;
                last = Some(event);
            }
        }
        let Some(last) = last else {
            return Err(Error::corrupt(format!(
                "idempotency key {key:?} is found at position {}, its events are not",
                first.position
            )));
        };
        let options = Options { at: Some(last.version), ..Options::default() };
        let loaded = self.load(stream.clone(), options).await?;
        Ok(Some(Receipt::of_repeated(loaded, last.position, count as u64)))
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
