//! Snapshot stores that fail, hang, lose and lie: the same answers, in bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tailfold::{
    Breaker, MemoryStore, Rejection, Repository, Rule, SnapshotConfig, Source, Store, Tier, Version,
};

use super::folds::{Ledger, LedgerEvent, Overdrawn, actor, events};
use super::support::{every, feed, load_right, plain, truth};
use crate::{Fault, FaultySnapshots};

fn over_faulty(store: &Arc<dyn Store>, faulty: &FaultySnapshots<MemoryStore>) -> Repository<Ledger> {
    let config = SnapshotConfig {
        policy: Rule::Every(10),
        read_timeout_ms: 50,
        write_timeout_ms: 50,
        ..Default::default()
    };
    // `tier_failures` has the breaker.
    let tier = Tier::new("faulty", faulty.clone()).breaker(Breaker::NEVER);
    Repository::builder(store.clone()).snapshots(config).snapshots_in(tier).build().expect("build")
}

/// Each fault, from the first event on and from the first snapshot on: the same results, and nothing fails.
pub async fn no_fault_of_a_snapshot_store_changes_an_answer(store: Arc<dyn Store>) {
    let faults = [
        Fault::Fail,
        Fault::FailAfterwards,
        Fault::Hang(Duration::from_secs(3600)),
        Fault::LoseSaves,
        Fault::DropRemoves,
        Fault::RefuseRemoves,
        Fault::DropUse,
        Fault::Miss,
        Fault::Truncate(100),
        Fault::FlipBit(12_345),
        Fault::Empty,
        Fault::Foreign(bytes::Bytes::from_static(b"not a snapshot")),
        Fault::Stale,
        Fault::OtherSlot,
        Fault::IgnoreBound,
        Fault::ShiftVersion(3),
        Fault::ShiftVersion(-3),
        Fault::OtherHistory,
    ];
    for fault in faults {
        for faulty_from in [0u64, 25] {
            let (faulty, id) = (FaultySnapshots::new(MemoryStore::new()), actor());
            let repository = over_faulty(&store, &faulty);
            for n in 0..50u64 {
                if n == faulty_from {
                    faulty.always(Some(fault.clone()));
                }
                let granted = repository
                    .execute(&id, |ledger: &Ledger| {
                        assert_eq!(ledger.count, n, "{fault:?}");
                        Ok::<_, Overdrawn>(LedgerEvent::Credited { cents: n as i64 })
                    })
                    .await;
                assert!(granted.is_ok_and(|granted| granted.is_ok()), "{fault:?}");
                repository.flush().await;
            }
            let loaded = load_right(&repository, &store, &id).await;
            assert_eq!(loaded.version(), Version(50), "{fault:?}");
            assert_eq!(repository.load(&id).at(17).await.expect("load at").state().count, 17, "{fault:?}");
            // As soon as the store behaves again, its snapshots serve again.
            faulty.always(None);
            repository.load(&id).await.expect("load");
            repository.flush().await;
            let loaded = load_right(&repository, &store, &id).await;
            assert!(
                matches!(loaded.report().source, Source::Snapshot(_)),
                "{fault:?}: {:?}",
                loaded.report()
            );
        }
    }
}

/// Failed is not absent: each is reported and counted under its own name.
pub async fn failures_are_told_apart_from_absence(store: Arc<dyn Store>) {
    let (faulty, id) = (FaultySnapshots::new(MemoryStore::new()), actor());
    let repository = over_faulty(&store, &faulty);
    let absent = repository.load(&id).await.expect("load");
    assert!(absent.report().rejected.is_empty());
    feed(&repository, &id, events(10), 1).await;
    for (fault, reason) in [
        (Fault::Fail, Rejection::Unavailable),
        (Fault::Hang(Duration::from_secs(60)), Rejection::TimedOut),
        (Fault::OtherSlot, Rejection::Foreign),
        (Fault::Empty, Rejection::Corrupt),
        (Fault::ShiftVersion(1), Rejection::Corrupt),
    ] {
        // Another slot for `OtherSlot` to serve from.
        feed(&repository, &actor(), events(10), 1).await;
        faulty.always(Some(fault.clone()));
        let loaded = load_right(&repository, &store, &id).await;
        assert_eq!(loaded.report().source, Source::Replay, "{fault:?}");
        assert_eq!(
            loaded.report().rejected.first().map(|rejected| rejected.reason),
            Some(reason),
            "{fault:?}"
        );
        faulty.always(None);
        repository.flush().await;
        load_right(&repository, &store, &id).await;
        repository.flush().await;
    }
    let stats = repository.stats().await.expect("stats");
    for reason in ["unavailable", "timed_out", "foreign", "corrupt"] {
        assert!(stats.rejected.get(reason).is_some_and(|n| *n > 0), "{reason}: {stats:?}");
    }
}

