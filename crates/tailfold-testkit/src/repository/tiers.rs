//! Several snapshot stores, nearest first: which one serves, what each of them gets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tailfold::{
    Breaker, Compression, EventMeta, Fold, Keep, MemoryStore, Policy, Rejection, Repository, Rule, Slot,
    SlotFilter, SnapshotConfig, SnapshotMode, SnapshotStore, SnapshotStoreExt as _, Source, State, Store,
    StoredSnapshot, Tier, TierStats, Tiers, Version,
};

use super::folds::{Ledger, LedgerEvent, actor, event, events};
use super::support::{clock, feed, load_right, plain, replace, stream};
use crate::{Fault, FaultySnapshots};

/// A store in memory that misbehaves as told, to stand before the store under test.
pub(super) fn near() -> FaultySnapshots<MemoryStore> {
    FaultySnapshots::new(MemoryStore::new())
}

/// The store under test as a tier that misbehaves as told.
pub(super) fn far(store: &Arc<dyn Store>) -> FaultySnapshots<Arc<dyn Store>> {
    FaultySnapshots::new(store.clone())
}

/// Waits as long as a server on a busy machine may need, unless a case is about time.
pub(super) fn patient(name: &str, store: impl SnapshotStore + 'static) -> Tier {
    Tier::new(name, store).timeout(Duration::from_secs(10)).breaker(Breaker::NEVER)
}

/// A repository with a snapshot every ten events in these tiers.
pub(super) fn over(store: &Arc<dyn Store>, tiers: impl Into<Tiers>) -> Repository<Ledger> {
    let builder = Repository::builder(store.clone()).snapshots(Policy::every(10)).snapshots_in(tiers);
    builder.build().expect("the chain is good")
}

/// The slot and the bytes of what a tier keeps of an actor.
async fn kept(tier: &dyn SnapshotStore, id: &str) -> Vec<(Slot, StoredSnapshot)> {
    let mut kept = Vec::new();
    for info in tier.list_to_vec(SlotFilter::key(stream(id).as_str())).await.expect("list") {
        let found = tier.newest(&info.slot, Some(info.head.version)).await.expect("read");
        kept.extend(found.map(|found| (info.slot, found)));
    }
    kept
}

async fn versions(tier: &dyn SnapshotStore, id: &str) -> Vec<u64> {
    kept(tier, id).await.iter().map(|(_, snapshot)| snapshot.head.version.0).collect()
}

/// What the repository counted in a tier.
pub(super) async fn counted(repository: &Repository<Ledger>, name: &str) -> TierStats {
    let stats = repository.stats().await.expect("stats");
    stats.tiers.into_iter().find(|tier| *tier.name == *name).expect("a tier of that name")
}

/// The nearest tier that has a snapshot serves; the others are not even asked.
pub async fn the_nearest_tier_serves(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let repository = over(&store, [patient("near", near.clone()), patient("far", far.clone())]);
    feed(&repository, &id, events(25), 1).await;
    let before = far.counts().served;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().source, Source::Snapshot(Version(20)));
    assert_eq!(loaded.report().tier.as_deref(), Some("near"));
    assert_eq!(far.counts().served, before);
    assert_eq!(counted(&repository, "near").await.requests.get("hit"), Some(&1));
    assert_eq!(counted(&repository, "far").await.requests.get("hit"), None);
    // The store of events as the only tier, and as the one behind another.
    let own = over(&store, Tier::own());
    let loaded = load_right(&own, &store, &id).await;
    assert_eq!(loaded.report().tier.as_deref(), Some("own"));
    let chain = over(&store, [patient("empty", MemoryStore::new()), Tier::own()]);
    let loaded = load_right(&chain, &store, &id).await;
    assert_eq!(loaded.report().tier.as_deref(), Some("own"));
    assert!(loaded.report().rejected.is_empty(), "absent is not failed: {:?}", loaded.report());
    // An empty stream, and a replay, come from no tier.
    assert_eq!(chain.load(actor()).await.expect("load").report().tier, None);
    let replayed = chain.load(&id).without_snapshots().await.expect("load");
    assert_eq!(replayed.report().tier, None);
}

