//! Appending typed events to what was loaded.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tracing::Instrument as _;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{
    EventData, EventId, EventMeta, EventType, Metadata, NewEvent, Position, SchemaVersion, Tag,
};
use crate::filter::Filter;
use crate::fold::{Aggregate, Fold};
use crate::loaded::Loaded;
use crate::replay;
use crate::repository::{Inner, Repository, SnapshotSide};
use crate::schema::Fact;
use crate::snapshot::{Save, Saved, SnapshotMode};
use crate::stats::Outcome;
use crate::store::{
    Commit, Committed, EventStore as _, EventStoreExt as _, Expected, InlineSnapshot, StreamWrite, Written,
};
use crate::stream::{Head, StreamId};

/// An append, to be refined and awaited; see [`Repository::append`].
#[must_use = "an append does nothing until it is awaited"]
#[derive(Debug)]
pub struct Append<F: Aggregate> {
    repository: Repository<F>,
    loaded: Loaded<F>,
    events: Vec<F::Event>,
    stamp: Stamp,
}

/// What all events of one append have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamp {
    pub(crate) metadata: Metadata,
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) idempotency_key: Option<String>,
}

/// The same, as it is stored.
pub(crate) struct Common {
    metadata: Bytes,
    recorded_at: Timestamp,
}

impl<F: Aggregate> Append<F> {
    pub(crate) fn new(repository: Repository<F>, loaded: Loaded<F>, events: Vec<F::Event>) -> Self {
        Self { repository, loaded, events, stamp: Stamp::default() }
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

impl<F: Aggregate> IntoFuture for Append<F> {
    type Output = Result<Receipt<F>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { repository, loaded, events, stamp } = self;
        let operation = format!("append to stream `{}` at version {}", loaded.stream, loaded.version());
        Box::pin(async move {
            let inner = &repository.inner;
            let appended = async {
                if events.is_empty() {
                    return Ok(Receipt::of_nothing(loaded));
                }
                let prepared = inner.prepare(&loaded.stream, events, &stamp)?;
                inner.commit(loaded, prepared).await
            };
            appended.await.map_err(|error| error.during(operation))
        })
    }
}

/// What came of an append: the state after it, and where it stands.
pub struct Receipt<F> {
    loaded: Loaded<F>,
    position: Option<Position>,
    events: u64,
    repeated: bool,
}

impl<F> Receipt<F> {
    pub(crate) fn of_nothing(loaded: Loaded<F>) -> Self {
        Self { loaded, position: None, events: 0, repeated: false }
    }

    pub(crate) fn of_repeated(loaded: Loaded<F>, position: Position, events: u64) -> Self {
        Self { loaded, position: Some(position), events, repeated: true }
    }

    /// The state after the events.
    pub fn state(&self) -> &F {
        self.loaded.state()
    }

    /// The stream's head after the events; `None` if the stream is still empty.
    pub fn head(&self) -> Option<Head> {
        self.loaded.head()
    }

    /// Position of the last event; `None` if there was nothing to append.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// How many events were appended.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether the events had been recorded before: the same commit, or the same idempotency key.
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// The state as if it had just been loaded, to append to.
    pub fn into_loaded(self) -> Loaded<F> {
        self.loaded
    }
}

impl<F> From<Receipt<F>> for Loaded<F> {
    fn from(receipt: Receipt<F>) -> Self {
        receipt.loaded
    }
}

impl<F: fmt::Debug> fmt::Debug for Receipt<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("loaded", &self.loaded)
            .field("position", &self.position)
            .field("events", &self.events)
            .field("repeated", &self.repeated)
            .finish()
    }
}

/// Events ready to be sent, and the same events as a replay would see them.
pub(crate) struct Prepared<F: Aggregate> {
    pub(crate) new: Vec<NewEvent>,
    typed: Vec<F::Event>,
}

impl<F: Aggregate> Repository<F> {
    /// One stream's part of a commit to several: combine such parts with [`Commit::from_iter`] and hand the commit to the
    /// store. All are recorded, or none.
    ///
    /// # Errors
    /// `Codec` if an event does not survive its codec; `Invalid` if one exceeds a limit.
    pub fn prepare(
        &self,
        loaded: &Loaded<F>,
        events: impl crate::schema::IntoEvents<F::Event>,
    ) -> Result<StreamWrite> {
        let stream = loaded.stream.clone();
        let prepared = self
            .inner
            .prepare(&stream, events.into_events(), &Stamp::default())
            .map_err(|error| error.during(format!("prepare events for stream `{stream}`")))?;
        Ok(StreamWrite { stream, expected: Expected::from_head(loaded.head), events: prepared.new })
    }
}

