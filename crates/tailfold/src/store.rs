//! The contract of event stores: what a backend implements, and nothing more. Conveniences are in [`EventStoreExt`].
//!
//! `memory.rs` is the shortest correct implementation; `tailfold-testkit` has the contract in executable form.

mod commit;
mod removal;
mod truncation;

use std::fmt;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub use self::commit::{Commit, Committed, Expected, InlineSnapshot, StreamWrite, Unchanged, Written};
pub use self::removal::{Removal, Removed, Tombstone};
pub(crate) use self::truncation::Remembered;
pub use self::truncation::{Truncation, TruncationNotes};
use crate::error::Result;
use crate::event::{EventId, Position, RecordedEvent};
use crate::filter::Filter;
use crate::snapshot::{Slot, SnapshotStore, StoredSnapshot};
use crate::stream::{Head, StreamId, Version};

/// A log of events, ordered in each stream and over all of them.
///
/// Positions become visible in order: whoever has read up to a position has missed nothing before it. A
/// commit becomes visible as a whole. What was acknowledged stays, and counts in every process that has the
/// store's place open, also if the process that was told of it is killed at once; the position of an event
/// that was removed is never given to another.
///
/// **Futures and streams** may be dropped at any time: an append then has happened as a whole or not at all,
/// and a removal that was not finished is finished by the next removal of the stream. They are polled on the
/// caller's threads, so they never block there: files, drivers that block, and locks that are held while
/// somebody waits belong on threads of the backend's own. All are polled in a tokio runtime with timers and,
/// where the backend needs it, I/O.
///
/// **Reads** ([`read`](Self::read), [`read_all`](Self::read_all), [`streams`](Self::streams)) do nothing
/// until they are polled: a read begins when its first batch is asked for, and has everything that was
/// acknowledged before that. Batches hold at most 4,096 events or streams. Only a [`LogBatch`] may be empty.
/// A read holds nothing that is in the way of others while its caller works on a batch, and goes on where it
/// stopped however long that takes. After an error it has ended.
#[async_trait]
pub trait EventStore: Send + Sync + fmt::Debug {
    /// What this store can do beyond the minimum.
    fn capabilities(&self) -> Capabilities;

    /// Names the history that this store holds: the same for every process that opens it, and each time.
    /// Restoring a backup gives it a new one.
    async fn store_id(&self) -> Result<StoreId>;

    /// Records a commit, all or nothing; on return it is as durable as the store promises.
    ///
    /// Commits that are under way at the same time are recorded in any order; whoever needs an order awaits one before the
    /// next, or says so by [`Expected`].
    ///
    /// Where an expectation fails, the events that stand at expected + 1.. are compared by id and digest: if
    /// all are equal in every stream of the commit, it has happened before and the original receipt is
    /// returned, without a snapshot: that of the repeated commit is not kept. Events are compared and not
    /// commits, so that the events of a part of a larger commit, or of several, have happened before, too.
    /// Expectations and repetition are looked at before [`Commit::unchanged`]. Where some writes expect
    /// [anything](Expected::Any) and others do not, the latter decide, and the events of the former are looked
    /// for by the id of the first one.
    ///
    /// A commit has at most [`Commit::MAX_EVENTS`] events of at most [`EventData::MAX_PAYLOAD_BYTES`] each;
    /// for the bytes of all of them a store may have a limit of its own.
    ///
    /// # Errors
    /// `Conflict` with the actual head, or the position of the first event that changed a boundary; `Invalid`
    /// for a commit that breaks a limit, the store's own included, of which nothing is recorded;
    /// `Unsupported` for a part of the commit outside [`Capabilities`]; `Unavailable`, with the outcome known
    /// or unknown.
    ///
    /// [`EventData::MAX_PAYLOAD_BYTES`]: crate::EventData::MAX_PAYLOAD_BYTES
    async fn append(&self, commit: Commit) -> Result<Committed>;