/// What is wrong with a snapshot of the nearest tier says nothing about the next tier's of the same version; and it is
/// repaired where it was wrong, and nowhere else.
pub async fn a_poisoned_tier_does_not_hide_the_next(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let repository = over(&store, [patient("near", near.clone()), patient("far", far.clone())]);
    feed(&repository, &id, events(23), 1).await;
    let poisons = [
        Fault::Empty,
        Fault::Truncate(50),
        Fault::FlipBit(999),
        Fault::Foreign(Bytes::from_static(b"{}")),
        Fault::ShiftVersion(2),
        Fault::ShiftVersion(-2),
        Fault::OtherHistory,
    ];
    for poison in poisons {
        near.always(Some(poison.clone()));
        let loaded = load_right(&repository, &store, &id).await;
        let report = loaded.report();
        assert_eq!(report.source, Source::Snapshot(Version(20)), "{poison:?}: {report:?}");
        assert_eq!(report.tier.as_deref(), Some("far"), "{poison:?}: {report:?}");
        assert!(!report.rejected.is_empty(), "{poison:?}: {report:?}");
        assert!(report.rejected.iter().all(|one| &*one.tier == "near"), "{poison:?}: {report:?}");
        near.always(None);
        repository.flush().await;
    }
    // Wrong bytes that are really there make room, and are replaced by those that served.
    let (slot, good) = kept(&near, &id).await.pop().expect("one");
    let beneath: Arc<dyn Store> = Arc::new(near.inner().clone());
    replace(&beneath, &slot, &good, Bytes::from_static(b"not a snapshot")).await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().rejected.first().map(|one| one.reason), Some(Rejection::Corrupt));
    assert_eq!(loaded.report().tier.as_deref(), Some("far"));
    repository.flush().await;
    assert_eq!(kept(&near, &id).await.pop().expect("repaired").1.bytes, good.bytes);
    assert_eq!(far.counts().faults.len(), 0);
    assert_eq!(versions(&far, &id).await, [20], "nothing was wrong there");
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().tier.as_deref(), Some("near"));
}

/// A snapshot of another history is rejected in each tier that has it, and none of them keeps it.
pub async fn a_snapshot_of_another_history_makes_room_in_every_tier(store: Arc<dyn Store>) {
    if !store.capabilities().erase {
        return;
    }
    let (near, far, id) = (near(), far(&store), actor());
    let repository = over(&store, [patient("near", near.clone()), patient("far", far.clone())]);
    feed(&repository, &id, events(30), 1).await;
    let (slot, snapshot) = kept(&far, &id).await.pop().expect("one");
    // Erased and begun again by a process that knows nothing of the tiers; the old snapshots are still there.
    store
        .remove(&stream(&id), tailfold::Removal::erase(tailfold::Timestamp::from_micros(0)))
        .await
        .expect("erase");
    feed(&plain(&store), &id, events(12).into_iter().rev().collect(), 1).await;
    replace(&store, &slot, &snapshot, snapshot.bytes.clone()).await;
    let loaded = load_right(&repository, &store, &id).await;
    let rejected: Vec<_> =
        loaded.report().rejected.iter().map(|one| (one.tier.to_string(), one.reason)).collect();
    assert_eq!(
        rejected,
        [("near".to_owned(), Rejection::Ahead), ("far".to_owned(), Rejection::Ahead)],
        "{:?}",
        loaded.report()
    );
    repository.flush().await;
    assert_eq!((versions(&near, &id).await, versions(&far, &id).await), (vec![12], vec![12]));
    assert_eq!(load_right(&repository, &store, &id).await.report().source, Source::Snapshot(Version(12)));
}

/// What a farther tier had to serve is copied to the nearer ones, byte for byte and in the background.
pub async fn nearer_tiers_are_filled_with_what_a_farther_one_served(store: Arc<dyn Store>) {
    let (first, second, far, id) = (near(), near(), far(&store), actor());
    let tiers =
        || [patient("first", first.clone()), patient("second", second.clone()), patient("far", far.clone())];
    let repository = over(&store, tiers());
    feed(&repository, &id, events(25), 1).await;
    let (_, original) = kept(&far, &id).await.pop().expect("one");
    for tier in [&first, &second] {
        tier.forget(stream(&id).as_str()).await.expect("forget");
    }
    // A load of the past fills nothing: what served it is not the newest.
    repository.load(&id).at(22).await.expect("load");
    repository.flush().await;
    assert_eq!((versions(&first, &id).await, versions(&second, &id).await), (vec![], vec![]));
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().tier.as_deref(), Some("far"));
    repository.flush().await;
    for (tier, name) in [(&first, "first"), (&second, "second")] {
        assert_eq!(kept(tier, &id).await.pop().expect("filled").1.bytes, original.bytes);
        assert_eq!(counted(&repository, name).await.requests.get("filled"), Some(&1));
    }
    // A tier that failed is left alone: it has what it has, or will be filled by a later load.
    let saves = first.counts().saves;
    first.always(Some(Fault::Fail));
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().tier.as_deref(), Some("second"));
    first.always(None);
    repository.flush().await;
    assert_eq!(first.counts().saves, saves);
    assert_eq!(load_right(&repository, &store, &id).await.report().tier.as_deref(), Some("first"));
    let stats = repository.stats().await.expect("stats");
    let stored = stats.tiers.last().and_then(|far| far.requests.get("stored"));
    assert_eq!(stats.written.get("stored"), stored, "copies are not snapshots: {stats:?}");
}

