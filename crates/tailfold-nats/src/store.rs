//! The store: what all operations share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join, try_join};
use tailfold::{
    Boundary, Capabilities, Commit, Committed, Direction, EventBatches, EventStore, Filter, Follow, Head,
    LogBatches, Position, Removal, Removed, Result, Slot, SnapshotAndTail, StoreId, StoredSnapshot,
    StreamBatches, StreamId, Version, VersionRange,
};
use tokio::sync::OnceCell;

use crate::boundary::Turns;
use crate::commit::Place;
use crate::config::NatsConfig;
use crate::continuity::Continuity;
use crate::ends::{Ends, WrittenSubjects};
use crate::names::Names;
use crate::patience::Deadline;
use crate::wire::{Message, Wire};

/// Events and snapshots on NATS JetStream. Clones share the connection.
///
/// ```no_run
/// # async fn open() -> tailfold::Result<()> {
/// use tailfold_nats::NatsStore;
/// let store = NatsStore::connect("nats://127.0.0.1:4222").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct NatsStore {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) wire: Wire,
    pub(crate) names: Names,
    pub(crate) ends: Ends,
    /// What this process has done to snapshots' subjects.
    pub(crate) written: WrittenSubjects,
    pub(crate) id: StoreId,
    pub(crate) continuity: Continuity,
    pub(crate) deadline: Duration,
    pub(crate) immutable: bool,
    pub(crate) several_streams: bool,
    /// The server can check that nothing was added to a category.
    pub(crate) checks_categories: bool,
    /// Of decisions on the same category.
    pub(crate) turns: Turns,
    /// A consumer may have several filters.
    pub(crate) several_filters: bool,
    /// Seconds until the server removes a snapshot that is not written again, where it can do so for one message.
    pub(crate) snapshot_ttl: Option<u64>,
    /// Set once the snapshots' stream is known to remove nothing by itself but what carries its own time to
    /// live.
    pub(crate) lasting: OnceCell<()>,
    pub(crate) may_change_streams: bool,
    /// Days after which the parts of a snapshot that is in use are written again.
    pub(crate) renew_parts_after: i64,
}

impl NatsStore {
    /// Connects with the defaults of [`NatsConfig`]; creates the store's streams if they are missing.
    ///
    /// # Errors
    /// Those of [`NatsConfig::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        url.parse::<NatsConfig>()?.connect().await
    }

    /// Bytes that the store's streams take on the server, events and snapshots together, as it tells them: one copy of each,
    /// however many replicas there are.
    ///
    /// # Errors
    /// `Unavailable` if the server does not answer.
    pub async fn bytes(&self) -> Result<u64> {
        let Shared { names, .. } = &*self.shared;
        let facts = try_join(self.shared.facts(&names.events), self.shared.facts(&names.snapshots)).await;
        let (events, snapshots) = facts.map_err(|error| error.during("ask for the size of the streams"))?;
        Ok(events.state.bytes + snapshots.state.bytes)
    }

    /// Sends what is still on its way and closes the connection. Streams and data stay; clones fail from then on.
    ///
    /// # Errors
    /// `Unavailable` if the connection is gone.
    pub async fn close(&self) -> Result<()> {
        self.shared.wire.closed.store(true, Ordering::Relaxed);
        self.shared.wire.client.drain().await.map_err(|error| {
            tailfold::Error::unavailable(tailfold::Outcome::NotDone, "close the connection").caused_by(error)
        })
    }
}

impl Shared {
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.deadline)
    }
}

#[async_trait]
impl EventStore for NatsStore {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.several_streams = self.shared.several_streams;
        capabilities.erase = !self.shared.immutable;
        capabilities.unchanged = match self.shared.checks_categories {
            true => Boundary::Category,
            false => Boundary::Streams,
        };
        capabilities
    }

    async fn store_id(&self) -> Result<StoreId> {
        Ok(self.shared.id)
    }

    async fn append(&self, commit: Commit) -> Result<Committed> {
        self.shared.append(commit).await
    }

    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches {
        self.shared.read(stream, range, direction)
    }

    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        self.shared.read_all(after, filter, follow)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        let end = self.shared.end_from_leader(stream, self.shared.deadline()).await;
        Ok(end.map_err(|error| error.during(format!("head of stream `{stream}`")))?.head())
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        self.shared.streams(filter, after)
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed> {
        self.shared.remove(stream, removal).await
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        Some(self)
    }
}

#[async_trait]
impl SnapshotAndTail for NatsStore {
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        at_or_below: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)> {
        let ends = try_join(self.shared.newest(slot, at_or_below), self.shared.last_seen(stream));
        let (ends, ahead) = match at_or_below {
            None => join(ends, self.shared.likely_tail(stream)).await,
            Some(_) => (ends.await, Vec::new()),
        };
        let (snapshot, mut last) = ends?;
        let from = snapshot.as_ref().map_or(Version::ZERO, |snapshot| snapshot.head.version);
        if at_or_below.is_none() {
            self.shared.ends.note_base(stream, from);
        }
        if self.shared.continuity.is_replicated() && version_of(last.as_ref())? < from {
            // The replica that gave the snapshot was faster than the one that gave the commit.
            last = self.shared.last_from_leader(stream, self.shared.deadline()).await?;
        }
        let range = VersionRange::from(from).up_to(at_or_below);
        Ok((snapshot, self.shared.read_up_to(stream, last, ahead, range, Direction::Forward)))
    }
}

fn version_of(last: Option<&Message>) -> Result<Version> {
    last.map_or(Ok(Version::ZERO), |last| Place::of(last).map(|place| place.last))
}

impl fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { wire, names, id, .. } = &*self.shared;
        f.debug_struct("NatsStore").field("id", id).field("names", names).field("wire", wire).finish()
    }
}
