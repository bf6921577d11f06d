//! Servers that die and connections that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::*;

/// Appends of each writer.
const LEAST: usize = 30;

/// Writers that append one event after the other, each to a stream of its own, and note what was acknowledged.
async fn write(
    store: PostgresStore,
    name: String,
    expects_anything: bool,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut head = None;
    // On a busy machine, too, some before the faults and some after them.
    while !stop.load(Ordering::Relaxed) || acknowledged.len() < LEAST {
        let payload = acknowledged.len().to_string();
        let expected = if expects_anything { Expected::Any } else { Expected::from_head(head) };
        let commit = Commit::new(stream(&name), expected, vec![event(payload.clone())]);
        head = Some(store.append(commit).await.unwrap().writes[0].head);
        acknowledged.push(payload);
    }
    acknowledged
}

/// Whatever is done to the server while they write: nothing acknowledged is lost, nothing is there twice.
async fn writers_survive(faults: impl AsyncFnOnce(&mut PostgresServer)) {
    let mut server = own_server().await;
    let store = config(&server.url()).deadline(Duration::from_secs(60)).connect().await.unwrap();
    let mut follower = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..12)
        .map(|task| {
            let name = format!("a/{task}");
            (name.clone(), tokio::spawn(write(store.clone(), name, task % 3 == 0, stop.clone())))
        })
        .collect();
    faults(&mut server).await;
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for (name, writer) in writers {
        let acknowledged = soon("a writer's end", writer).await.unwrap();
        assert_eq!(payloads(&read(&store, &name).await), acknowledged, "{name}");
        total += acknowledged.len();
    }
    let all = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert_eq!(all.len(), total);
    let mut followed = Vec::new();
    soon("what a follower sees", async {
        while followed.len() < total {
            followed.extend(follower.try_next().await.unwrap().unwrap().events);
        }
    })
    .await;
    assert_eq!(followed, all);
    tailfold_testkit::verify_chain(&store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_under_load_loses_and_repeats_nothing() {
    writers_survive(async |server| {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            tokio::task::block_in_place(|| {
                server.kill().unwrap();
                server.start_again().unwrap();
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_restarted_and_paused_under_load_loses_and_repeats_nothing() {
    writers_survive(async |server| {
        for round in 0..4 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            tokio::task::block_in_place(|| match round % 2 {
                0 => server.restart().unwrap(),
                _ => {
                    server.pause().unwrap();
                    std::thread::sleep(Duration::from_millis(500));
                    server.resume().unwrap();
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_are_ended_under_load_lose_and_repeat_nothing() {
    writers_survive(async |server| {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let other = client(&server.url()).await;
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
            other.query(end, &[]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_append_whose_answer_is_lost_is_settled_and_not_repeated() {
    let (proxy, behind, beside) = behind_a_proxy().await;
    for expects in ["head", "version", "anything", "head of several", "anything of several"] {
        for round in 0..3 {
            warm_up(&behind).await;
            let head = beside.head(&stream("a/1")).await.unwrap().unwrap();
            let expected = match expects {
                "version" => Expected::Version(head.version),
                expects if expects.starts_with("anything") => Expected::Any,
                _ => Expected::Head(head),
            };
            let count = if expects.ends_with("several") { 5 } else { 1 };
            let commit = Commit::new(stream("a/1"), expected, events(count));
            // What has gone to the server by now is all of it and no answer to it.
            let before = proxy.answer_bytes();
            proxy.lose_answers();
            let appending = tokio::spawn({
                let (behind, commit) = (behind.clone(), commit.clone());
                async move { behind.append(commit).await }
            });
            soon("the commit", async {
                while beside.head(&stream("a/1")).await.unwrap() == Some(head) {
                    assert!(!appending.is_finished(), "{expects}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            assert_eq!(proxy.answer_bytes(), before);
            proxy.cut();
            let committed = soon("the receipt", appending).await.unwrap().unwrap();
            assert_eq!(committed.writes[0].first, head.version.next(), "{expects} {round}");
            let now = beside.head(&stream("a/1")).await.unwrap().unwrap();
            assert_eq!(now.version, Version(head.version.0 + count), "{expects} {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_append_that_never_arrives_is_sent_again() {
    let (proxy, behind, beside) = behind_a_proxy().await;
    for bytes in [1, 20, 100, 200] {
        let head = beside.head(&stream("a/1")).await.unwrap().unwrap();
        proxy.cut_after_request_bytes(bytes);
        let commit = Commit::new(stream("a/1"), Expected::Head(head), vec![event("x".repeat(500))]);
        let committed = soon("the append", behind.append(commit)).await.unwrap();
        assert!(!proxy.is_about_to_cut());
        assert_eq!(committed.writes[0].head.version, head.version.next());
        assert_eq!(read(&beside, "a/1").await.len() as u64, head.version.next().0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_append_that_expects_anything_is_recognised_by_its_events_ids() {
    let (proxy, behind, beside) = behind_a_proxy().await;
    let other = client(&shared_server().await).await;
    // Somebody holds the log, so that the append gets half way and no farther.
    let schema = schema_of(&beside);
    for end in ["ROLLBACK", "COMMIT"] {
        let before = read(&beside, "a/1").await.len();
        other
            .batch_execute(&format!("BEGIN; LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE"))
            .await
            .unwrap();
        let appending = tokio::spawn({
            let behind = behind.clone();
            async move { behind.append(Commit::new(stream("a/1"), Expected::Any, vec![event("once")])).await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        // The server's process waits for the lock, and will record the event, beside whoever sends it again.
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.batch_execute(end).await.unwrap();
        soon("the append", appending).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(read(&beside, "a/1").await.len(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_whose_connection_is_cut_is_answered_all_the_same() {
    let (proxy, behind, beside) = behind_a_proxy().await;
    append(&beside, "long/1", events(4000)).await;
    let slot = Slot::new("fold", "0123456789abcdef".parse().unwrap(), "long/1").unwrap();
    let head = beside
        .read_to_vec(&stream("long/1"), VersionRange::from(Version(10)).up_to(Some(Version(10))))
        .await
        .unwrap()[0]
        .head();
    let save = Save { head, bytes: vec![7; 100_000].into(), keep: Keep::Newest, day: Day(1) };
    beside.save(&slot, save).await.unwrap();
    for bytes in [1, 50, 1_000, 90_000, 150_000, 300_000] {
        proxy.cut_after_answer_bytes(bytes);
        let loaded = soon("the load", async {
            let (snapshot, tail) = behind
                .snapshot_and_tail()
                .unwrap()
                .newest_with_tail(&slot, &stream("long/1"), None)
                .await
                .unwrap();
            (snapshot.unwrap(), tail.try_concat().await.unwrap())
        });
        let (snapshot, tail) = loaded.await;
        assert!(!proxy.is_about_to_cut(), "{bytes} bytes");
        assert_eq!((snapshot.head, snapshot.bytes.len(), tail.len()), (head, 100_000, 3_991));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_an_answer_the_outcome_is_unknown_after_the_deadline() {
    let (proxy, _, beside) = behind_a_proxy().await;
    let schema = schema_of(&beside);
    let hasty = through(&proxy).schema(&schema).deadline(Duration::from_millis(700)).connect().await.unwrap();
    let head = beside.head(&stream("a/1")).await.unwrap();
    proxy.lose_answers();
    let begun = Instant::now();
    let commit = Commit::new(stream("a/1"), Expected::from_head(head), events(1));
    let error = hasty.append(commit.clone()).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert!(error.to_string().starts_with("append to stream `a/1`: "), "{error}");
    let error = hasty.head(&stream("a/1")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    proxy.cut();
    // The same commit again settles it.
    let committed = hasty.append(commit).await.unwrap();
    assert_eq!(committed.writes[0].first, head.unwrap().version.next());
    assert_eq!(read(&beside, "a/1").await.len(), 4);
}

/// Appends after a known head beside erases: none goes into a life that has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_append_goes_into_a_life_that_has_ended() {
    let (store, _) = fresh_store().await;
    let appenders: Vec<_> = (0..4u64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut recorded = 0;
                for number in 0..150 {
                    let head = store.head(&stream("a/1")).await.unwrap();
                    let events = events(1 + (task + number) % 2);
                    let count = events.len() as u64;
                    match store.append(Commit::new(stream("a/1"), Expected::from_head(head), events)).await {
                        Ok(_) => recorded += count,
                        Err(error) => assert!(error.is_conflict(), "{error:?}"),
                    }
                }
                recorded
            })
        })
        .collect();
    let mut erased = 0;
    while !appenders.iter().all(|appender| appender.is_finished()) {
        let removed = store.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(1))).await.unwrap();
        erased += removed.events;
    }
    let mut recorded = 0;
    for appender in appenders {
        recorded += appender.await.unwrap();
    }
    assert_eq!(erased + read(&store, "a/1").await.len() as u64, recorded);
    tailfold_testkit::verify_chain(&store).await.unwrap();
}
