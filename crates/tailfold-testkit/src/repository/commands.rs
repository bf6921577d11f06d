//! Commands: optimistic concurrency, retries, keys, and that a snapshot never touches their fate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tailfold::{
    Commit, Conflict, ErrorKind, EventStore as _, EventStoreExt as _, Metadata, Policy, Removal, Repository,
    Retry, SnapshotConfig, SnapshotMode, Source, Store, Timestamp, Version, VersionRange,
};

use super::folds::{Ledger, LedgerEvent, Overdrawn, actor, event, events};
use super::support::{clock, every, feed, load_right, stream, truth};

/// An append to a state that is no longer the newest is a conflict that carries the actual head.
pub async fn an_append_to_an_old_state_is_a_conflict_with_the_actual_head(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    let newest = feed(&repository, &id, events(12), 1).await;
    let old = repository.load(&id).at(11).await.expect("load at");
    let error = repository.append(old, event(1)).await.expect_err("a conflict");
    let ErrorKind::Conflict(Conflict::Stream { stream: named, actual }) = error.kind() else {
        panic!("not a conflict: {error}")
    };
    assert_eq!((named, *actual), (&stream(&id), newest.head()));
    assert_eq!(load_right(&repository, &store, &id).await.head(), newest.head());
}

/// The user's own error comes back as it is, and nothing is written.
pub async fn a_refused_command_returns_the_users_error_and_writes_nothing(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    let refused = repository.execute(&id, |ledger: &Ledger| ledger.debit(5)).await.expect("tailfold is fine");
    assert_eq!(refused.expect_err("refused"), Overdrawn { missing: 5 });
    assert!(store.head(&stream(&id)).await.expect("head").is_none());
    let nothing =
        repository.execute(&id, |_: &Ledger| Ok::<_, Overdrawn>(Vec::new())).await.expect("execute");
    let receipt = nothing.expect("no refusal");
    assert_eq!((receipt.events(), receipt.position(), receipt.head()), (0, None, None));
}

/// 64 tasks on one stream: every command counts once, and no decision is taken on a state that was not the newest.
pub async fn sixty_four_racing_commands_all_count_once(store: Arc<dyn Store>) {
    let id = actor();
    let repository = Repository::<Ledger>::builder(store.clone())
        .snapshots(Policy::every(10))
        .retry(Retry { limit: 10_000, ..Retry::default() })
        .build()
        .expect("build");
    feed(&repository, &id, vec![LedgerEvent::Credited { cents: 40 }], 1).await;
    let commands = (0..64).map(|_| {
        let (repository, id) = (repository.clone(), id.clone());
        tokio::spawn(async move {
            repository.execute(&id, |ledger: &Ledger| ledger.debit(1)).await.expect("execute").is_ok()
        })
    });
    let granted = join_all(commands).await.into_iter().filter(|granted| matches!(granted, Ok(true))).count();
    assert_eq!(granted, 40);
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!((loaded.state().balance, loaded.version()), (0, Version(41)));
}

/// A limit on retries is kept, and the conflict then reaches the caller.
pub async fn a_command_gives_up_after_its_last_retry(store: Arc<dyn Store>) {
    let id = actor();
    let retry = Retry { limit: 2, first_pause: Duration::ZERO, longest_pause: Duration::ZERO };
    let repository = Repository::<Ledger>::builder(store.clone()).retry(retry).build().expect("build");
    let runs = AtomicU32::new(0);
    let (other, there) = (store.clone(), stream(&id));
    let error = repository
        .execute(&id, |_: &Ledger| {
            runs.fetch_add(1, Ordering::Relaxed);
            // Somebody else is always first.
            let (other, there) = (other.clone(), there.clone());
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
                    let data = tailfold::EventData::new(
                        tailfold::EventType::new("ledger.credited").expect("a name"),
                        "{\"cents\":1}",
                    );
                    let event = tailfold::NewEvent::new(data).expect("small");
                    let commit = Commit::new(there, tailfold::Expected::Any, vec![event]);
                    runtime.block_on(other.append(commit)).expect("append");
                });
            });
            Ok::<_, Overdrawn>(LedgerEvent::Credited { cents: 1 })
        })
        .await
        .expect_err("always a conflict");
    assert!(error.is_conflict(), "{error}");
    assert_eq!(runs.load(Ordering::Relaxed), 3);
}