    /// The events of one stream, by version, in batches of 1 to 4,096; nothing for an empty stream. It ends
    /// with the last event that was there when the read began, or later ones.
    ///
    /// No event in the range is ever left out: a read that cannot give one is an error. What the read began
    /// in, it stays in: where the stream is erased meanwhile, none of its next life's events follow those of
    /// the life before.
    ///
    /// # Errors
    /// `Unavailable` with `NotDone` where events of the range were erased or cut off while they were read:
    /// the same read, begun again, gives what is left. `Corrupt` where events are missing that nobody has
    /// removed. A store that still has the events may give them instead of the former.
    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches;

    /// The events after a position that match, in order of position, in batches of at most 4,096.
    ///
    /// With [`Follow::ToEnd`] the last batch's [`checked_to`](LogBatch::checked_to) is not before the last
    /// event that was recorded when the read began, whether that matches or not, and not after events that
    /// are yet to come; so there is a last batch without events where nothing matches at the end. Where
    /// nothing at all was recorded after the position, there may be none.
    ///
    /// Events that are removed while they are read may be left out or not. No filter finds events that were
    /// removed before.
    ///
    /// # Errors
    /// `Unsupported` if the filter names tags and the store cannot find them (see
    /// [`Capabilities::tag_index`]); `Unavailable`.
    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches;

    /// The last event of a stream; `None` if the stream is empty. A consistent read: it sees every append that was
    /// acknowledged before it began, by whomever.
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>>;

    /// Streams that are not empty, ordered by the bytes of their names, those after `after`, in batches of 1
    /// to 4,096.
    ///
    /// # Errors
    /// `Unsupported` if the filter names event types or tags.
    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches;

    /// Erases a stream, or cuts off what lies before an origin. See [`Removal`].
    ///
    /// On return, events and snapshots are gone for every process. Whoever does not know whether a removal
    /// was done repeats it: it then does what is left to do, and what it answers counts that alone.
    ///
    /// # Errors
    /// `Invalid` if there is no origin at the version; `Unsupported` for an erase without
    /// [`Capabilities::erase`]; `Unavailable`.
    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed>;

    /// Where the store keeps snapshots too and can give one with its tail in one round trip.
    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail>;
}

/// Snapshot and tail in one round trip, for stores that hold both.
#[async_trait]
pub trait SnapshotAndTail: Send + Sync {
    /// The newest snapshot of the slot at or below a version, and the events of the stream from that
    /// snapshot's version *inclusive* (from the start, if there is none) up to that version, as
    /// [`EventStore::read`] gives them. Both begin when the future is polled.
    ///
    /// # Errors
    /// `Unavailable`; in the tail, those of [`EventStore::read`].
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        at_or_below: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)>;
}

/// One type that is both event and snapshot store: what a repository opens by default.
pub trait Store: EventStore + SnapshotStore {}

impl<S: EventStore + SnapshotStore + ?Sized> Store for S {}

/// Events of one stream, in batches of 1 to 4,096.
pub type EventBatches = BoxStream<'static, Result<Vec<RecordedEvent>>>;
/// Events of the whole log, in batches of at most 4,096.
pub type LogBatches = BoxStream<'static, Result<LogBatch>>;
/// Streams, in batches of 1 to 4,096.
pub type StreamBatches = BoxStream<'static, Result<Vec<StreamSummary>>>;

/// A part of the log.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// The events that match, in order: at most 4,096, none of a position after `checked_to`. May be empty.
    pub events: Vec<RecordedEvent>,
    /// Everything up to this position was looked at: resume after it. It never goes back from batch to batch.
    pub checked_to: Position,
    /// Events that the store looked at to find these, those that match included, so never less than `events`;
    /// where an index or a server finds them, no more than these. Projections put down how far they have
    /// looked once this is large.
    pub visited: u64,
}

/// A stream and its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSummary {
    /// The stream.
    pub stream: StreamId,
    /// Its last event.
    pub head: Head,
}

/// What a store can do beyond the minimum. A difference in guarantee is a value here, never a silent no-op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// A commit may write to several streams.
    pub several_streams: bool,
    /// Which filters a commit may require to be [unchanged](Commit::unchanged).
    pub unchanged: Boundary,
    /// A commit may carry a snapshot into the events' transaction.
    pub inline_snapshot: bool,
    /// Events can be found by tag without reading all of them. Without it, a filter by tag is exact all the same, at the
    /// cost of reading what its other dimensions let through, or `Unsupported`.
    pub tag_index: bool,
    /// A stream can be erased.
    pub erase: bool,
}

