//! A store in which something happens between two reads of one operation.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tailfold::{
    Capabilities, Commit, Committed, Day, Direction, EventBatches, EventStore, Filter, Follow, Head,
    LogBatches, Position, Removal, Removed, Result, Save, Saved, Slot, SlotFilter, SnapshotAndTail,
    SnapshotBatches, SnapshotStore, Store, StoreId, StoredSnapshot, StreamBatches, StreamId, Swept, Version,
    VersionRange,
};

/// A store over another that lets something happen right before one of its reads: an erase by another process, say, in
/// the middle of a load. Clones share the store and what is to happen.
///
/// Trying every read in turn shows whether an operation of several reads is right whatever happens between them:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::sync::Arc;
/// use tailfold::{EventStore as _, MemoryStore, Removal, Store, StreamId, Timestamp};
/// use tailfold_testkit::InterruptedReads;
/// let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
/// let interrupted = InterruptedReads::new(store.clone());
/// let stream: StreamId = "account/1787".parse().unwrap();
/// for read in 0.. {
///     let (store, stream) = (store.clone(), stream.clone());
///     interrupted.before(read, async move {
///         store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
///     });
///     // The operation that is tried comes here.
///     if !interrupted.finish() {
///         break; // It has no such read.
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct InterruptedReads {
    inner: Arc<dyn Store>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    /// Reads that are still to come before it.
    left: u64,
    step: Option<BoxFuture<'static, ()>>,
}

impl InterruptedReads {
    /// Passes everything on, until told otherwise.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Lets `step` happen right before a read, counted from now on: 0 is the next one. Replaces what has not happened yet.
    /// Counted are reads of a stream and of the log, each when it is first polled, heads, and reads of a snapshot.
    pub fn before(&self, read: u64, step: impl Future<Output = ()> + Send + 'static) {
        *self.plan() = Plan { left: read, step: Some(Box::pin(step)) };
    }

    /// Returns whether the last step has happened. If it has not, it never will.
    pub fn finish(&self) -> bool {
        self.plan().step.take().is_none()
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().expect("nothing panics while it holds the lock")
    }

    /// Counts a read, and does what is to happen before it.
    async fn begin_read(&self) {
        let step = {
            let mut plan = self.plan();
            match plan.left.checked_sub(1) {
                Some(left) => {
                    plan.left = left;
                    None
                }
                None => plan.step.take(),
            }
        };
        if let Some(step) = step {
            step.await;
        }
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a method that is not passed on would answer for another store"
)]
#[async_trait]
impl EventStore for InterruptedReads {
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
        let (this, stream) = (self.clone(), stream.clone());
        let begun = async move {
            this.begin_read().await;
            this.inner.read(&stream, range, direction)
        };
        stream::once(begun).flatten().boxed()
    }

    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        let this = self.clone();
        let begun = async move {
            this.begin_read().await;
            this.inner.read_all(after, filter, follow)
        };
        stream::once(begun).flatten().boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        self.begin_read().await;
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

#[deny(
    clippy::missing_trait_methods,
    reason = "a method that is not passed on would answer for another store"
)]
#[async_trait]
impl SnapshotAndTail for InterruptedReads {
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        at_or_below: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)> {
        self.begin_read().await;
        let inner =
            self.inner.snapshot_and_tail().expect("it is offered only where the store beneath has it");
        inner.newest_with_tail(slot, stream, at_or_below).await
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a method that is not passed on would answer for another store"
)]
#[async_trait]
impl SnapshotStore for InterruptedReads {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        self.begin_read().await;
        self.inner.newest(slot, at_or_below).await
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        self.inner.save(slot, save).await
    }

    async fn save_many(&self, saves: &[(Slot, Save)]) -> Vec<Result<Saved>> {
        self.inner.save_many(saves).await
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        self.inner.list(filter)
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        self.inner.compare_and_remove(slot, read).await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        self.inner.mark_used(used, day).await
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        self.inner.sweep(filter, unused_since).await
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        self.inner.forget(key).await
    }
}

impl fmt::Debug for InterruptedReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptedReads").field("inner", &self.inner).finish_non_exhaustive()
    }
}
