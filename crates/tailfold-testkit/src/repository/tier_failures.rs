//! Tiers that fail or hang: what that costs, who notices, and how they come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tailfold::{
    Breaker, ErrorKind, Keep, Policy, Rejection, Repository, Rule, SlotFilter, SnapshotConfig,
    SnapshotStore as _, SnapshotStoreExt as _, Source, Store, Tier, Version,
};

use super::folds::{Ledger, Overdrawn, actor, event, events};
use super::sales::{Shop, Stock};
use super::support::{feed, load_right, stream};
use super::tiers::{counted, far, near, over, patient};
use crate::Fault;

const FOREVER: Duration = Duration::from_secs(3600);

/// A tier that fails or hangs is a miss that is counted under its own name, costs at most its timeout, and the next tier
/// serves.
pub async fn a_failing_or_hanging_tier_is_a_counted_miss(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let hasty = Tier::new("near", near.clone()).timeout(Duration::from_millis(200)).breaker(Breaker::NEVER);
    let repository = over(&store, [hasty, patient("far", far.clone())]);
    feed(&repository, &id, events(15), 1).await;
    for (fault, reason, outcome) in [
        (Fault::Fail, Rejection::Unavailable, "failed"),
        (Fault::Hang(FOREVER), Rejection::TimedOut, "timed_out"),
    ] {
        near.always(Some(fault.clone()));
        let started = Instant::now();
        let loaded = repository.load(&id).await.expect("load");
        let took = started.elapsed();
        let report = loaded.report();
        assert!(took < Duration::from_secs(5), "{fault:?}: {took:?}");
        assert_eq!(report.source, Source::Snapshot(Version(10)), "{fault:?}: {report:?}");
        assert_eq!(report.tier.as_deref(), Some("far"), "{fault:?}");
        let rejected: Vec<_> =
            report.rejected.iter().map(|one| (&*one.tier, one.version, one.reason)).collect();
        assert_eq!(rejected, [("near", None, reason)], "{fault:?}");
        assert_eq!(counted(&repository, "near").await.requests.get(outcome), Some(&1), "{fault:?}");
        near.always(None);
        assert_eq!(load_right(&repository, &store, &id).await.report().tier.as_deref(), Some("near"));
    }
}

/// A tier with many candidates, none of which serves, costs its timeout all the same: that counts for all of them
/// together.
pub async fn a_slow_tier_costs_its_timeout_however_many_candidates_it_has(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let slow = Tier::new("near", near.clone()).timeout(Duration::from_millis(900)).breaker(Breaker::NEVER);
    let config = SnapshotConfig { policy: Rule::Every(1), keep: Keep::All, ..Default::default() };
    let builder = Repository::<Ledger>::builder(store.clone()).snapshots(config);
    let repository = builder.snapshots_in([slow, patient("far", far.clone())]).build().expect("build");
    let mut loaded = repository.load(&id).await.expect("load");
    for event in events(8) {
        loaded = repository.append(loaded, event).await.expect("append").into_loaded();
        repository.flush().await;
    }
    // Each candidate takes 400 ms and is broken.
    let (slot, versions) = {
        let listed = near.list_to_vec(SlotFilter::key(stream(&id).as_str())).await.expect("list");
        (listed.first().expect("eight").slot.clone(), listed.len())
    };
    assert_eq!(versions, 8);
    for version in 1..=8 {
        let kept = near.inner().newest(&slot, Some(Version(version))).await.expect("read").expect("there");
        let beneath: Arc<dyn Store> = Arc::new(near.inner().clone());
        super::support::replace_among_all(&beneath, &slot, &kept, bytes::Bytes::from_static(b"?")).await;
    }
    near.always(Some(Fault::Hang(Duration::from_millis(400))));
    let calls = near.counts().calls;
    let loaded = repository.load(&id).await.expect("load");
    assert_eq!(loaded.report().tier.as_deref(), Some("far"));
    let last = loaded.report().rejected.last().expect("several");
    assert_eq!((&*last.tier, last.reason), ("near", Rejection::TimedOut), "{:?}", loaded.report());
    let calls = near.counts().calls - calls;
    assert!(calls <= 4, "400 ms each fit twice into 900 ms, {calls} were made");
    near.always(None);
}

