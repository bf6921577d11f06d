//! The log beside transactions that take their time.

use crate::support::*;

/// Everything in the log, by a read that ends.
async fn everything(store: &PostgresStore) -> Vec<String> {
    let log = soon("a read to the end", store.read_all_to_vec(Position::ZERO, Filter::all()));
    payloads(&log.await.unwrap())
}

/// The next so many payloads of a live read.
async fn next(batches: &mut LogBatches, count: usize) -> Vec<String> {
    soon("the next events", async {
        let mut seen = Vec::new();
        while seen.len() < count {
            seen.extend(batches.try_next().await.unwrap().expect("a live read does not end").events);
        }
        payloads(&seen)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_commit_is_waited_for_by_readers_and_by_no_writer() {
    let (store, schema) = fresh_store().await;
    append(&store, "fast/1", vec![event("a")]).await;
    let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    assert_eq!(next(&mut live, 1).await, ["a"]);

    let slow = Slow::append(&schema, "slow/1", &[]).await;
    // Nobody who writes waits for it.
    soon("appends", async {
        append(&store, "fast/1", vec![event("b")]).await;
        append(&store, "fast/2", vec![event("c")]).await;
    })
    .await;
    assert_eq!(payloads(&read(&store, "fast/1").await), ["a", "b"]);
    // The log does not show what comes after it, and a read that ends does not end without it.
    let early = tokio::time::timeout(Duration::from_millis(700), live.try_next()).await;
    assert!(early.is_err(), "before the slow one: {early:?}");
    let ending = tokio::spawn({
        let store = store.clone();
        async move { everything(&store).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!ending.is_finished());

    slow.end("COMMIT").await;
    assert_eq!(ending.await.unwrap(), ["a", "slow", "b", "c"]);
    assert_eq!(next(&mut live, 3).await, ["slow", "b", "c"]);
}

/// The server does not name a transaction among those that run if no younger one has ended. On a server of its own, where none
/// of somebody else's ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_younger_transaction_with_an_earlier_position_is_waited_for() {
    let server = own_server().await;
    let schema = fresh_schema();
    let store = config(&server.url()).schema(&schema).connect().await.unwrap();
    let older = Slow::begin(&server.url()).await;
    let younger = Slow::begin(&server.url()).await;
    younger.record(&schema, "younger/1", &[]).await;
    older.record(&schema, "older/1", &[]).await;
    older.end("COMMIT").await;
    let early = tokio::time::timeout(
        Duration::from_millis(300),
        store.read_all_to_vec(Position::ZERO, Filter::all()),
    );
    assert!(early.await.is_err(), "a read that ends does not pass the one that is under way");
    younger.end("COMMIT").await;
    let log = soon("the log", store.read_all_to_vec(Position::ZERO, Filter::all())).await.unwrap();
    let streams: Vec<_> = log.iter().map(|event| event.stream.category()).collect();
    assert_eq!(streams, ["younger", "older"]);
}

/// However many: each connection of the store could wait for the same transaction of somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn appends_that_must_wait_hold_up_no_others() {
    let (store, schema) = fresh_store().await;
    append(&store, "slow/1", vec![event("first")]).await;
    let head = store.head(&stream("slow/1")).await.unwrap();
    let slow = Slow::append(&schema, "slow/1", &[]).await;
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let store = store.clone();
            let commit = Commit::new(stream("slow/1"), Expected::from_head(head), events(1));
            tokio::spawn(async move { store.append(commit).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    soon("appends to other streams", async {
        for number in 0..100 {
            let name = stream(&format!("fast/{number}"));
            store.append(Commit::new(name, Expected::NoStream, events(1))).await.unwrap();
        }
    })
    .await;
    assert!(waiting.iter().all(|append| !append.is_finished()));
    slow.end("COMMIT").await;
    for append in waiting {
        assert!(soon("an append's end", append).await.unwrap().unwrap_err().is_conflict());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_never_filled_is_passed_over() {
    let (store, schema) = fresh_store().await;
    let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    for round in 0..5 {
        let slow = Slow::append(&schema, "slow/1", &[]).await;
        append(&store, "fast/1", vec![event(round.to_string())]).await;
        slow.end("ROLLBACK").await;
        assert_eq!(next(&mut live, 1).await, [round.to_string()]);
    }
    assert_eq!(everything(&store).await, ["0", "1", "2", "3", "4"]);
}

/// However long the log is: a read that looked through it would take a page for each 100,000 positions.
#[tokio::test(flavor = "multi_thread")]
async fn what_indexes_lead_to_is_read_in_one_page() {
    let (store, schema) = fresh_store().await;
    append(&store, "quiet/1", vec![event("first")]).await;
    append(&store, "busy/1", vec![event("beside")]).await;
    let sql = format!("SELECT setval('{schema}.positions', 5000000)");
    client(&shared_server().await).await.batch_execute(&sql).await.unwrap();
    append(&store, "busy/1", vec![event("beside")]).await;
    append(&store, "quiet/1", vec![event("last")]).await;
    let quiet = stream("quiet/1");
    let typed = Filter::stream(quiet.clone()).and_types([EventType::new("test.happened").unwrap()]);
    for filter in [Filter::stream(quiet), Filter::category("quiet"), typed] {
        let batches: Vec<_> =
            store.read_all(Position::ZERO, filter.clone(), Follow::ToEnd).try_collect().await.unwrap();
        let [page] = batches.as_slice() else { panic!("{} pages for {filter:?}", batches.len()) };
        assert_eq!(payloads(&page.events), ["first", "last"]);
        assert!(page.checked_to >= page.events[1].position);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_transaction_of_somebody_else_holds_no_reader_up() {
    let (store, _) = fresh_store().await;
    let other = client(&shared_server().await).await;
    // It has an id and writes, as a long import does, but not into the log.
    other
        .batch_execute(
            "BEGIN; CREATE TEMPORARY TABLE elsewhere (n integer); INSERT INTO elsewhere VALUES (1)",
        )
        .await
        .unwrap();
    let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    append(&store, "fast/1", vec![event("a")]).await;
    let begun = Instant::now();
    assert_eq!(next(&mut live, 1).await, ["a"]);
    assert_eq!(everything(&store).await, ["a"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    other.batch_execute("COMMIT").await.unwrap();
}

/// Fast and slow committers, aborts among them, and followers: each sees every event once, in order of position.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn followers_miss_nothing_among_slow_fast_and_aborted_commits() {
    let (store, schema) = fresh_store().await;
    let followers: Vec<_> = (0..3)
        .map(|_| {
            let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while seen.len() < 4 * 100 + 25 {
                    seen.extend(live.try_next().await.unwrap().unwrap().events);
                }
                seen
            })
        })
        .collect();
    let slow = tokio::spawn({
        let schema = schema.clone();
        async move {
            for round in 0..50 {
                let slow = Slow::append(&schema, &format!("slow/{round}"), &[]).await;
                tokio::time::sleep(Duration::from_millis(round % 7)).await;
                slow.end(if round % 2 == 0 { "COMMIT" } else { "ROLLBACK" }).await;
            }
        }
    });
    let fast: Vec<_> = (0..4)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut head = None;
                for number in 0..100 {
                    let commit = Commit::new(
                        stream(&format!("fast/{task}")),
                        Expected::from_head(head),
                        vec![event(format!("{task} {number}"))],
                    );
                    head = Some(store.append(commit).await.unwrap().writes[0].head);
                }
            })
        })
        .collect();
    slow.await.unwrap();
    for task in fast {
        task.await.unwrap();
    }
    let all = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert_eq!(all.len(), 4 * 100 + 25);
    for follower in followers {
        assert_eq!(soon("a follower's end", follower).await.unwrap(), all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_in_other_processes_are_notified() {
    let (writer, schema) = fresh_store().await;
    let never = Duration::from_secs(3600);
    let config = config(&shared_server().await).schema(&schema).poll_interval(never);
    let reader = config.connect().await.unwrap();
    let mut live = reader.read_all(Position::ZERO, Filter::all(), Follow::Live);
    for number in 0..5 {
        append(&writer, "a/1", vec![event(number.to_string())]).await;
        assert_eq!(next(&mut live, 1).await, [number.to_string()]);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notification_is_made_up_for() {
    let (store, schema) = fresh_store().await;
    let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    append(&store, "a/1", vec![event("first")]).await;
    assert_eq!(next(&mut live, 1).await, ["first"]);
    // Somebody whose process ends between the commit and the notification.
    Slow::append(&schema, "slow/1", &[]).await.end("COMMIT").await;
    assert_eq!(next(&mut live, 1).await, ["slow"]);
}