/// A command never waits for a snapshot store that hangs, beyond the read timeout of its load.
pub async fn a_hanging_snapshot_store_costs_a_command_the_read_timeout_at_most(store: Arc<dyn Store>) {
    let (faulty, id) = (FaultySnapshots::new(MemoryStore::new()), actor());
    let repository = over_faulty(&store, &faulty);
    let mut loaded = feed(&repository, &id, events(9), 1).await;
    faulty.always(Some(Fault::Hang(Duration::from_secs(3600))));
    // A snapshot becomes due with each of these commits; none waits for it.
    let started = Instant::now();
    for event in events(200) {
        loaded = repository.append(loaded, event).await.expect("append").into_loaded();
    }
    assert!(started.elapsed() < Duration::from_secs(60), "200 appends took {:?}", started.elapsed());
    assert_eq!(*loaded.state(), truth(&store, &id).await);
    repository.flush().await;
    let stats = repository.stats();
    faulty.always(None);
    let stats = stats.await.expect("stats");
    assert!(stats.written.get("timed_out").is_some_and(|n| *n > 0), "{stats:?}");
}

/// The queue is bounded; what does not fit is dropped and counted, and a slot waits once.
pub async fn the_queue_of_the_writer_is_bounded_and_coalesces(store: Arc<dyn Store>) {
    let faulty = FaultySnapshots::new(MemoryStore::new());
    let config = SnapshotConfig {
        policy: Rule::Every(1),
        queue_bytes: 1_500,
        read_timeout_ms: 20,
        write_timeout_ms: 300,
        unused_days: None,
        ..Default::default()
    };
    let builder = Repository::<Ledger>::builder(store.clone()).snapshots(config).snapshots_in(faulty.clone());
    let repository = builder.build().expect("build");
    faulty.always(Some(Fault::Hang(Duration::from_secs(3600))));
    let ids: Vec<_> = (0..8).map(|_| actor()).collect();
    for id in &ids {
        feed_unflushed(&repository, id, 5).await;
    }
    let stats_written = {
        faulty.always(None);
        repository.flush().await;
        repository.stats().await.expect("stats").written
    };
    assert!(stats_written.get("queue_full").is_some_and(|n| *n >= 4), "{stats_written:?}");
    for id in &ids {
        load_right(&repository, &store, id).await;
    }
}

async fn feed_unflushed(repository: &Repository<Ledger>, id: &str, count: u64) {
    let mut loaded = repository.load(id).await.expect("load");
    for event in events(count) {
        loaded = repository.append(loaded, event).await.expect("append").into_loaded();
    }
}

/// `close` drains what waits, and takes nothing more.
pub async fn close_drains_what_waits(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed_unflushed(&repository, &id, 30).await;
    repository.close().await.expect("close");
    let fresh = every(&store, 10);
    assert_eq!(load_right(&fresh, &store, &id).await.report().source, Source::Snapshot(Version(30)));
    feed_unflushed(&repository, &id, 10).await;
    let stats = repository.stats().await.expect("stats");
    assert_eq!(stats.written.get("closed"), Some(&1), "{stats:?}");
}