/// The breaker opens after failures in a row, leaves the tier alone, probes after a pause, and closes when that succeeds:
/// without a restart, and without a load that waits for it.
pub async fn a_breaker_opens_skips_probes_and_recovers(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let pause = Duration::from_secs(1);
    let breaker = Breaker { failures: 3, first_pause: pause, longest_pause: pause };
    let guarded = Tier::new("near", near.clone()).timeout(Duration::from_secs(5)).breaker(breaker);
    let repository = over(&store, [guarded, patient("far", far.clone())]);
    feed(&repository, &id, events(15), 1).await;
    let reason = || async {
        let loaded = repository.load(&id).await.expect("load");
        loaded.report().rejected.first().map(|one| one.reason)
    };
    near.always(Some(Fault::Fail));
    for _ in 0..3 {
        assert!(!counted(&repository, "near").await.open);
        assert_eq!(reason().await, Some(Rejection::Unavailable));
    }
    assert!(counted(&repository, "near").await.open);
    let calls = near.counts().calls;
    for _ in 0..5 {
        assert_eq!(reason().await, Some(Rejection::BreakerOpen));
    }
    assert_eq!(near.counts().calls, calls, "it is not asked");
    // One probe after the pause; it fails.
    tokio::time::sleep(pause).await;
    assert_eq!(reason().await, Some(Rejection::Unavailable));
    assert_eq!(reason().await, Some(Rejection::BreakerOpen));
    // The next one does not.
    near.always(None);
    assert_eq!(reason().await, Some(Rejection::BreakerOpen));
    tokio::time::sleep(pause).await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().tier.as_deref(), Some("near"), "{:?}", loaded.report());
    let near = counted(&repository, "near").await;
    assert!(!near.open);
    assert!(near.requests.get("breaker_open").is_some_and(|n| *n >= 7), "{near:?}");
    let stats = repository.stats().await.expect("stats");
    assert!(stats.rejected.get("breaker_open").is_some_and(|n| *n >= 7), "{stats:?}");
}