/// The same key again, at once or later, from the same process or another: the original receipt, no second run.
pub async fn an_idempotency_key_makes_a_command_happen_once(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(3), 1).await;
    let runs = AtomicU32::new(0);
    let deposit = |repository: Repository<Ledger>| {
        let (runs, id) = (&runs, &id);
        async move {
            let command = repository.execute(id, |_: &Ledger| {
                runs.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Overdrawn>([LedgerEvent::Credited { cents: 100 }, LedgerEvent::Debited { cents: 1 }])
            });
            command.idempotency_key("order-17").await.expect("execute").expect("no refusal")
        }
    };
    let first = deposit(repository.clone()).await;
    assert!(!first.is_repeated());
    feed(&repository, &id, events(20), 1).await;
    let again = deposit(every(&store, 10)).await;
    assert!(again.is_repeated());
    assert_eq!((again.head(), again.position(), again.events()), (first.head(), first.position(), 2));
    assert_eq!(again.state(), first.state());
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert_eq!(load_right(&repository, &store, &id).await.version(), Version(25));
    // Racing with itself: one of them wins, all get the same receipt.
    let racing = (0..8).map(|_| {
        let command =
            repository.execute(&id, |_: &Ledger| Ok::<_, Overdrawn>(LedgerEvent::Credited { cents: 7 }));
        async { command.idempotency_key("order-18").await.expect("execute").expect("no refusal").head() }
    });
    let heads = join_all(racing).await;
    assert!(heads.windows(2).all(|pair| pair.first() == pair.last()), "{heads:?}");
    assert_eq!(load_right(&repository, &store, &id).await.version(), Version(26));
    // A life later the key is free again.
    if store.capabilities().erase {
        store.remove(&stream(&id), Removal::erase(Timestamp::from_micros(0))).await.expect("erase");
        assert!(!deposit(repository).await.is_repeated());
    }
}

/// What is said about a command's events is stored with them.
pub async fn metadata_and_recorded_at_are_stored(store: Arc<dyn Store>) {
    let clock = clock();
    let repository =
        Repository::<Ledger>::builder(store.clone()).clock(clock.clone()).build().expect("build");
    let id = actor();
    let metadata = Metadata {
        correlation_id: Some("conversation".into()),
        causation_id: Some("command".into()),
        user: [("who".to_owned(), "me".to_owned())].into(),
    };
    let loaded = repository.load(&id).await.expect("load");
    let receipt = repository.append(loaded, events(2)).metadata(metadata.clone()).await.expect("append");
    let time: Timestamp = "2013-01-01T05:15:00Z".parse().expect("a time");
    repository.append(receipt, event(3)).recorded_at(time).await.expect("append");
    let recorded = store.read_to_vec(&stream(&id), VersionRange::ALL).await.expect("read");
    let said: Vec<_> = recorded.iter().map(|event| event.meta().metadata().expect("metadata")).collect();
    assert_eq!(said, [metadata.clone(), metadata, Metadata::default()]);
    let times: Vec<_> = recorded.iter().map(|event| event.data.recorded_at).collect();
    let now = tailfold::Clock::now(&clock);
    assert_eq!(times, [now, now, time]);
}

/// `at` and `as_of`, with clocks that go back.
pub async fn a_state_at_a_version_and_as_of_a_time(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 4), actor());
    let mut loaded = repository.load(&id).await.expect("load");
    // The third event was written by a clock that was ahead.
    for (n, second) in [1, 2, 9, 4, 5, 6, 7, 8, 9, 10].into_iter().enumerate() {
        let append = repository
            .append(loaded, event(n as u64))
            .recorded_at(Timestamp::from_micros(second * 1_000_000));
        loaded = append.await.expect("append").into_loaded();
        repository.flush().await;
    }
    let history = repository.load(&id).without_snapshots().await.expect("load");
    assert_eq!(history.version(), Version(10));
    for second in 0..=11 {
        let as_of =
            repository.load(&id).as_of(Timestamp::from_micros(second * 1_000_000)).await.expect("load");
        // The longest prefix with no event recorded after the moment.
        let expected = match second {
            0 => 0,
            1 => 1,
            2..=8 => 2,
            9 => 9,
            _ => 10,
        };
        assert_eq!(as_of.version(), Version(expected), "as of second {second}");
        assert_eq!(*as_of.state(), *repository.capture(&id, ..=expected).await.expect("capture").state());
    }
    for version in 0..=10 {
        let at = repository.load(&id).at(version).await.expect("load at");
        assert_eq!(
            (at.version(), at.state()),
            (Version(version), repository.capture(&id, ..=version).await.expect("capture").state())
        );
    }
    assert_eq!(*repository.load(&id).at(11).await.expect_err("beyond").kind(), ErrorKind::Invalid);
    // A historical load neither takes a snapshot nor lowers one.
    repository.flush().await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().source, Source::Snapshot(Version(8)));
}

