//! The reference store keeps every promise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::ready;
use std::time::Duration;

use tailfold::{
    ByPosition, Delivery, Keep, ManualClock, MemoryStore, Repository, Retry, SlotFilter, SnapshotConfig,
    SnapshotStoreExt as _, Source, Subscription, Version,
};
use tailfold_testkit::repository::folds::{Ledger, LedgerEvent, events};
use tailfold_testkit::{FaultySnapshots, Fixture};

async fn fixture() -> Fixture<MemoryStore> {
    let store = MemoryStore::new();
    // It does not outlive its process, so that a clone is the same place opened again.
    Fixture::new(store.clone()).reopening(move || ready(store.clone()))
}

tailfold_testkit::store_conformance!(fixture);

/// What a repository promises, over the reference store.
mod repository {
    use super::fixture;

    tailfold_testkit::repository_conformance!(fixture);
}

/// The in-memory store has the lifecycle of every other: policy, retention, use, sweep, count.
#[tokio::test]
async fn the_in_memory_stores_snapshot_lifecycle() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (store, clock) = (MemoryStore::new(), ManualClock::at("2026-01-01".parse().unwrap()));
    let open = || {
        let config = SnapshotConfig {
            policy: "every:10".parse().unwrap(),
            keep: Keep::Last(2.try_into().unwrap()),
            unused_days: Some(30),
            ..Default::default()
        };
        Repository::<Ledger>::builder(store.clone()).snapshots(config).clock(clock.clone()).build().unwrap()
    };
    let versions = || async {
        let listed = store.list_to_vec(SlotFilter::all()).await.unwrap();
        listed.iter().map(|info| (info.slot.key().to_owned(), info.head.version.0)).collect::<Vec<_>>()
    };
    let repository = open();
    for id in ["1", "2"] {
        let mut loaded = repository.load(id).await.unwrap();
        for event in events(35) {
            loaded = repository.append(loaded, event).await.unwrap().into_loaded();
            repository.flush().await;
        }
    }
    let kept = |key: &str| [(format!("ledger/{key}"), 20), (format!("ledger/{key}"), 30)];
    assert_eq!(versions().await, [kept("1"), kept("2")].concat());
    assert_eq!(repository.stats().await.unwrap().snapshots, 4);
    // Thirty days later the newest of the first actor is used; a day later the rest is swept.
    clock.advance(30 * DAY);
    let later = open();
    assert_eq!(later.load("1").await.unwrap().report().source, Source::Snapshot(Version(30)));
    later.flush().await;
    clock.advance(DAY);
    let last = open();
    assert_eq!(last.load("1").await.unwrap().report().source, Source::Snapshot(Version(30)));
    last.flush().await;
    assert_eq!(versions().await, [("ledger/1".to_owned(), 30)]);
    assert_eq!(last.stats().await.unwrap().snapshots, 1);
    assert_eq!(last.load("2").await.unwrap().state().count, 35);
}

/// However many streams a batch says were erased, what is parked is looked at once for it.
#[tokio::test]
async fn many_erased_streams_cost_one_look_at_what_is_parked() {
    let (store, kept) = (MemoryStore::new(), FaultySnapshots::new(MemoryStore::new()));
    let ledgers = Repository::<Ledger>::builder(store.clone()).build().unwrap();
    let start = || {
        let handler = |delivery: &Delivery<LedgerEvent>| match delivery.event() {
            Some(_) => Err("not that".into()),
            None => Ok(()),
        };
        let model = ByPosition::new(kept.clone(), "seen", handler).unwrap();
        let at_once = Retry { limit: 0, ..Retry::default() };
        Subscription::builder(store.clone(), "seen", model).retry(at_once).start().unwrap()
    };
    let loaded = ledgers.load("stays").await.unwrap();
    ledgers.append(loaded, events(20)).await.unwrap();
    let subscription = start();
    subscription.wait_until_current().await.unwrap_err();
    subscription.stop().await.unwrap();
    let mut last = None;
    for number in 0..20 {
        let loaded = ledgers.load(number.to_string()).await.unwrap();
        ledgers.append(loaded, events(1)).await.unwrap();
        last = ledgers.erase(number.to_string()).await.unwrap().tombstone;
    }
    let calls = kept.counts().calls;
    let subscription = start();
    subscription.wait_for(last).await.unwrap();
    let calls = kept.counts().calls - calls;
    // It is looked at once when the work begins, too.
    assert!(calls < 60, "{calls} calls for 20 parked events");
    assert_eq!(Subscription::parked(&kept, "seen").await.unwrap().len(), 20);
    subscription.stop().await.unwrap();
}
