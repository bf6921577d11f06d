//! A store in which somebody has edited events: other bytes under the chain of what was recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tailfold::{
    Capabilities, Commit, Committed, Direction, EventBatches, EventStore, Filter, Follow, Head, LogBatches,
    RecordedEvent, Removal, Removed, Result, Save, Saved, Slot, SlotFilter, SnapshotAndTail, SnapshotBatches,
    SnapshotStore, Store, StoreId, StoredSnapshot, StreamBatches, StreamId, Swept, Version, VersionRange,
};

/// Hands out other payloads in place of some; everything else is the store's.
#[derive(Clone, Debug)]
pub(super) struct Edited {
    inner: Arc<dyn Store>,
    payloads: Arc<Mutex<HashMap<(StreamId, Version), Bytes>>>,
}

impl Edited {
    pub(super) fn new(store: &Arc<dyn Store>) -> Self {
        Self { inner: store.clone(), payloads: Arc::default() }
    }

    /// Edits one event, and no other.
    pub(super) fn edit(&self, stream: &StreamId, version: u64, payload: &'static str) {
        let payload = Bytes::from_static(payload.as_bytes());
        let edited = HashMap::from([((stream.clone(), Version(version)), payload)]);
        *self.payloads.lock().unwrap_or_else(PoisonError::into_inner) = edited;
    }

    fn editor(&self) -> impl Fn(&mut [RecordedEvent]) + Send + 'static {
        let payloads = self.payloads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        move |events| {
            for event in events {
                if let Some(payload) = payloads.get(&(event.stream.clone(), event.version)) {
                    event.data.payload = payload.clone();
                }
            }
        }
    }

    fn edited(&self, batches: EventBatches) -> EventBatches {
        let edit = self.editor();
        Box::pin(batches.map_ok(move |mut batch| {
            edit(&mut batch);
            batch
        }))
    }
}

#[async_trait]
impl EventStore for Edited {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn store_id(&self) -> Result<StoreId> {
        self.inner.store_id().await
    }

    async fn append(&self, commit: Commit) -> Result<Committed> {
        self.inner.append(commit).await
    }

    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches {
        self.edited(self.inner.read(stream, range, direction))
    }

    fn read_all(&self, after: tailfold::Position, filter: Filter, follow: Follow) -> LogBatches {
        let edit = self.editor();
        Box::pin(self.inner.read_all(after, filter, follow).map_ok(move |mut batch| {
            edit(&mut batch.events);
            batch
        }))
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        self.inner.head(stream).await
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        self.inner.streams(filter, after)
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed> {
        self.inner.remove(stream, removal).await
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        self.inner.snapshot_and_tail().map(|_| self as &dyn SnapshotAndTail)
    }
}

#[async_trait]
impl SnapshotAndTail for Edited {
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        at_or_below: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)> {
        match self.inner.snapshot_and_tail() {
            Some(store) => {
                let (stored, tail) = store.newest_with_tail(slot, stream, at_or_below).await?;
                Ok((stored, self.edited(tail)))
            }
            None => Err(tailfold::Error::unsupported("the store beneath has no such read")),
        }
    }
}

#[async_trait]
impl SnapshotStore for Edited {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        self.inner.newest(slot, at_or_below).await
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        self.inner.save(slot, save).await
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        self.inner.list(filter)
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        self.inner.compare_and_remove(slot, read).await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: tailfold::Day) -> Result<()> {
        self.inner.mark_used(used, day).await
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: tailfold::Day) -> Result<Swept> {
        self.inner.sweep(filter, unused_since).await
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        self.inner.forget(key).await
    }
}
