//! How long Redis keeps what.

use super::support::*;

const DAY: i64 = 24 * 60 * 60;

#[tokio::test(flavor = "multi_thread")]
async fn every_use_gives_the_whole_retention_again() {
    let (redis, name, url) = fresh().await;
    let hash = format!("{name}:a");
    redis.save(&slot("a"), save(5, "state")).await.unwrap();
    let left = async || -> i64 { say(&url, &["TTL", &hash]).await };
    assert!((90 * DAY - 60..=90 * DAY).contains(&left().await));
    for use_it in 0..4 {
        let () = say(&url, &["EXPIRE", &hash, "1000"]).await;
        match use_it {
            0 => drop(redis.newest(&slot("a"), None).await.unwrap()),
            1 => redis.mark_used(&[(slot("a"), Version(5))], Day(20_001)).await.unwrap(),
            2 => drop(redis.save(&slot("a"), save(6, "state")).await.unwrap()),
            _ => drop(redis.newest(&slot("a"), Some(Version(6))).await.unwrap()),
        }
        assert!(left().await > 89 * DAY, "use {use_it}");
    }
    let () = say(&url, &["EXPIRE", &hash, "1000"]).await;
    redis.list_to_vec(SlotFilter::all()).await.unwrap();
    redis.newest(&slot("b"), None).await.unwrap();
    assert!(left().await <= 1000, "a list is no use");
}

fn lasting(key: &str) -> Slot {
    Slot::new(Slot::LASTING, "0000000000000001".parse().unwrap(), key).unwrap()
}

/// Checkpoints and parked events have no end at all, whoever has written them before.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_snapshot_never_expires() {
    let (_, name, url) = fresh().await;
    let redis: RedisConfig = format!("{url}?name={name}&retention=1").parse().unwrap();
    let redis = redis.connect().await.unwrap();
    let hash = format!("{name}:seen");
    redis.save(&lasting("seen"), save(5, "state")).await.unwrap();
    for use_it in 0..5 {
        let left: i64 = say(&url, &["TTL", &hash]).await;
        assert_eq!(left, -1, "before use {use_it}");
        // As an earlier release has left it.
        let () = say(&url, &["EXPIRE", &hash, "10000000000"]).await;
        match use_it {
            0 => drop(redis.newest(&lasting("seen"), None).await.unwrap()),
            1 => redis.mark_used(&[(lasting("seen"), Version(5))], Day(20_001)).await.unwrap(),
            2 => drop(redis.save(&lasting("seen"), save(6, "state")).await.unwrap()),
            3 => drop(redis.newest(&lasting("seen"), Some(Version(6))).await.unwrap()),
            _ => drop(redis.save(&lasting("seen"), save(6, "other")).await.unwrap()),
        }
    }
    let left: i64 = say(&url, &["TTL", &hash]).await;
    assert_eq!(left, -1);
}

/// A server that makes room drops snapshots, and no checkpoint; one that would drop any key is given none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_snapshot_is_not_dropped_for_want_of_memory() {
    let server = own_server().await;
    let (url, redis) = (server.url(), tier(&server.url()).await);
    let policy = async |policy| -> () { say(&url, &["CONFIG", "SET", "maxmemory-policy", policy]).await };
    policy("allkeys-lru").await;
    redis.save(&lasting("seen"), save(5, "state")).await.unwrap();
    let () = say(&url, &["CONFIG", "SET", "maxmemory", "20mb"]).await;
    redis.save(&slot("a"), save(5, "state")).await.unwrap();
    let error = redis.save(&lasting("seen"), save(6, "state")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(
        error.to_string().contains("allkeys-lru") && error.to_string().contains("`noeviction`"),
        "{error}"
    );
    policy("volatile-lru").await;
    redis.save(&lasting("seen"), save(6, "state")).await.unwrap();
    for number in 0..60 {
        redis.save(&slot(&number.to_string()), save(5, vec![1; 1_000_000])).await.unwrap();
    }
    assert!(redis.list_to_vec(SlotFilter::all()).await.unwrap().len() < 40, "it has made room");
    assert_eq!(redis.newest(&lasting("seen"), None).await.unwrap().unwrap().bytes, "state");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_is_gone_after_the_retention() {
    let (_, name, url) = fresh().await;
    let redis: RedisConfig = format!("{url}?name={name}&retention=7").parse().unwrap();
    let redis = redis.connect().await.unwrap();
    redis.save(&slot("a"), save(5, "state")).await.unwrap();
    let left: i64 = say(&url, &["TTL", &format!("{name}:a")]).await;
    assert!((7 * DAY - 60..=7 * DAY).contains(&left), "{left}");
    let () = say(&url, &["PEXPIRE", &format!("{name}:a"), "1"]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(redis.newest(&slot("a"), None).await.unwrap(), None);
    assert_eq!(redis.list_to_vec(SlotFilter::all()).await.unwrap(), []);
}

/// The payload is neither sent nor written again: the server hears less than a hundredth of it.
#[tokio::test(flavor = "multi_thread")]
async fn noting_a_use_moves_no_payload() {
    let server = own_server().await;
    let redis = tier(&server.url()).await;
    let keys: Vec<_> = (0..20).map(|number| slot(&number.to_string())).collect();
    for (number, slot) in keys.iter().enumerate() {
        for version in 1..=2 {
            let keep = Keep::All;
            redis.save(slot, Save { keep, ..save(version, vec![number as u8; 1_000_000]) }).await.unwrap();
        }
    }
    let moved = async || -> u64 {
        let info: String = say(&server.url(), &["INFO", "stats"]).await;
        let bytes = |name| {
            info.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<u64>().unwrap()
        };
        bytes("total_net_input_bytes:") + bytes("total_net_output_bytes:")
    };
    let before = moved().await;
    let used: Vec<_> =
        keys.iter().flat_map(|slot| [(slot.clone(), Version(1)), (slot.clone(), Version(2))]).collect();
    redis.mark_used(&used, Day(20_005)).await.unwrap();
    assert!(moved().await - before < 200_000, "{} bytes moved", moved().await - before);
    let listed = redis.list_to_vec(SlotFilter::all()).await.unwrap();
    assert!(listed.len() == 40 && listed.iter().all(|info| info.used == Day(20_005)));
}
