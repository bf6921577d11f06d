//! What lies under our keys: as the format says, or damaged, foreign, poisoned.

use std::collections::BTreeMap;

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_fields_are_what_the_format_says() {
    let (redis, name, url) = fresh().await;
    for version in [3, 5, 4] {
        redis
            .save(&slot("tally/1"), Save { keep: Keep::All, ..save(version, format!("state {version}")) })
            .await
            .unwrap();
    }
    let fields: BTreeMap<String, String> = say(&url, &["HGETALL", &format!("{name}:tally/1")]).await;
    let chain = "07".repeat(16);
    let expected = [
        ("tally:00000000000000aa", "state 5".to_owned()),
        ("tally:00000000000000aa:3", "state 3".to_owned()),
        ("tally:00000000000000aa:4", "state 4".to_owned()),
        ("tally:00000000000000aa:head", format!("5 {chain} 7 20000")),
        ("tally:00000000000000aa:older", format!("4 {chain} 7 20000\n3 {chain} 7 20000")),
    ];
    assert_eq!(fields, expected.map(|(field, value)| (field.to_owned(), value)).into());
}

/// A repository with 25 events, its snapshot's hash and field, and the server.
async fn poisoned() -> (Repository<Tally>, RedisSnapshots, String, String, String) {
    let (redis, name, url) = fresh().await;
    let tallies: Repository<Tally> = repository(&MemoryStore::new(), &redis);
    add(&tallies, "a", 25).await;
    let field = format!("tally:{}", tallies.serial().unwrap());
    (tallies, redis, format!("{name}:tally/a"), field, url)
}