/// Many loads of an actor that a nearer tier has lost copy its snapshot once or twice, and none waits for that.
pub async fn many_loads_at_once_fill_a_tier_once(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let repository = over(&store, [patient("near", near.clone()), patient("far", far.clone())]);
    feed(&repository, &id, events(10), 1).await;
    near.forget(stream(&id).as_str()).await.expect("forget");
    let saves = near.counts().saves;
    near.always(Some(Fault::Hang(Duration::from_millis(300))));
    let loads = (0..64).map(|_| {
        let (repository, id) = (repository.clone(), id.clone());
        tokio::spawn(async move { repository.load(&id).await.expect("load").report().tier.clone() })
    });
    for tier in futures_util::future::join_all(loads).await {
        assert_eq!(tier.expect("no load panics").as_deref(), Some("far"));
    }
    near.always(None);
    repository.flush().await;
    assert_eq!(load_right(&repository, &store, &id).await.report().tier.as_deref(), Some("near"));
    let saves = near.counts().saves - saves;
    assert!((1..=4).contains(&saves), "64 loads led to {saves} copies");
}

/// A tier that missed saves serves what it has, as long as that is right; the newest of all is found by asking all.
pub async fn a_stale_tier_serves_until_the_next_snapshot(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let repository = over(&store, [patient("near", near.clone()), patient("far", far.clone())]);
    feed(&repository, &id, events(10), 1).await;
    near.always(Some(Fault::LoseSaves));
    feed(&repository, &id, events(15), 1).await;
    near.always(None);
    let newest = repository.latest_snapshot(&id).await.expect("read").expect("there is one");
    assert_eq!(newest.head.version, Version(20));
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().source, Source::Snapshot(Version(10)));
    assert_eq!(loaded.report().tier.as_deref(), Some("near"));
    // Fifteen events later than the one it began with, a snapshot was due.
    repository.flush().await;
    assert_eq!((versions(&near, &id).await, versions(&far, &id).await), (vec![25], vec![25]));
}

/// A hit in any tier marks the snapshot used in all of them, so that none sweeps what another serves.
pub async fn use_is_marked_in_all_tiers(store: Arc<dyn Store>) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (near, far, id, clock) = (near(), far(&store), actor(), clock());
    let open = || {
        Repository::<Ledger>::builder(store.clone())
            .snapshots(Policy::every(10))
            .snapshots_in([patient("near", near.clone()), patient("far", far.clone())])
            .clock(clock.clone())
            .build()
            .expect("build")
    };
    feed(&open(), &id, events(10), 1).await;
    for _ in 0..3 {
        clock.advance(60 * DAY);
        let today = tailfold::Clock::now(&clock).day();
        let repository = open();
        let loaded = load_right(&repository, &store, &id).await;
        assert_eq!(loaded.report().tier.as_deref(), Some("near"));
        repository.flush().await;
        for tier in [&near as &dyn SnapshotStore, &far] {
            assert_eq!(kept(tier, &id).await.pop().expect("in use").1.used, today);
        }
        // Even where the nearest knows already, because it was filled or another process was first.
        clock.advance(DAY);
        let today = tailfold::Clock::now(&clock).day();
        let (slot, snapshot) = kept(&near, &id).await.pop().expect("in use");
        near.mark_used(&[(slot, snapshot.head.version)], today).await.expect("mark");
        repository.load(&id).await.expect("load");
        repository.flush().await;
        assert_eq!(kept(&far, &id).await.pop().expect("in use").1.used, today);
    }
}

