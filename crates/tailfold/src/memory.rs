//! The in-memory store: the contract in its shortest form, and the store to read first.
//!
//! `events.rs` is the log, `snapshots.rs` the snapshots. Both are plain ordered maps behind one lock, which is held for
//! one step at a time: a commit, or a page of a read. No user code runs under it.

mod events;
mod snapshots;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use self::events::Log;
use self::snapshots::Snapshots;
use crate::event::Position;
use crate::store::StoreId;

/// Most events, streams or snapshots in one batch of a read.
const BATCH: usize = 256;

/// Events and snapshots in memory, for tests, prototypes and caches. It can do all that a store can ([`Capabilities::ALL`])
/// except outlive its process.
///
/// Nothing in it waits, so each task that uses it lets others have their turn after every 128 steps or so, as tokio's own
/// resources do.
///
/// Clones share the store. Reads copy one batch of up to 256 events at a time and see every append that was acknowledged
/// before they began.
///
/// ```
/// use tailfold::{Commit, EventData, EventStore as _, EventStoreExt as _, EventType};
/// use tailfold::{Expected, MemoryStore, NewEvent, StreamId, VersionRange};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> tailfold::Result<()> {
/// let store = MemoryStore::new();
/// let stream: StreamId = "account/1787".parse()?;
/// let opened = NewEvent::new(EventData::new(EventType::new("account.opened")?, "{}"))?;
/// store.append(Commit::new(stream.clone(), Expected::NoStream, vec![opened])).await?;
/// assert_eq!(store.read_to_vec(&stream, VersionRange::ALL).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// [`Capabilities::ALL`]: crate::Capabilities::ALL
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    id: StoreId,
    contents: Mutex<Contents>,
    // Wakes live readers; always the position of the newest event.
    newest: watch::Sender<Position>,
}

#[derive(Default)]
struct Contents {
    log: Log,
    snapshots: Snapshots,
}

impl MemoryStore {
    /// An empty store with a fresh id.
    pub fn new() -> Self {
        let newest = watch::Sender::new(Position::ZERO);
        Self { shared: Arc::new(Shared { id: StoreId::fresh(), contents: Mutex::default(), newest }) }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.shared.contents.lock().expect("nothing panics while it holds the lock")
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = self.contents();
        f.debug_struct("MemoryStore")
            .field("id", &self.shared.id)
            .field("events", &contents.log.len())
            .field("snapshots", &contents.snapshots.len())
            .finish()
    }
}