impl<F: Aggregate> Inner<F> {
    /// Encodes events. What a state folds is what was encoded and decoded again, so that it equals every later replay;
    /// an event that does not survive that is refused before anything is written.
    pub(crate) fn prepare(
        &self,
        stream: &StreamId,
        events: Vec<F::Event>,
        stamp: &Stamp,
    ) -> Result<Prepared<F>> {
        let common = self.common(stamp)?;
        let mut prepared = Prepared { new: Vec::with_capacity(events.len()), typed: Vec::new() };
        for (index, event) in events.into_iter().enumerate() {
            let (fact, typed) = Fact::surviving(&event)?;
            let (id, key_tag) = match &stamp.idempotency_key {
                None => (EventId::fresh(), None),
                Some(key) => {
                    let tag = (index == 0).then(|| Tag::idempotency(key)).transpose()?;
                    (EventId::derived(key, stream, index), tag)
                }
            };
            prepared.new.push(self.new_event(stream, id, fact, key_tag, &common)?);
            prepared.typed.push(typed);
        }
        Ok(prepared)
    }

    /// Appends to what was loaded, settles an unknown outcome, and takes a snapshot if one is due.
    pub(crate) async fn commit(&self, mut loaded: Loaded<F>, prepared: Prepared<F>) -> Result<Receipt<F>> {
        let started = Instant::now();
        let Prepared { new, typed } = prepared;
        let count = new.len() as u64;
        let expected = Expected::from_head(loaded.head);
        let side = self.snapshots.as_ref();
        fold_in(&mut loaded, &new, typed);
        let mut commit = Commit::new(loaded.stream.clone(), expected, new);
        let mut inline = None;
        if let Some(side) = side.filter(|side| side.config.mode == SnapshotMode::Inline) {
            commit.snapshot = self.inline_snapshot(side, &mut loaded);
            // Shares its bytes with the commit.
            inline = commit.snapshot.clone().filter(|_| side.tiers.len() > 1);
        }
        let span =
            tracing::debug_span!("tailfold.append", fold = F::NAME, stream = %loaded.stream, events = count);
        let committed = self.append_with_snapshot(commit).instrument(span).await;
        let committed = committed.inspect_err(|error| {
            if error.is_conflict() {
                self.counters.conflicted();
            }
        })?;
        self.counters.appended(started.elapsed());
        if let Some(saved) = committed.snapshot {
            self.counters.wrote(saved.into());
        }
        loaded.head = committed.writes.first().map(|written| written.head);
        if let Some(side) = side {
            if let Some(InlineSnapshot { slot, save }) = inline {
                side.writer.copy_beside_own(&slot, &save);
            }
            side.take_if_due(&mut loaded);
        }
        Ok(Receipt {
            loaded,
            position: Some(committed.position),
            events: count,
            repeated: committed.repeated,
        })
    }

    /// Appends. What is refused with a snapshot is sent without it, since that may be what the store cannot keep: where the
    /// pages of its snapshots are damaged, say.
    async fn append_with_snapshot(&self, commit: Commit) -> Result<Committed> {
        let bare = commit.snapshot.is_some().then(|| Commit { snapshot: None, ..commit.clone() });
        match (self.append_settled(commit).await, bare) {
            (Err(error), Some(bare))
                if !error.is_conflict() && !matches!(error.kind(), ErrorKind::Unavailable(_)) =>
            {
                let committed = self.append_settled(bare).await?;
                tracing::warn!(%error, "events recorded without their snapshot");
                self.counters.wrote(Outcome::Failed);
                Ok(committed)
            }
            (answered, _) => answered,
        }
    }

    /// The snapshot that travels with the commit, if one is due and the head after the commit is known already: a
    /// stream's first commit does not know its genesis, and leaves its snapshot to the background.
    fn inline_snapshot(&self, side: &SnapshotSide<F>, loaded: &mut Loaded<F>) -> Option<InlineSnapshot> {
        let head = side.due(loaded)?;
        let slot = side.sealer.slot(&loaded.stream);
        loaded.mark_taken(head.version);
        match side.sealer.seal(&slot, &loaded.state, head, &loaded.trail) {
            Ok(bytes) => {
                self.counters.sealed(bytes.len());
                let day = side.sealer.clock().now().day();
                Some(InlineSnapshot { slot, save: Save { head, bytes, keep: side.config.keep, day } })
            }
            Err(refused) => {
                // Not tried again in the background: it would be refused there as well.
                self.counters.wrote(refused.dropped(&slot, head));
                None
            }
        }
    }

    pub(crate) async fn save_now(&self, loaded: &Loaded<F>) -> Result<Saved> {
        let side = self.snapshots.as_ref().ok_or_else(|| Error::invalid("snapshots are off"))?;
        let head = loaded.head.ok_or_else(|| Error::invalid("the stream is empty"))?;
        let slot = side.sealer.slot(&loaded.stream);
        self.save_at(side, &slot, &loaded.state, head, &loaded.trail).await
    }
}