impl Capabilities {
    /// Everything: what an embedded store or a database can do.
    pub const ALL: Self = Self {
        several_streams: true,
        unchanged: Boundary::Any,
        inline_snapshot: true,
        tag_index: true,
        erase: true,
    };
}

/// Where the filter of a commit's condition [`unchanged`](Commit::unchanged) must lie, so that a store can check it; each can
/// do what those before it can. Whatever it accepts it decides exactly: events in there that do not match are no conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Boundary {
    /// No such condition.
    #[default]
    None,
    /// In streams that the commit writes to: each clause names some.
    Streams,
    /// Or in one category, which the commit writes to: each clause names it, or streams of it.
    Category,
    /// Anywhere.
    Any,
}

/// Names one history of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(EventId);

impl StoreId {
    /// A new name.
    pub fn fresh() -> Self {
        Self(EventId::fresh())
    }

    /// From its stored form.
    pub const fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(EventId::from_uuid(uuid))
    }

    /// For storing it.
    pub const fn as_uuid(&self) -> &uuid::Uuid {
        self.0.as_uuid()
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Versions of one stream, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest version wanted; 0 and 1 both mean the start.
    pub from: Version,
    /// The highest version wanted; `None`: to the end.
    pub to: Option<Version>,
}

impl VersionRange {
    /// The whole stream.
    pub const ALL: Self = Self { from: Version::ZERO, to: None };

    /// From a version, inclusive, to the end.
    pub const fn from(version: Version) -> Self {
        Self { from: version, to: None }
    }

    /// The same range, ending with `to` inclusive.
    #[must_use]
    pub const fn up_to(self, to: Option<Version>) -> Self {
        Self { from: self.from, to }
    }

    /// Whether a version lies in the range.
    pub fn contains(&self, version: Version) -> bool {
        self.from <= version && self.to.is_none_or(|to| version <= to)
    }
}

/// Order of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// Whether a read of the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Ends with the last event that was recorded before the read began.
    ToEnd,
    /// Goes on with new events as they are recorded: no gap, no duplicate. Ends only with an error.
    Live,
}

/// Conveniences over [`EventStore`].
#[async_trait]
pub trait EventStoreExt: EventStore {
    /// Collects a range of one stream. Memory grows with the range.
    async fn read_to_vec(&self, stream: &StreamId, range: VersionRange) -> Result<Vec<RecordedEvent>> {
        use futures_util::TryStreamExt as _;
        self.read(stream, range, Direction::Forward).try_concat().await
    }

    /// Collects the events after a position that match, up to the end. Memory grows with their number.
    async fn read_all_to_vec(&self, after: Position, filter: Filter) -> Result<Vec<RecordedEvent>> {
        use futures_util::TryStreamExt as _;
        let mut batches = self.read_all(after, filter, Follow::ToEnd);
        let mut events = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            events.extend(batch.events);
        }
        Ok(events)
    }

    /// Collects all streams that match. Memory grows with their number.
    async fn streams_to_vec(&self, filter: Filter) -> Result<Vec<StreamSummary>> {
        use futures_util::TryStreamExt as _;
        self.streams(filter, None).try_concat().await
    }
}

impl<S: EventStore + ?Sized> EventStoreExt for S {}

/// Forwards the contract through shared pointers, so that `Arc<dyn Store>` is a store.
#[async_trait]
impl<S: EventStore + ?Sized> EventStore for std::sync::Arc<S> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    async fn store_id(&self) -> Result<StoreId> {
        (**self).store_id().await
    }

    async fn append(&self, commit: Commit) -> Result<Committed> {
        (**self).append(commit).await
    }

    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches {
        (**self).read(stream, range, direction)
    }

    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        (**self).read_all(after, filter, follow)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        (**self).head(stream).await
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        (**self).streams(filter, after)
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed> {
        (**self).remove(stream, removal).await
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        (**self).snapshot_and_tail()
    }
}