/// A snapshot that travelled in the events' transaction reaches the other tiers after the commit.
pub async fn inline_snapshots_reach_the_other_tiers(store: Arc<dyn Store>) {
    let (near, id) = (near(), actor());
    let config = SnapshotConfig {
        mode: SnapshotMode::Inline,
        policy: Rule::Every(10),
        compression: Compression::None,
        ..Default::default()
    };
    let build = |tiers: Tiers| {
        Repository::<Ledger>::builder(store.clone()).snapshots(config.clone()).snapshots_in(tiers).build()
    };
    let error = build(patient("near", near.clone()).into()).expect_err("no tier is in the transaction");
    assert_eq!(*error.kind(), tailfold::ErrorKind::Unsupported);
    let built = build([patient("near", near.clone()), Tier::own()].into());
    if !store.capabilities().inline_snapshot {
        assert_eq!(*built.expect_err("it cannot").kind(), tailfold::ErrorKind::Unsupported);
        return;
    }
    let repository = built.expect("build");
    let loaded = feed(&repository, &id, events(7), 7).await;
    // The tier beside hangs on, the commit does not.
    near.always(Some(Fault::Hang(Duration::from_secs(2))));
    let started = std::time::Instant::now();
    repository.append(loaded, (8..=14).map(event).collect::<Vec<_>>()).await.expect("append");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(versions(&store, &id).await, [14]);
    near.always(None);
    repository.flush().await;
    assert_eq!(kept(near.inner(), &id).await, kept(&store, &id).await);
    let stats = repository.stats().await.expect("stats");
    assert_eq!(stats.written.get("stored"), Some(&1), "{stats:?}");
}

/// Two releases side by side over the same tiers: both hit, in all of them.
pub async fn two_serials_side_by_side_over_tiers(store: Arc<dyn Store>) {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
    #[state(name = "ledger", serial = 2)]
    struct NextLedger {
        ledger: Ledger,
        seen: u64,
    }
    impl Fold for NextLedger {
        type Event = LedgerEvent;
        fn apply(&mut self, event: LedgerEvent, meta: &EventMeta<'_>) {
            self.seen += 1;
            self.ledger.apply(event, meta);
        }
    }
    let (near, far, id) = (near(), far(&store), actor());
    let tiers = || [patient("near", near.clone()), patient("far", far.clone())];
    let old = over(&store, tiers());
    let builder = Repository::<NextLedger>::builder(store.clone());
    let new = builder.snapshots(Policy::every(10)).snapshots_in(tiers()).build().expect("build");
    feed(&old, &id, events(20), 1).await;
    assert_eq!(new.load(&id).await.expect("load").report().source, Source::Replay);
    new.flush().await;
    feed(&old, &id, events(20), 1).await;
    for down in [None, Some(Fault::Fail)] {
        near.always(down.clone());
        let tier = if down.is_none() { "near" } else { "far" };
        let (ours, theirs) = (load_right(&old, &store, &id).await, new.load(&id).await.expect("load"));
        assert_eq!((*ours.state()).clone(), theirs.state().ledger);
        assert_eq!(
            (ours.report().source, ours.report().tier.as_deref()),
            (Source::Snapshot(Version(40)), Some(tier))
        );
        assert_eq!(theirs.report().tier.as_deref(), Some(tier));
        assert!(matches!(theirs.report().source, Source::Snapshot(_)));
    }
    near.always(None);
    old.flush().await;
    new.flush().await;
    for tier in [&near as &dyn SnapshotStore, &far] {
        assert_eq!(kept(tier, &id).await.len(), 2, "one a serial");
    }
}

/// With more than one kept, an older one serves the past from whichever tier has it.
pub async fn older_snapshots_are_looked_for_in_every_tier(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let tiers = || [patient("near", near.clone()), patient("far", far.clone())];
    let config = SnapshotConfig { policy: Rule::Every(10), keep: Keep::All, ..Default::default() };
    let builder = Repository::<Ledger>::builder(store.clone()).snapshots(config);
    let repository = builder.snapshots_in(tiers()).build().expect("build");
    let mut loaded = repository.load(&id).await.expect("load");
    for event in events(35) {
        loaded = repository.append(loaded, event).await.expect("append").into_loaded();
        repository.flush().await;
    }
    assert_eq!(versions(&near, &id).await, [10, 20, 30]);
    let (slot, _) = kept(&near, &id).await.pop().expect("the newest");
    for version in [10, 20] {
        let old = near.newest(&slot, Some(Version(version))).await.expect("read").expect("there");
        assert!(near.compare_and_remove(&slot, &old).await.expect("remove"));
    }
    let past = repository.load(&id).at(25).await.expect("load");
    assert_eq!(past.report().source, Source::Snapshot(Version(20)));
    assert_eq!(past.report().tier.as_deref(), Some("far"));
    assert_eq!(past.state(), repository.capture(&id, ..=25).await.expect("capture").state());
}