/// Loads: the poisoned snapshot is rejected for that reason, replaced, and the next load is served.
async fn is_rejected_and_replaced(tallies: &Repository<Tally>, reason: Rejection) {
    let report = load(tallies, "a").await;
    assert_eq!((report.source, reasons(&report)), (Source::Replay, vec![reason]));
    tallies.flush().await;
    let report = load(tallies, "a").await;
    assert!(matches!(report.source, Source::Snapshot(_)) && report.rejected.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_truncated_values_are_rejected_and_replaced() {
    let (tallies, _redis, hash, field, url) = poisoned().await;
    for length in [0, 1, 10, 60] {
        let envelope: Vec<u8> = say(&url, &["HGET", &hash, &field]).await;
        let client = redis::Client::open(url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd("HSET");
        command.arg(&hash).arg(&field).arg(&envelope[..length]);
        let _: i64 = command.query_async(&mut connection).await.unwrap();
        is_rejected_and_replaced(&tallies, Rejection::Corrupt).await;
    }
    let _: i64 = say(&url, &["HSET", &hash, &field, "<html>500 Internal Server Error</html>"]).await;
    is_rejected_and_replaced(&tallies, Rejection::Corrupt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_another_slot_are_rejected_and_replaced() {
    let (tallies, _redis, hash, _, url) = poisoned().await;
    add(&tallies, "b", 25).await;
    let _: i64 = say(&url, &["COPY", &hash.replace("tally/a", "tally/b"), &hash, "REPLACE"]).await;
    is_rejected_and_replaced(&tallies, Rejection::Foreign).await;
}

/// A copy of the production's cache in front of another store; a restored backup.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_another_history_are_rejected_and_replaced() {
    for (events, reason) in [(30, Rejection::Diverged), (15, Rejection::Ahead)] {
        let (_, redis, ..) = poisoned().await;
        let store = MemoryStore::new();
        let plain: Repository<Tally> = Repository::builder(store.clone()).build().unwrap();
        add(&plain, "a", 1).await;
        add(&plain, "a", events).await;
        is_rejected_and_replaced(&repository(&store, &redis), reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_wrong_type_is_an_error_and_is_replaced() {
    let (tallies, redis, hash, _, url) = poisoned().await;
    let key = Slot::new("tally", tallies.serial().unwrap().clone(), "tally/a").unwrap();
    let wrong = async || {
        let () = say(&url, &["DEL", &hash]).await;
        let _: i64 = say(&url, &["RPUSH", &hash, "a", "list"]).await;
    };
    wrong().await;
    assert_eq!(redis.newest(&key, None).await.unwrap_err().kind(), &ErrorKind::Corrupt);
    assert_eq!(redis.newest(&key, Some(Version(5))).await.unwrap_err().kind(), &ErrorKind::Corrupt);
    assert_eq!(redis.list_to_vec(SlotFilter::key("tally/a")).await.unwrap(), []);
    assert_eq!(redis.list_to_vec(SlotFilter::all()).await.unwrap(), []);
    assert_eq!(redis.sweep(SlotFilter::all(), Day(30_000)).await.unwrap(), Swept::default());
    redis.mark_used(&[(key.clone(), Version(20))], Day(30_000)).await.unwrap();
    let stored = StoredSnapshot { head: head(1), bytes: "x".into(), used: Day(1) };
    assert!(!redis.compare_and_remove(&key, &stored).await.unwrap());
    is_rejected_and_replaced(&tallies, Rejection::Unavailable).await;
    wrong().await;
    assert_eq!(redis.forget("tally/a").await.unwrap(), Swept::default());
    assert_eq!(redis.newest(&key, None).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_notes_are_an_error_and_are_replaced() {
    let (tallies, _redis, hash, field, url) = poisoned().await;
    for (damaged, value) in
        [("head", "no line"), ("head", ""), ("head", "20 ab 7 20000"), ("older", "nonsense\n\n1")]
    {
        let _: i64 = say(&url, &["HSET", &hash, &format!("{field}:{damaged}"), value]).await;
        if damaged == "head" {
            is_rejected_and_replaced(&tallies, Rejection::Unavailable).await;
        }
        let report = load(&tallies, "a").await;
        assert!(matches!(report.source, Source::Snapshot(_)), "{report:?}");
    }
    let () = say(&url, &["HDEL", &hash, &field]).await;
    is_rejected_and_replaced(&tallies, Rejection::Unavailable).await;
    let () = say(&url, &["HDEL", &hash, &format!("{field}:head")]).await;
    is_rejected_and_replaced(&tallies, Rejection::Unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_side_by_side_both_hit() {
    let (redis, ..) = fresh().await;
    let events = MemoryStore::new();
    let (old, new) = (repository::<Tally>(&events, &redis), repository::<NextTally>(&events, &redis));
    for _ in 0..3 {
        add(&old, "a", 10).await;
        add(&new, "a", 10).await;
        for source in [load(&old, "a").await.source, new.load("a").await.unwrap().report().source] {
            assert!(matches!(source, Source::Snapshot(_)), "{source}");
        }
    }
    assert_eq!(new.load("a").await.unwrap().state().count, 60);
    assert_eq!(redis.list_to_vec(SlotFilter::key("tally/a")).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_racing_saves_over_two_connections_the_newest_stays() {
    let (first, name, url) = fresh().await;
    let second = RedisConfig::new([url]).name(&name).connect().await.unwrap();
    let mut versions: Vec<u64> = (1..=64).collect();
    fastrand::Rng::with_seed(3).shuffle(&mut versions);
    let tasks: Vec<_> = versions
        .into_iter()
        .map(|version| {
            let redis = if version % 2 == 0 { first.clone() } else { second.clone() };
            tokio::spawn(
                async move { redis.save(&slot("a"), save(version, format!("state {version}"))).await },
            )
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for redis in [first, second] {
        let newest = redis.newest(&slot("a"), None).await.unwrap().unwrap();
        assert_eq!((newest.head, &newest.bytes[..]), (head(64), &b"state 64"[..]));
    }
}

/// The largest envelope that a repository writes by default.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_come_back_as_they_were() {
    let server = own_server().await;
    let redis = RedisConfig::new([server.url()]).timeout(Duration::from_secs(30)).connect().await.unwrap();
    let bytes: Vec<u8> = (0..64_u32 << 20).map(|number| (number % 251) as u8).collect();
    redis.save(&slot("a"), save(1, bytes.clone())).await.unwrap();
    let read = redis.newest(&slot("a"), None).await.unwrap().unwrap();
    assert!(read.bytes == bytes);
    assert!(redis.compare_and_remove(&slot("a"), &read).await.unwrap());
}
