//! Redis in front of the store's own snapshots.

use super::support::*;

/// Events and snapshots in memory, with a tier on Redis in front.
fn chain(redis: &RedisSnapshots) -> Repository<Tally> {
    let tiers = [Tier::new("redis", redis.clone()), Tier::own()];
    let builder = Repository::builder(MemoryStore::new()).snapshots(Policy::every(10));
    builder.snapshots_in(tiers).build().unwrap()
}

/// A right load, in bounded time, from a snapshot; the tier that it came from.
async fn tier_of(tallies: &Repository<Tally>, id: &str) -> String {
    let report = load(tallies, id).await;
    assert!(matches!(report.source, Source::Snapshot(_)), "{report:?}");
    report.tier.as_deref().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_filled_from_the_tier_behind_it() {
    let server = own_server().await;
    let redis = tier(&server.url()).await;
    let tallies = chain(&redis);
    add(&tallies, "a", 20).await;
    assert_eq!(tier_of(&tallies, "a").await, "redis");
    let () = say(&server.url(), &["FLUSHALL"]).await;
    assert_eq!(tier_of(&tallies, "a").await, "own");
    tallies.flush().await;
    assert_eq!(tier_of(&tallies, "a").await, "redis");
    let stats = tallies.stats().await.unwrap();
    assert_eq!(stats.tiers[0].requests["filled"], 1, "{stats:?}");
    tallies.erase("a").await.unwrap();
    assert_eq!(redis.list_to_vec(SlotFilter::all()).await.unwrap(), []);
}

/// Flushed, killed, started again, halted, let go: every load is right, in time, and served by a snapshot; Redis is used again
/// each time, without anybody's help.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_stopped_and_flushed_in_the_middle_of_a_run_is_only_missed() {
    let mut server = own_server().await;
    let tallies = chain(&tier(&server.url()).await);
    add(&tallies, "a", 20).await;
    for round in 0..2 {
        assert_eq!(tier_of(&tallies, "a").await, "redis", "round {round}");
        let () = say(&server.url(), &["FLUSHALL"]).await;
        for _ in 0..5 {
            add(&tallies, "a", 10).await;
            tier_of(&tallies, "a").await;
        }
        match round {
            0 => server.kill().unwrap(),
            _ => server.pause().unwrap(),
        }
        for _ in 0..10 {
            add(&tallies, "a", 10).await;
            assert_eq!(tier_of(&tallies, "a").await, "own");
        }
        server = tokio::task::spawn_blocking(move || {
            match round {
                0 => server.start_again().unwrap(),
                _ => server.resume().unwrap(),
            }
            server
        })
        .await
        .unwrap();
        soon("a load from Redis", async || {
            add(&tallies, "a", 1).await;
            (tier_of(&tallies, "a").await == "redis").then_some(())
        })
        .await;
    }
    let stats = tallies.stats().await.unwrap();
    let requests = &stats.tiers[0].requests;
    assert!(requests["failed"] > 0 && requests["timed_out"] > 0 && requests["breaker_open"] > 0, "{stats:?}");
    assert_eq!(stats.written.keys().copied().collect::<Vec<_>>(), ["stored"], "{stats:?}");
}
