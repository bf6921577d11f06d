//! Steps that many cases take.

use std::sync::Arc;

use bytes::Bytes;
use tailfold::{
    EventStore as _, Keep, Loaded, ManualClock, Policy, Removal, Repository, Save, Slot, SlotFilter,
    SnapshotStore as _, SnapshotStoreExt as _, Store, StoredSnapshot, StreamId, Timestamp,
};

use super::folds::{Ledger, LedgerEvent};

/// A repository with a snapshot every `n` events.
pub(super) fn every(store: &Arc<dyn Store>, n: u64) -> Repository<Ledger> {
    Repository::builder(store.clone()).snapshots(Policy::every(n)).build().expect("the store can do that")
}

/// A repository that never takes part in snapshots.
pub(super) fn plain(store: &Arc<dyn Store>) -> Repository<Ledger> {
    Repository::builder(store.clone()).build().expect("nothing can be wrong")
}

/// Appends in commits of `size`, each to what the one before returned.
pub(super) async fn feed(
    repository: &Repository<Ledger>,
    id: &str,
    events: Vec<LedgerEvent>,
    size: usize,
) -> Loaded<Ledger> {
    let mut loaded = repository.load(id).await.expect("load before feeding");
    for commit in events.chunks(size) {
        loaded =
            repository.append(loaded, commit.to_vec()).await.expect("append while feeding").into_loaded();
    }
    repository.flush().await;
    loaded
}

/// The state as the plain replay has it: what every load must equal.
pub(super) async fn truth(store: &Arc<dyn Store>, id: &str) -> Ledger {
    plain(store).load(id).await.expect("plain replay").state().clone()
}

/// Loads and compares with the plain replay.
pub(super) async fn load_right(
    repository: &Repository<Ledger>,
    store: &Arc<dyn Store>,
    id: &str,
) -> Loaded<Ledger> {
    let loaded = repository.load(id).await.expect("load");
    assert_eq!(*loaded.state(), truth(store, id).await, "report: {:?}", loaded.report());
    loaded
}

pub(super) fn stream(id: &str) -> StreamId {
    StreamId::new("ledger", id).expect("a good id")
}

/// The slot and the stored bytes of an actor's only snapshot.
pub(super) async fn stored(store: &Arc<dyn Store>, id: &str) -> (Slot, StoredSnapshot) {
    let listed = store.list_to_vec(SlotFilter::key(stream(id).as_str())).await.expect("list");
    assert_eq!(listed.len(), 1, "one snapshot of `{id}`: {listed:?}");
    let slot = listed.into_iter().next().expect("one").slot;
    let snapshot = store.newest(&slot, None).await.expect("read").expect("it was listed");
    (slot, snapshot)
}

/// Puts bytes in the place of a stored snapshot, at the same head.
pub(super) async fn replace(store: &Arc<dyn Store>, slot: &Slot, snapshot: &StoredSnapshot, bytes: Bytes) {
    let save = Save { head: snapshot.head, bytes, keep: Keep::Newest, day: snapshot.used };
    store.save(slot, save).await.expect("a store moves bytes, whatever they are");
}

/// The same where all versions are kept.
pub(super) async fn replace_among_all(
    store: &Arc<dyn Store>,
    slot: &Slot,
    snapshot: &StoredSnapshot,
    bytes: Bytes,
) {
    let save = Save { head: snapshot.head, bytes, keep: Keep::All, day: snapshot.used };
    store.save(slot, save).await.expect("a store moves bytes, whatever they are");
}

/// What a restored backup looks like to a snapshot store that was not restored: the stream is cut back and written anew,
/// the snapshot is still there.
pub(super) async fn rewrite(store: &Arc<dyn Store>, id: &str, events: Vec<LedgerEvent>) {
    let (slot, snapshot) = stored(store, id).await;
    store.remove(&stream(id), Removal::erase(Timestamp::from_micros(0))).await.expect("erase");
    feed(&plain(store), id, events, 1).await;
    replace(store, &slot, &snapshot, snapshot.bytes.clone()).await;
}

pub(super) fn clock() -> ManualClock {
    ManualClock::at("2026-01-01T00:00:00Z".parse().expect("a time"))
}
