//! Waiting that ends: connections that fall silent, and transactions of others that do not end.

use crate::support::*;

/// Reads through every connection that a store has, as long as no more than `count` are under way.
async fn read_at_once(store: &PostgresStore, count: usize) {
    let reads = (0..count).map(|_| store.read_to_vec(&A, VersionRange::ALL));
    soon("reads at once", futures_util::future::try_join_all(reads)).await.unwrap();
}

static A: std::sync::LazyLock<StreamId> = std::sync::LazyLock::new(|| stream("a/1"));

/// The store of [`behind_a_proxy`] once more, with other settings.
async fn behind(proxy: &Proxy, beside: &PostgresStore, deadline: u64, connections: usize) -> PostgresStore {
    let config = through(proxy).schema(schema_of(beside)).deadline(Duration::from_secs(deadline));
    config.max_connections(connections).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_on_a_connection_that_fell_silent_is_answered_by_another() {
    let (proxy, _, beside) = behind_a_proxy().await;
    let store = behind(&proxy, &beside, 15, 4).await;
    read_at_once(&store, 4).await;
    proxy.lose_answers();
    let reading = tokio::spawn({
        let store = store.clone();
        async move { read(&store, "a/1").await.len() }
    });
    // From now on new connections are as good as ever; what was lost stays lost.
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.open();
    assert_eq!(soon("the read", reading).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_of_requests_that_were_given_up_are_not_lent_again() {
    let (proxy, _, beside) = behind_a_proxy().await;
    let store = behind(&proxy, &beside, 30, 4).await;
    read_at_once(&store, 4).await;
    proxy.lose_requests();
    let lost = (0..4).map(|_| store.read_to_vec(&A, VersionRange::ALL));
    let given_up =
        tokio::time::timeout(Duration::from_millis(300), futures_util::future::try_join_all(lost)).await;
    assert!(given_up.is_err());
    proxy.open();
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(read(&store, "a/1").await.len(), 3);
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

/// Appends that wait for a lock of somebody else, and whose callers went away.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_appends_hold_up_no_strangers() {
    let (_proxy, _, beside) = behind_a_proxy().await;
    let config = config(&shared_server().await).schema(schema_of(&beside)).deadline(Duration::from_secs(30));
    let store = config.max_connections(3).connect().await.unwrap();
    let other = client(&shared_server().await).await;
    let lock = format!("BEGIN; LOCK TABLE {}.events IN SHARE ROW EXCLUSIVE MODE", schema_of(&beside));
    other.batch_execute(&lock).await.unwrap();
    let appends = (0..3)
        .map(|number| store.append(Commit::new(stream(&format!("b/{number}")), Expected::Any, events(1))));
    let given_up =
        tokio::time::timeout(Duration::from_millis(500), futures_util::future::try_join_all(appends)).await;
    assert!(given_up.is_err());
    let begun = Instant::now();
    assert_eq!(read(&store, "a/1").await.len(), 3);
    // And nobody of theirs waits for the lock any more: the server would let them, for as long as the deadline.
    let waits = format!(
        "SELECT FROM pg_locks WHERE relation = '{}.events'::regclass AND NOT granted",
        schema_of(&beside)
    );
    soon("the end of what was dropped", async {
        while !other.query(&waits, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    other.batch_execute("ROLLBACK").await.unwrap();
}

/// An eraser whose machine is gone after its last step and before COMMIT: the server hears nothing more, not even an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_eraser_that_vanishes_does_not_stop_appends() {
    let (proxy, eraser, beside) = behind_a_proxy().await;
    let schema = schema_of(&beside);
    let slow = Slow::append(&schema, "slow/1", &[]).await;
    let erasing =
        tokio::spawn(async move { eraser.remove(&A, Removal::erase(Timestamp::from_micros(1))).await });
    let other = client(&shared_server().await).await;
    let waits = format!(
        "SELECT FROM pg_locks WHERE relation = '{schema}.events'::regclass AND mode = 'ShareRowExclusiveLock' AND NOT granted"
    );
    soon("the eraser's wait", async {
        while other.query_opt(&waits, &[]).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    proxy.lose_requests();
    slow.end("COMMIT").await;
    // Until the eraser has the lock, alone.
    let holds = waits.replace("NOT granted", "granted");
    soon("the eraser's lock", async {
        while other.query_opt(&holds, &[]).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let begun = Instant::now();
    let appended = beside.append(Commit::new(stream("b/1"), Expected::NoStream, events(1))).await;
    assert!(
        appended.is_ok() && begun.elapsed() < Duration::from_secs(15),
        "{appended:?} {:?}",
        begun.elapsed()
    );
    // The network is back: the erase is done again.
    proxy.cut();
    assert_eq!(soon("the erase", erasing).await.unwrap().unwrap().events, 3);
}

/// Its requests are lost: the server has nothing to do for it, and another connection has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_erase_on_a_connection_that_fell_silent_is_done_on_another() {
    let (proxy, _, beside) = behind_a_proxy().await;
    let store = behind(&proxy, &beside, 6, 4).await;
    read_at_once(&store, 4).await;
    proxy.lose_requests();
    let erasing = tokio::spawn({
        let store = store.clone();
        async move { store.remove(&A, Removal::erase(Timestamp::from_micros(1))).await }
    });
    let reindexing = tokio::spawn(async move { store.reindex().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.open();
    assert_eq!(soon("the erase", erasing).await.unwrap().unwrap().events, 3);
    soon("the index", reindexing).await.unwrap().unwrap();
}

/// A store with a deadline of 6 seconds whose server takes so many for each row.
async fn slow_server(on: &str, table: &str, seconds: f64) -> PostgresStore {
    let (store, schema) = fresh_store().await;
    append(&store, "a/1", events(2)).await;
    let head = store.head(&A).await.unwrap().unwrap();
    let slot = Slot::new("fold", "0123456789abcdef".parse().unwrap(), "a/1").unwrap();
    let save = Save { head, bytes: "state".into(), keep: Keep::Newest, day: Day(1) };
    store.save(&slot, save).await.unwrap();
    let slow = format!(
        "CREATE FUNCTION {schema}.slow() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep({seconds}); RETURN coalesce(NEW, OLD); END';
         CREATE TRIGGER slow BEFORE {on} ON {schema}.{table} FOR EACH ROW EXECUTE FUNCTION {schema}.slow()"
    );
    client(&shared_server().await).await.batch_execute(&slow).await.unwrap();
    config(&shared_server().await).schema(&schema).deadline(Duration::from_secs(6)).connect().await.unwrap()
}

/// Work that takes longer than a part of the deadline, and an erase that takes longer than all of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_is_at_work_on_is_not_given_up() {
    let inserts = slow_server("INSERT", "events", 2.8).await;
    let sweeps = slow_server("DELETE", "snapshots", 2.8).await;
    let erases = slow_server("DELETE", "events", 3.2).await;
    let append = |name: &str, expected| inserts.append(Commit::new(stream(name), expected, events(1)));
    let (one, any, swept, erased) = tokio::join!(
        append("b/1", Expected::NoStream),
        append("b/2", Expected::Any),
        sweeps.sweep(SlotFilter::all(), Day(2)),
        erases.remove(&A, Removal::erase(Timestamp::from_micros(1))),
    );
    assert!(one.is_ok() && any.is_ok(), "{one:?} {any:?}");
    assert_eq!(swept.unwrap().snapshots, 1);
    assert_eq!(erased.unwrap().events, 2);
}

/// Whoever needs the log for itself waits for a transaction that nobody came back for, and all appends wait
/// behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn removals_beside_a_transaction_that_does_not_end_hold_nobody_up_and_say_so() {
    let server = server_with_prepared_transactions().await;
    let schema = fresh_schema();
    let config = || config(&server.url()).schema(&schema).deadline(Duration::from_secs(3));
    let (store, other) = (config().connect().await.unwrap(), config().connect().await.unwrap());
    let mut origin = event("3").into_data();
    origin.origin = true;
    append(&store, "a/1", [events(3), vec![NewEvent::new(origin).unwrap()]].concat()).await;
    let slow = Slow::begin(&server.url()).await;
    slow.record(&schema, "slow/1", &[]).await;
    slow.run("PREPARE TRANSACTION 'forgotten'").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let spawn = |what: &'static str| {
        let (store, config) = (store.clone(), config());
        tokio::spawn(async move {
            let at = Timestamp::from_micros(1);
            match what {
                "erase" => store.remove(&A, Removal::erase(at)).await.map(drop),
                "truncate" => store.remove(&A, Removal::before_origin(4, at)).await.map(drop),
                "connect" => config.connect().await.map(drop),
                _ => store.reindex().await,
            }
        })
    };
    let held_up = ["erase", "truncate", "reindex"].map(|what| (what, spawn(what)));
    let mut number = 0;
    while !held_up.iter().all(|(_, task)| task.is_finished()) {
        let commit = Commit::new(stream(&format!("b/{number}")), Expected::NoStream, events(1));
        let begun = Instant::now();
        let appended = other.append(commit).await;
        assert!(
            appended.is_ok() && begun.elapsed() < Duration::from_millis(2500),
            "{appended:?} {:?}",
            begun.elapsed()
        );
        number += 1;
    }
    // It has something to set right, for which it needs the log.
    slow.run(&format!("SELECT setval('{schema}.positions', 1)")).await;
    for (what, task) in held_up.into_iter().chain([("connect", spawn("connect"))]) {
        let error = soon(what, task).await.unwrap().unwrap_err();
        let is_told = match what {
            "connect" => matches!(error.kind(), ErrorKind::Unavailable(_)),
            _ => error.kind() == &ErrorKind::Unavailable(Outcome::NotDone),
        };
        assert!(is_told, "{what}: {error:?}");
        assert!(error.to_string().contains("prepared transaction `forgotten`"), "{what}: {error}");
    }
    slow.end("ROLLBACK PREPARED 'forgotten'").await;
    config().connect().await.unwrap();
    spawn("erase").await.unwrap().unwrap();
}

async fn server_with_prepared_transactions() -> PostgresServer {
    let builder = PostgresServer::builder().fsync(false).config_line("max_prepared_transactions = 5");
    tokio::task::spawn_blocking(|| builder.start().unwrap()).await.unwrap()
}

/// Reads of the log stand still behind a transaction that has recorded something and does not end.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_up_readers_of_the_log_is_named_at_the_deadline() {
    let server = server_with_prepared_transactions().await;
    let schema = fresh_schema();
    let deadline = Duration::from_secs(2);
    let store = config(&server.url()).schema(&schema).deadline(deadline).connect().await.unwrap();
    append(&store, "a/1", events(1)).await;
    for prepares in [false, true] {
        let slow = Slow::begin(&server.url()).await;
        slow.record(&schema, "slow/1", &[]).await;
        let (name, end) = match prepares {
            true => {
                slow.run("PREPARE TRANSACTION 'forgotten'").await;
                ("`forgotten`".to_owned(), "ROLLBACK PREPARED 'forgotten'")
            }
            false => (format!("process {}", slow.pid().await), "ROLLBACK"),
        };
        append(&store, "a/2", events(1)).await;
        let to_end = store.read_all_to_vec(Position::ZERO, Filter::all());
        let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
        for error in
            [soon("an end", to_end).await.unwrap_err(), soon("an end", live.try_next()).await.unwrap_err()]
        {
            assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{error:?}");
            assert!(error.to_string().contains(&name), "{error} without {name}");
        }
        slow.end(end).await;
        assert!(
            soon("the log", store.read_all_to_vec(Position::ZERO, Filter::all())).await.unwrap().len() > 1
        );
    }
}

/// Everything stands still behind a lock on the whole table.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_locks_the_log_is_named_at_the_deadline() {
    let server = server_with_prepared_transactions().await;
    let schema = fresh_schema();
    let deadline = Duration::from_secs(3);
    let store = config(&server.url()).schema(&schema).deadline(deadline).connect().await.unwrap();
    append(&store, "a/1", events(1)).await;
    let slow = Slow::begin(&server.url()).await;
    slow.run(&format!("LOCK TABLE {schema}.events IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'lock'"))
        .await;
    let commit = Commit::new(stream("a/2"), Expected::NoStream, events(1));
    let appended = soon("an end", store.append(commit)).await.unwrap_err();
    let read = soon("an end", store.read_all_to_vec(Position::ZERO, Filter::all())).await.unwrap_err();
    for error in [appended, read] {
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("prepared transaction `lock`"), "{error}");
    }
    slow.end("ROLLBACK PREPARED 'lock'").await;
}