/// A commit to several streams: the transfer happens whole or not at all.
pub async fn a_transfer_between_two_actors_is_all_or_nothing(store: Arc<dyn Store>) {
    let (repository, from, to) = (every(&store, 10), actor(), actor());
    feed(&repository, &from, vec![LedgerEvent::Credited { cents: 100 }], 1).await;
    let (source, target) =
        (repository.load(&from).await.expect("load"), repository.load(&to).await.expect("load"));
    let transfer = || -> Commit {
        let debit = repository.prepare(&source, LedgerEvent::Debited { cents: 30 }).expect("prepare");
        let credit = repository.prepare(&target, LedgerEvent::Credited { cents: 30 }).expect("prepare");
        [debit, credit].into_iter().collect()
    };
    if !store.capabilities().several_streams {
        let error = store.append(transfer()).await.expect_err("it cannot");
        assert_eq!(*error.kind(), ErrorKind::Unsupported);
        return;
    }
    store.append(transfer()).await.expect("transfer");
    assert_eq!(load_right(&repository, &store, &from).await.state().balance, 70);
    assert_eq!(load_right(&repository, &store, &to).await.state().balance, 30);
    let error = store.append(transfer()).await.expect_err("both have moved on");
    assert!(error.is_conflict());
    assert_eq!(load_right(&repository, &store, &to).await.state().balance, 30);
}

/// Inline: the snapshot stands as soon as the command returns, and one that cannot be written drops alone.
pub async fn inline_snapshots_stand_with_their_events_and_never_stop_them(store: Arc<dyn Store>) {
    if !store.capabilities().inline_snapshot {
        let config = SnapshotConfig { mode: SnapshotMode::Inline, ..Default::default() };
        let error = Repository::<Ledger>::builder(store).snapshots(config).build().expect_err("it cannot");
        assert_eq!(*error.kind(), ErrorKind::Unsupported);
        return;
    }
    let id = actor();
    let config = SnapshotConfig {
        mode: SnapshotMode::Inline,
        policy: tailfold::Rule::Every(10),
        ..Default::default()
    };
    let repository =
        Repository::<Ledger>::builder(store.clone()).snapshots(config.clone()).build().expect("build");
    for n in 1..=20u64 {
        repository
            .execute(&id, |_: &Ledger| Ok::<_, Overdrawn>(event(n)))
            .await
            .expect("execute")
            .expect("granted");
    }
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().source, Source::Snapshot(Version(20)));
    // A size limit that no state meets: the events are recorded, the snapshot before stays.
    let tight = SnapshotConfig { max_bytes: 10, ..config };
    let repository = Repository::<Ledger>::builder(store.clone()).snapshots(tight).build().expect("build");
    for n in 21..=40u64 {
        repository
            .execute(&id, |_: &Ledger| Ok::<_, Overdrawn>(event(n)))
            .await
            .expect("execute")
            .expect("granted");
    }
    // Loads found a snapshot due as well; these are tried in the background.
    repository.flush().await;
    let stats = repository.stats().await.expect("stats");
    assert!(stats.written.get("too_large").is_some_and(|n| *n > 0), "{stats:?}");
    assert_eq!(truth(&store, &id).await.count, 40);
    assert_eq!(super::support::stored(&store, &id).await.1.head.version, Version(20));
}

/// A command whose future is dropped at some point has happened as a whole or not at all, and nothing after it is wrong.
pub async fn a_cancelled_command_is_all_or_nothing(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 5), actor());
    for round in 0..60u64 {
        let three = [event(round), event(round + 1), event(round + 2)];
        let command = repository.execute(&id, |_: &Ledger| Ok::<_, Overdrawn>(three.clone()));
        let _ =
            tokio::time::timeout(Duration::from_micros(fastrand::u64(0..800)), command.into_future()).await;
    }
    settle(&repository, &id, 3).await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.version().0 % 3, 0);
    repository.flush().await;
    assert_eq!(load_right(&repository, &store, &id).await.head(), loaded.head());
}

/// Many tasks write and load at random, some cancelled: whoever has an acknowledgement sees its event.
pub async fn everyone_reads_their_own_writes(store: Arc<dyn Store>) {
    let id = actor();
    // Sixteen that race on a busy machine: nobody is to give up.
    let repository = Repository::<Ledger>::builder(store.clone())
        .snapshots(Policy::every(5))
        .retry(Retry { limit: 10_000, ..Retry::default() })
        .build()
        .expect("build");
    let tasks = (0..16).map(|_| {
        let (repository, id) = (repository.clone(), id.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let command = repository
                    .execute(&id, |_: &Ledger| Ok::<_, Overdrawn>(LedgerEvent::Credited { cents: 1 }));
                if fastrand::u8(..) < 40 {
                    let _ = tokio::time::timeout(Duration::from_micros(300), command.into_future()).await;
                    continue;
                }
                let mine = command.await.expect("execute").expect("granted").head().expect("a head").version;
                let seen = repository.load(&id).await.expect("load").version();
                assert!(seen >= mine, "wrote {mine}, then read {seen}");
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no task fails");
    }
    settle(&repository, &id, 1).await;
    load_right(&repository, &store, &id).await;
}

/// Commands that were dropped may still be on their way. After another one they can be recorded no more: the head that they
/// expect is gone.
async fn settle(repository: &Repository<Ledger>, id: &str, events: usize) {
    let last = vec![LedgerEvent::Credited { cents: 1 }; events];
    let settled = repository.execute(id, |_: &Ledger| Ok::<_, Overdrawn>(last.clone())).await;
    settled.expect("execute").expect("granted");
}