/// A tier that hangs delays no other tier's saves, and no flush for longer than the write timeout.
pub async fn saves_reach_all_tiers_although_one_hangs(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let config = SnapshotConfig { policy: Rule::Every(10), write_timeout_ms: 5_000, ..Default::default() };
    let builder = Repository::<Ledger>::builder(store.clone()).snapshots(config);
    let hasty = Tier::new("near", near.clone()).timeout(Duration::from_millis(50));
    let repository = builder.snapshots_in([hasty, patient("far", far.clone())]).build().expect("build");
    near.always(Some(Fault::Hang(FOREVER)));
    let mut loaded = repository.load(&id).await.expect("load");
    for round in [10, 20, 30] {
        for n in round - 9..=round {
            loaded = repository.append(loaded, event(n)).await.expect("append").into_loaded();
        }
        let there = || async {
            let listed = far.list_to_vec(SlotFilter::key(stream(&id).as_str())).await.expect("list");
            listed.iter().any(|info| info.head.version == Version(round))
        };
        while !there().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // The first save still hangs; the later ones of the slot wait as one.
    let timed_out = counted(&repository, "near").await.requests.get("timed_out").copied();
    assert_eq!(timed_out, Some(1), "that of the load alone: no save waited for the other tier");
    let stats = repository.stats().await.expect("stats");
    assert_eq!(stats.written.get("stored"), Some(&3), "the farthest tier's answer counts: {stats:?}");
    assert_eq!(near.inner().count(SlotFilter::all()).await.expect("count").snapshots, 0);
    near.always(None);
    repository.flush().await;
    let near_stats = counted(&repository, "near").await;
    assert_eq!(near_stats.requests.get("stored"), Some(&1), "{near_stats:?}");
    assert_eq!(load_right(&repository, &store, &id).await.report().tier.as_deref(), Some("near"));
}

/// No fault of any tier reaches a command, whichever tier has it.
pub async fn no_fault_of_a_tier_changes_an_answer(store: Arc<dyn Store>) {
    let faults = [
        Fault::Fail,
        Fault::FailAfterwards,
        Fault::Hang(FOREVER),
        Fault::LoseSaves,
        Fault::DropRemoves,
        Fault::RefuseRemoves,
        Fault::Miss,
        Fault::FlipBit(12_345),
        Fault::Stale,
        Fault::OtherSlot,
        Fault::IgnoreBound,
        Fault::OtherHistory,
    ];
    for fault in faults {
        for wrong in [&[0usize][..], &[1], &[0, 1]] {
            let (near, far, id) = (near(), far(&store), actor());
            let breaker =
                Breaker { failures: 2, first_pause: Duration::from_millis(5), ..Breaker::default() };
            let tiers = [
                Tier::new("near", near.clone()).timeout(Duration::from_millis(20)).breaker(breaker),
                Tier::new("far", far.clone()).timeout(Duration::from_millis(100)).breaker(breaker),
            ];
            let config =
                SnapshotConfig { policy: Rule::Every(5), write_timeout_ms: 50, ..Default::default() };
            let builder = Repository::<Ledger>::builder(store.clone()).snapshots(config);
            let repository = builder.snapshots_in(tiers).build().expect("build");
            for n in 0..24u64 {
                if n == 7 {
                    near.always(wrong.contains(&0).then(|| fault.clone()));
                    far.always(wrong.contains(&1).then(|| fault.clone()));
                }
                let decide = |ledger: &Ledger| {
                    assert_eq!(ledger.count, n, "{fault:?} in {wrong:?}");
                    Ok::<_, Overdrawn>(event(n))
                };
                let granted = repository.execute(&id, decide).await;
                assert!(granted.is_ok_and(|granted| granted.is_ok()), "{fault:?} in {wrong:?}");
            }
            load_right(&repository, &store, &id).await;
            assert_eq!(repository.load(&id).at(11).await.expect("load at").state().count, 11, "{fault:?}");
            repository.flush().await;
        }
    }
}

/// Erasing forgets in all tiers; one that cannot be reached is told of after all others were asked, and erasing again does
/// what is left.
pub async fn erasing_forgets_in_all_tiers(store: Arc<dyn Store>) {
    let (first, second, far, id) = (near(), near(), far(&store), actor());
    let tiers =
        [patient("first", first.clone()), patient("second", second.clone()), patient("far", far.clone())];
    let repository = over(&store, tiers);
    feed(&repository, &id, events(10), 1).await;
    if !store.capabilities().erase {
        assert_eq!(*repository.erase(&id).await.expect_err("it cannot").kind(), ErrorKind::Unsupported);
        return;
    }
    let left = |tier: &dyn tailfold::SnapshotStore| {
        let listed = tier.list(SlotFilter::key(stream(&id).as_str()));
        async move {
            use futures_util::TryStreamExt as _;
            listed.try_concat().await.expect("list").len()
        }
    };
    assert_eq!((left(&first).await, left(&second).await, left(&far).await), (1, 1, 1));
    second.always(Some(Fault::Fail));
    let error = repository.erase(&id).await.expect_err("one tier failed");
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
    second.always(None);
    assert_eq!((left(&first).await, left(&second).await, left(&far).await), (0, 1, 0));
    let again = repository.erase(&id).await.expect("erase again");
    assert_eq!((again.events, again.snapshots), (0, 1));
    assert_eq!(left(&second).await, 0);
    assert_eq!(repository.load(&id).await.expect("load").head(), None);
}

/// A tier that acknowledges removals and forgets them, or answers them with "no", costs a load of a projection whose snapshot
/// is outdated a few calls, and no answer.
pub async fn a_tier_that_removes_nothing_holds_no_load_up(store: Arc<dyn Store>) {
    if !store.capabilities().erase {
        return;
    }
    let shop = Shop::over(&store);
    for (fault, sale) in [(Fault::DropRemoves, "1"), (Fault::RefuseRemoves, "2")] {
        let near = near();
        let builder = Repository::<Stock>::builder(store.clone()).snapshots(Policy::every(1));
        let stock = builder.snapshots_in([patient("near", near.clone())]).build().expect("build");
        shop.record_all(0..15).await;
        stock.load(()).await.expect("load");
        stock.flush().await;
        shop.sales.erase(sale).await.expect("erase");
        near.always(Some(fault.clone()));
        let calls = near.counts().calls;
        let loaded = stock.load(()).await.expect("load");
        let calls = near.counts().calls - calls;
        assert_eq!(loaded.report().rejected.first().map(|one| one.reason), Some(Rejection::Erased));
        assert!(calls <= 12, "{fault:?}: {calls} calls");
        assert!(near.counts().faults.contains_key(fault.name()), "{:?}", near.counts());
        let replayed = stock.load(()).without_snapshots().await.expect("replay");
        assert_eq!(loaded.state(), replayed.state(), "{fault:?}");
        stock.flush().await;
        assert_eq!(stock.load(()).await.expect("load").state(), replayed.state(), "{fault:?}");
    }
}

/// A snapshot that somebody asks for by name is kept where it lasts; a nearer tier that fails is counted.
pub async fn a_snapshot_by_hand_is_answered_by_the_farthest_tier(store: Arc<dyn Store>) {
    let (near, far, id) = (near(), far(&store), actor());
    let repository = over(&store, [patient("near", near.clone()), patient("far", far.clone())]);
    let loaded = feed(&repository, &id, events(3), 1).await;
    near.always(Some(Fault::Fail));
    repository.save_snapshot(&loaded).await.expect("the farthest keeps it");
    repository.flush().await;
    near.always(None);
    assert_eq!(load_right(&repository, &store, &id).await.report().tier.as_deref(), Some("far"));
    assert_eq!(counted(&repository, "near").await.requests.get("failed"), Some(&1));
    let loaded = feed(&repository, &id, events(1), 1).await;
    far.always(Some(Fault::Fail));
    let error = repository.save_snapshot(&loaded).await.expect_err("not where it lasts");
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
    // A nearer tier that hangs keeps nobody waiting.
    far.always(None);
    near.always(Some(Fault::Hang(FOREVER)));
    let saving = tokio::time::timeout(Duration::from_secs(20), repository.save_snapshot(&loaded));
    saving.await.expect("in time").expect("the farthest keeps it");
}