// The testkit runs the whole contract against this store; here is what only this store promises.
#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::{
        Commit, Day, Direction, EventData, EventStore, EventStoreExt as _, EventType, Expected, Filter, Head,
        Keep, NewEvent, Removal, Result, Save, Slot, SlotFilter, SnapshotStore as _, StoredSnapshot,
        StreamId, Timestamp, Version, VersionRange,
    };

    fn commit(stream: &StreamId, events: usize) -> Commit {
        let event = || NewEvent::new(EventData::new(EventType::new("counted").unwrap(), "1")).unwrap();
        Commit::new(stream.clone(), Expected::Any, (0..events).map(|_| event()).collect())
    }

    #[tokio::test]
    async fn clones_share_the_store() {
        let (store, stream) = (MemoryStore::new(), "a/1".parse().unwrap());
        store.clone().append(commit(&stream, 3)).await.unwrap();
        assert_eq!(store.read_to_vec(&stream, VersionRange::ALL).await.unwrap().len(), 3);
        assert_eq!(store.store_id().await.unwrap(), store.clone().store_id().await.unwrap());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn tasks_that_do_nothing_else_take_turns() {
        let store = MemoryStore::new();
        let left = Arc::new(std::sync::atomic::AtomicI64::new(20_000));
        let tasks = (0..64).map(|task| {
            let (store, left) = (store.clone(), left.clone());
            tokio::spawn(async move {
                let stream = format!("a/{task}").parse().unwrap();
                let mut done = 0;
                while left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0 {
                    // A command reads, and then appends.
                    store.read_to_vec(&stream, VersionRange::from(Version(u64::MAX))).await.unwrap();
                    store.append(commit(&stream, 1)).await.unwrap();
                    done += 1;
                }
                done
            })
        });
        let done: Vec<u64> =
            futures_util::future::join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        assert!(done.iter().all(|done| (150..600).contains(done)), "{done:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn others_have_their_turn_beside_whatever_a_task_does() {
        let (store, stream): (_, StreamId) = (MemoryStore::new(), "a/1".parse().unwrap());
        let slot = Slot::new("f", "0123456789abcdef".parse().unwrap(), "a/1").unwrap();
        let chain = crate::Chain::genesis(&stream);
        let head = Head { version: Version(1), chain };
        let kept = StoredSnapshot { head, bytes: "state".into(), used: Day(0) };
        let save = Save { head, bytes: "state".into(), keep: Keep::Newest, day: Day(0) };
        store.append(commit(&stream, 1)).await.unwrap();
        beside_another("append", async || store.append(commit(&stream, 1)).await).await;
        beside_another("read", async || store.read_to_vec(&stream, VersionRange::ALL).await).await;
        beside_another("read_all", async || store.read_all_to_vec(Position::ZERO, Filter::all()).await).await;
        beside_another("head", async || store.head(&stream).await).await;
        beside_another("streams", async || store.streams_to_vec(Filter::all()).await).await;
        let erase = || Removal::erase(Timestamp::from_micros(0));
        beside_another("remove", async || store.remove(&stream, erase()).await).await;
        beside_another("save", async || store.save(&slot, save.clone()).await).await;
        beside_another("newest", async || store.newest(&slot, None).await).await;
        beside_another("list", async || store.list(SlotFilter::all()).try_concat().await).await;
        beside_another("mark_used", async || store.mark_used(&[(slot.clone(), head.version)], Day(0)).await)
            .await;
        beside_another("compare_and_remove", async || store.compare_and_remove(&slot, &kept).await).await;
        beside_another("sweep", async || store.sweep(SlotFilter::all(), Day(0)).await).await;
        beside_another("forget", async || store.forget("a/1").await).await;
    }

    /// Fails unless a task that takes one step after another lets another one run.
    async fn beside_another<T>(name: &str, step: impl AsyncFn() -> Result<T>) {
        let other = tokio::spawn(async {});
        for done in 0.. {
            if other.is_finished() {
                break;
            }
            assert!(done < 1000, "{name} keeps all others from running");
            step().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_read_copies_one_batch_at_a_time_and_ends_where_it_began() {
        let (store, stream) = (MemoryStore::new(), "a/1".parse().unwrap());
        store.append(commit(&stream, 2 * BATCH + 1)).await.unwrap();
        let mut batches = store.read(&stream, VersionRange::ALL, Direction::Forward);
        let mut sizes = Vec::new();
        while let Some(batch) = batches.try_next().await.unwrap() {
            sizes.push(batch.len());
            store.append(commit(&stream, 1)).await.unwrap();
        }
        assert_eq!(sizes, [BATCH, BATCH, 1]);
    }

    #[tokio::test]
    async fn a_read_of_a_stream_that_is_erased_meanwhile_fails_and_is_never_short() {
        let (store, stream) = (MemoryStore::new(), "a/1".parse().unwrap());
        store.append(commit(&stream, BATCH + 1)).await.unwrap();
        for direction in [Direction::Forward, Direction::Backward] {
            let mut batches = store.read(&stream, VersionRange::ALL, direction);
            batches.try_next().await.unwrap();
            store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
            store.append(commit(&stream, BATCH + 1)).await.unwrap();
            let error = batches.try_next().await.unwrap_err();
            assert!(error.to_string().starts_with("read stream `a/1` from version "), "{error}");
        }
    }
}