/// A flush waits for what was due when it began, and not for what others have written meanwhile, of which there is no end.
pub async fn a_flush_ends_beside_commands(store: Arc<dyn Store>) {
    let faulty = FaultySnapshots::new(MemoryStore::new());
    let config = SnapshotConfig { policy: Rule::Every(1), write_timeout_ms: 10_000, ..Default::default() };
    let builder = Repository::<Ledger>::builder(store.clone()).snapshots(config);
    let tier = Tier::new("slow", faulty.clone()).breaker(Breaker::NEVER);
    let repository = builder.snapshots_in(tier).build().expect("build");
    let id = actor();
    feed_unflushed(&repository, &id, 1).await;
    // More fall due than are saved at a time: there is always one that waits.
    faulty.always(Some(Fault::Hang(Duration::from_millis(5))));
    let is_over = Arc::new(AtomicBool::new(false));
    let writing = (0..4).map(|_| {
        let (repository, is_over) = (repository.clone(), is_over.clone());
        tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                feed_unflushed(&repository, &actor(), 1).await;
            }
        })
    });
    let writing: Vec<_> = writing.collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let flushed = tokio::time::timeout(Duration::from_secs(10), repository.flush()).await;
    is_over.store(true, Ordering::Relaxed);
    for task in writing {
        task.await.expect("no task fails");
    }
    flushed.expect("it does not wait for what comes after it");
    faulty.always(None);
    assert_eq!(load_right(&repository, &store, &id).await.report().source, Source::Snapshot(Version(1)));
}

/// A long replay that is interrupted again and again gets further each time.
pub async fn an_interrupted_replay_resumes_from_a_checkpoint(store: Arc<dyn Store>) {
    let id = actor();
    feed(&plain(&store), &id, events(20_000), 1_000).await;
    let config =
        SnapshotConfig { policy: Rule::Every(1_000_000), checkpoint_events: 2_000, ..Default::default() };
    let repository = Repository::<Ledger>::builder(store.clone()).snapshots(config).build().expect("build");
    let mut reached = Version::ZERO;
    for _ in 0..1_000 {
        let patience = Duration::from_millis(fastrand::u64(1..20));
        let done = tokio::time::timeout(patience, repository.load(&id).into_future()).await.is_ok();
        repository.flush().await;
        let snapshot = repository.latest_snapshot(&id).await.expect("read");
        let version = snapshot.map_or(Version::ZERO, |snapshot| snapshot.head.version);
        assert!(version >= reached, "a checkpoint went back");
        reached = version;
        if done {
            break;
        }
    }
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.version(), Version(20_000));
    assert!(loaded.report().replayed_events <= 4_000, "{:?}", loaded.report());
}

/// States that are too large are dropped and counted; the snapshot before them stays and serves.
pub async fn a_state_above_the_size_limit_keeps_the_snapshot_before_it(store: Arc<dyn Store>) {
    let id = actor();
    let config = SnapshotConfig { policy: Rule::Every(5), max_bytes: 400, ..Default::default() };
    let repository = Repository::<Ledger>::builder(store.clone()).snapshots(config).build().expect("build");
    feed(&repository, &id, (0..5).map(|cents| LedgerEvent::Credited { cents }).collect(), 1).await;
    let remark = "x".repeat(240);
    feed(&repository, &id, vec![LedgerEvent::Remarked { remark }; 5], 1).await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().source, Source::Snapshot(Version(5)));
    let error = repository.save_snapshot(&loaded).await.expect_err("too large");
    assert!(error.to_string().contains("`max_bytes`"), "{error}");
    let stats = repository.stats().await.expect("stats");
    assert!(stats.written.get("too_large").is_some_and(|n| *n > 0), "{stats:?}");
}

/// A snapshot store that holds what another limit let through: refused before it is decoded.
pub async fn a_snapshot_above_the_read_limit_is_refused(store: Arc<dyn Store>) {
    let id = actor();
    let roomy = every(&store, 5);
    let remark = "x".repeat(240);
    feed(&roomy, &id, vec![LedgerEvent::Remarked { remark }; 5], 1).await;
    let tight = SnapshotConfig { policy: Rule::Never, max_bytes: 1_000, ..Default::default() };
    let tight = Repository::<Ledger>::builder(store.clone()).snapshots(tight).build().expect("build");
    let loaded = load_right(&tight, &store, &id).await;
    assert_eq!(loaded.report().rejected.first().map(|rejected| rejected.reason), Some(Rejection::TooLarge));
    // It is of use to others, so it stays.
    assert!(matches!(load_right(&roomy, &store, &id).await.report().source, Source::Snapshot(_)));
}