impl<F: Fold> Inner<F> {
    pub(crate) fn common(&self, stamp: &Stamp) -> Result<Common> {
        let recorded_at = stamp.recorded_at.unwrap_or_else(|| self.clock.now());
        Ok(Common { metadata: stamp.metadata.to_bytes()?, recorded_at })
    }

    /// A fact as an event for a stream; `tag` comes after its own.
    pub(crate) fn new_event(
        &self,
        stream: &StreamId,
        id: EventId,
        fact: Fact,
        tag: Option<Tag>,
        common: &Common,
    ) -> Result<NewEvent> {
        let Fact { schema, tags, payload, .. } = fact;
        let own = tags.iter().zip(1..).map(|(text, number)| {
            Tag::new(text).map_err(|error| tag_does_not_fit(schema.name, number, error))
        });
        let tags = own.chain(tag.map(Ok)).collect::<Result<_>>()?;
        NewEvent::new(EventData {
            id,
            event_type: EventType::new(schema.name)?,
            schema_version: SchemaVersion(schema.version),
            recorded_at: common.recorded_at,
            metadata: common.metadata.clone(),
            payload: replay::seal(stream, id, payload, self.encryption.as_ref())?,
            tags,
            origin: schema.origin,
        })
    }

    /// An append whose outcome is unknown is sent again as it is: the store recognises what it has. A repetition that the
    /// store does not answer says nothing about the attempts before it: the outcome stays unknown.
    pub(crate) async fn append_settled(&self, commit: Commit) -> Result<Committed> {
        let mut attempt = 0;
        let mut unknown: Option<Error> = None;
        loop {
            let answered = match &unknown {
                None => self.events.append(commit.clone()).await,
                Some(_) => self.append_again(&commit).await,
            };
            let error = match answered {
                Err(error) if error.is_outcome_unknown() => error,
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) => match &unknown {
                    Some(before) => before.clone(),
                    None => return Err(error),
                },
                settled => return settled,
            };
            if attempt == self.retry.limit {
                return Err(error);
            }
            tracing::warn!(%error, attempt, "outcome of an append unknown: sending the same commit again");
            unknown = Some(error);
            self.retry.pause(attempt).await;
            attempt += 1;
        }
    }

    /// Sends a commit that may be recorded. Where it expects heads, the store recognises it; a decision on a boundary expects
    /// none, and would be recorded twice or run into itself, so it is looked for.
    async fn append_again(&self, commit: &Commit) -> Result<Committed> {
        if let Some(committed) = self.receipt_within(commit).await? {
            return Ok(committed);
        }
        match self.events.append(commit.clone()).await {
            // It may have arrived since.
            Err(conflict) if conflict.is_conflict() => self.receipt_within(commit).await?.ok_or(conflict),
            answered => answered,
        }
    }

    /// The receipt of a commit with a boundary, if it is recorded.
    async fn receipt_within(&self, commit: &Commit) -> Result<Option<Committed>> {
        let Some(unchanged) = &commit.unchanged else { return Ok(None) };
        let (mut writes, mut position) = (Vec::with_capacity(commit.writes.len()), Position::ZERO);
        for StreamWrite { stream, events, .. } in &commit.writes {
            let added = self.events.read_all_to_vec(unchanged.after, Filter::stream(stream.clone())).await?;
            let recorded = |event: Option<&NewEvent>| {
                let id = event?.data().id;
                added.iter().find(|recorded| recorded.data.id == id)
            };
            let (Some(first), Some(last)) = (recorded(events.first()), recorded(events.last())) else {
                return Ok(None);
            };
            position = position.max(last.position);
            writes.push(Written { stream: stream.clone(), first: first.version, head: last.head() });
        }
        Ok(Some(Committed { writes, position, snapshot: None, repeated: true }))
    }
}

fn tag_does_not_fit(event: &str, number: usize, error: Error) -> Error {
    Error::invalid(format!(
        "tag {number} of event `{event}` does not fit; `#[event(tag = \"..\", long = hash)]` records a hash of what does not"
    ))
    .caused_by(error)
}

/// Folds events that are about to be appended. The chain is linked from the head that is expected; where the stream is
/// empty, the store alone knows the genesis, and the head stays unknown until it answers.
fn fold_in<F: Aggregate>(loaded: &mut Loaded<F>, new: &[NewEvent], typed: Vec<F::Event>) {
    let mut version = loaded.version();
    let mut chain = loaded.head.map(|head| head.chain);
    let state = Arc::make_mut(&mut loaded.state);
    for (event, typed) in new.iter().zip(typed) {
        version = version.next();
        chain = chain.map(|chain| chain.link(event.digest()));
        state.apply(typed, &EventMeta::new(&loaded.stream, version, event.data()));
        loaded.trail.note(event.data(), version);
    }
    loaded.head = chain.map(|chain| Head { version, chain });
}
