//! An actor that lives for years.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tailfold::{Policy, Repository, Source, Version};
use tailfold_sqlite::SqliteStore;
use tailfold_testkit::repository::folds::{Ledger, LedgerEvent};

/// 1,000,000 events in one stream: right by replay, right by snapshot, at the end, in the middle and at both sides of a
/// snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_lived_actor_of_1_000_000_events() {
    const EVENTS: u64 = 1_000_000;
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("store")).await.unwrap();
    let repository =
        Repository::<Ledger>::builder(store.clone()).snapshots(Policy::every(100)).build().unwrap();
    let mut loaded = repository.load("1").await.unwrap();
    for first in (0..EVENTS).step_by(4_000) {
        let commit: Vec<_> =
            (first..first + 4_000).map(|n| LedgerEvent::Credited { cents: (n % 97) as i64 - 40 }).collect();
        loaded = repository.append(loaded, commit).await.unwrap().into_loaded();
    }
    repository.close().await.unwrap();
    assert_eq!(loaded.version(), Version(EVENTS));

    // A process of its own, which has nothing in memory.
    store.close().await.unwrap();
    let store = SqliteStore::open(directory.path().join("store")).await.unwrap();
    let repository =
        Repository::<Ledger>::builder(store.clone()).snapshots(Policy::every(100)).build().unwrap();
    let fresh = repository.load("1").await.unwrap();
    assert_eq!(fresh.report().source, Source::Snapshot(Version(EVENTS)), "{:?}", fresh.report());
    assert_eq!(fresh.report().replayed_events, 0);
    let replayed = repository.load("1").without_snapshots().await.unwrap();
    assert_eq!((replayed.report().replayed_events, replayed.head()), (EVENTS, fresh.head()));
    assert_eq!((replayed.state(), loaded.state()), (fresh.state(), fresh.state()));
    let half = repository.load("1").at(EVENTS / 2).await.unwrap();
    assert_eq!(half.state().count, EVENTS / 2);
    let near = repository.catch_up("1", EVENTS - 50).await.unwrap();
    assert!(near.base.is_none() && near.events.len() == 51);
    assert!(repository.catch_up("1", 1).await.unwrap().base.is_some());
    repository.close().await.unwrap();
    store.close().await.unwrap();
}
