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
/// Positions become visible in order: whoever has read up to a position has missed nothing before it.
/// Every future may be dropped at any time: an append then has happened as a whole or not at all.
#[async_trait]
pub trait EventStore: Send + Sync + fmt::Debug {
    /// What this store can do beyond the minimum.
    fn capabilities(&self) -> Capabilities;

    /// Names the history that this store holds. Restoring a backup gives it a new one.
    async fn store_id(&self) -> Result<StoreId>;

    /// Records a commit, all or nothing; on return it is as durable as the store promises.
    ///
    /// Commits that are under way at the same time are recorded in any order; whoever needs an order awaits one before the
    /// next, or says so by [`Expected`].
    ///
    /// Where an expectation fails, the events that stand at expected + 1.. are compared by id and digest: if all are
    /// equal in every stream of the commit, it has happened before and the original receipt is returned, without a
    /// snapshot. That holds for a commit that is the beginning of what was recorded, too. Expectations and repetition are
    /// looked at before [`Commit::unchanged`].
    ///
    /// # Errors
    /// `Conflict` with the actual head; `Invalid` for a commit that breaks a limit; `Unsupported` for a part of the
    /// commit outside [`Capabilities`]; `Unavailable`, with the outcome known or unknown.
    async fn append(&self, commit: Commit) -> Result<Committed>;

    /// The events of one stream, by version, in small batches; nothing for an empty stream.
    /// No event in the range is ever left out: a short read is an error.
    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches;

    /// The events after a position that match, in order of position, in small batches.
    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches;

    /// The last event of a stream; `None` if the stream is empty. A consistent read: it sees every append that was
    /// acknowledged before it began, by whomever.
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>>;

    /// Streams that are not empty, ordered by the bytes of their names, those after `after`, in small batches.
    ///
    /// # Errors
    /// `Unsupported` if the filter names event types or tags.
    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches;

    /// Erases a stream, or cuts off what lies before an origin. See [`Removal`].
    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed>;

    /// Where the store keeps snapshots too and can give one with its tail in one round trip.
    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail>;
}

/// Snapshot and tail in one round trip, for stores that hold both.
#[async_trait]
pub trait SnapshotAndTail: Send + Sync {
    /// The newest snapshot of the slot at or below a version, and the events of the stream from that snapshot's version
    /// *inclusive* (from the start, if there is none) up to that version.
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

/// Events of one stream, in batches.
pub type EventBatches = BoxStream<'static, Result<Vec<RecordedEvent>>>;
/// Events of the whole log, in batches.
pub type LogBatches = BoxStream<'static, Result<LogBatch>>;
/// Streams, in batches.
pub type StreamBatches = BoxStream<'static, Result<Vec<StreamSummary>>>;

/// A part of the log.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// The events that match, in order; may be empty.
    pub events: Vec<RecordedEvent>,
    /// Everything up to this position was looked at: resume after it.
    pub checked_to: Position,
    /// Events that the store looked at to find these, those that match included; where an index or a server finds them, no
    /// more than these.
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
