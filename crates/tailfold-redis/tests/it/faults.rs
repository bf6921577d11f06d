//! Redis flushed, full, slow, halted, dead, absent: every load answers, right and in bounded time, and says why it had to replay.

use super::support::*;

/// Events in memory and a tier on that server, with 25 events in two streams and a snapshot of each at 20.
async fn run_on(url: &str) -> (Repository<Tally>, RedisSnapshots) {
    let redis = tier(url).await;
    let tallies = repository(&MemoryStore::new(), &redis);
    for id in ["a", "b"] {
        add(&tallies, id, 20).await;
        add(&tallies, id, 5).await;
        assert_eq!(load(&tallies, id).await.source, Source::Snapshot(Version(20)));
    }
    (tallies, redis)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_between_save_and_load_costs_a_replay_and_the_tier_fills_again() {
    let server = own_server().await;
    let (tallies, _redis) = run_on(&server.url()).await;
    let () = say(&server.url(), &["FLUSHALL"]).await;
    let report = load(&tallies, "a").await;
    assert_eq!((report.source, report.rejected.len(), report.replayed_events), (Source::Replay, 0, 25));
    tallies.flush().await;
    assert_eq!(load(&tallies, "a").await.source, Source::Snapshot(Version(25)));
}

#[tokio::test(flavor = "multi_thread")]
async fn flushes_in_the_middle_of_a_run_change_no_answer() {
    let server = own_server().await;
    let (tallies, _redis) = run_on(&server.url()).await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let flushing = tokio::spawn({
        let url = server.url();
        async move {
            while !*stopped.borrow_and_update() {
                for command in ["FLUSHALL", "FLUSHALL", "SCRIPT"] {
                    let words = if command == "SCRIPT" { vec!["SCRIPT", "FLUSH"] } else { vec![command] };
                    let () = say(&url, &words).await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
    });
    for _ in 0..20 {
        add(&tallies, "a", 10).await;
        load(&tallies, "a").await;
        load(&tallies, "b").await;
    }
    stop.send(true).unwrap();
    flushing.await.unwrap();
    add(&tallies, "a", 10).await;
    let report = load(&tallies, "a").await;
    assert!(matches!(report.source, Source::Snapshot(_)) && report.rejected.is_empty(), "{report:?}");
    assert_eq!(tallies.stats().await.unwrap().rejected.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_forgotten_the_scripts_is_told_them_again() {
    let server = own_server().await;
    let redis = tier(&server.url()).await;
    for version in 1..=3 {
        let () = say(&server.url(), &["SCRIPT", "FLUSH"]).await;
        let stored = redis.save(&slot("a"), save(version, "state")).await.unwrap();
        assert_eq!(stored, Saved::Stored { pruned: u64::from(version > 1) });
    }
    let () = say(&server.url(), &["SCRIPT", "FLUSH"]).await;
    let read = redis.newest(&slot("a"), Some(Version(9))).await.unwrap().unwrap();
    let () = say(&server.url(), &["SCRIPT", "FLUSH"]).await;
    assert!(redis.compare_and_remove(&slot("a"), &read).await.unwrap());
}

/// Loads go on, use is still noted, and what cannot be kept is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_that_evicts_nothing_serves_what_it_has() {
    let server = own_server().await;
    let (tallies, redis) = run_on(&server.url()).await;
    for setting in [["maxmemory-policy", "noeviction"], ["maxmemory", "1"]] {
        let () = say(&server.url(), &["CONFIG", "SET", setting[0], setting[1]]).await;
    }
    let report = load(&tallies, "a").await;
    assert_eq!((report.source, report.rejected.len()), (Source::Snapshot(Version(20)), 0));
    let error = redis.save(&slot("a"), save(1, "state")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unavailable(tailfold::Outcome::NotDone));
    assert!(error.to_string().contains("full"), "{error}");
    add(&tallies, "a", 25).await;
    load(&tallies, "a").await;
    assert!(tallies.stats().await.unwrap().written["failed"] > 0);
    let () = say(&server.url(), &["CONFIG", "SET", "maxmemory", "0"]).await;
    add(&tallies, "a", 10).await;
    assert_eq!(load(&tallies, "a").await.source, Source::Snapshot(Version(60)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_that_evicts_loses_snapshots_and_no_answer() {
    let server = own_server().await;
    let (tallies, redis) = run_on(&server.url()).await;
    let used: String = say(&server.url(), &["INFO", "memory"]).await;
    let used: u64 =
        used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap();
    for (name, value) in
        [("maxmemory-policy", "allkeys-lru".to_owned()), ("maxmemory", (used + 2_000_000).to_string())]
    {
        let () = say(&server.url(), &["CONFIG", "SET", name, &value]).await;
    }
    for number in 0..400 {
        redis.save(&slot(&number.to_string()), save(1, vec![7; 20_000])).await.unwrap();
    }
    let kept = redis.count(SlotFilter::all()).await.unwrap();
    assert!(kept.snapshots < 200, "{kept:?}");
    for id in ["a", "b"] {
        add(&tallies, id, 25).await;
        load(&tallies, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_costs_the_timeout_and_serves_again_afterwards() {
    let server = own_server().await;
    let (tallies, redis) = run_on(&server.url()).await;
    let () = say(&server.url(), &["CLIENT", "PAUSE", "1500", "ALL"]).await;
    let began = Instant::now();
    let error = redis.newest(&slot("a"), None).await.unwrap_err();
    assert!(began.elapsed() >= TIMEOUT && began.elapsed() < BOUND);
    assert_eq!(error.kind(), &ErrorKind::Unavailable(tailfold::Outcome::NotDone), "{error}");
    let error = redis.save(&slot("a"), save(1, "state")).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    assert!(is_unavailable(&load(&tallies, "a").await));
    is_served_again(&tallies, "a").await;
    assert!(tallies.stats().await.unwrap().rejected.values().sum::<u64>() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_server_costs_the_timeout_and_serves_again_afterwards() {
    let mut server = own_server().await;
    let (tallies, _redis) = run_on(&server.url()).await;
    server.pause().unwrap();
    for _ in 0..3 {
        assert!(is_unavailable(&load(&tallies, "a").await));
    }
    add(&tallies, "b", 5).await;
    server.resume().unwrap();
    is_served_again(&tallies, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_missed_by_reason_and_used_again_when_it_is_back() {
    let mut server = own_server().await;
    let (tallies, _redis) = run_on(&server.url()).await;
    server.kill().unwrap();
    for _ in 0..3 {
        let report = load(&tallies, "a").await;
        assert_eq!((report.source, reasons(&report)), (Source::Replay, vec![Rejection::Unavailable]));
    }
    add(&tallies, "a", 25).await;
    let starting = tokio::task::spawn_blocking(move || {
        server.start_again().unwrap();
        server
    });
    let _server = starting.await.unwrap();
    is_served_again(&tallies, "a").await;
    let stats = tallies.stats().await.unwrap();
    assert!(stats.rejected["unavailable"] >= 3 && stats.written["failed"] > 0, "{stats:?}");
}

/// A load after a restart does not even notice: what found the connection dead is sent again on a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_two_loads_is_no_failure() {
    let mut server = own_server().await;
    let (tallies, _redis) = run_on(&server.url()).await;
    let restarting = tokio::task::spawn_blocking(move || {
        server.restart().unwrap();
        server
    });
    let _server = restarting.await.unwrap();
    let report = load(&tallies, "a").await;
    assert_eq!(report.rejected, []);
    assert_eq!(report.replayed_events, 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_without_its_redis_and_uses_it_once_it_is_there() {
    let mut server = own_server().await;
    server.kill().unwrap();
    let redis = tier(&server.url()).await;
    let tallies: Repository<Tally> = repository(&MemoryStore::new(), &redis);
    add(&tallies, "a", 25).await;
    assert!(is_unavailable(&load(&tallies, "a").await));
    let starting = tokio::task::spawn_blocking(move || {
        server.start_again().unwrap();
        server
    });
    let _server = starting.await.unwrap();
    is_served_again(&tallies, "a").await;
}

/// What was found out while nobody waited any more is nobody's answer: the first call after the server is back succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_to_connect_is_not_the_answer_of_a_later_call() {
    let mut server = own_server().await;
    let redis = tier(&server.url()).await;
    redis.newest(&slot("a"), None).await.unwrap();
    server.pause().unwrap();
    for _ in 0..2 {
        redis.newest(&slot("a"), None).await.unwrap_err();
    }
    // The second one is connecting, for a second at most.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    server.resume().unwrap();
    assert_eq!(redis.newest(&slot("a"), None).await.unwrap(), None);
}

/// No packet says that a connection is dead: it is given up because nobody answers, also where those who ask are impatient.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_replaced() {
    let server = own_server().await;
    let proxy = Proxy::to(server.port()).await.unwrap();
    let redis = tier(&format!("redis://{}", proxy.address())).await;
    redis.save(&slot("a"), save(1, "state")).await.unwrap();
    redis.newest(&slot("a"), None).await.unwrap();
    proxy.lose_answers();
    let began = Instant::now();
    while began.elapsed() < TIMEOUT + Duration::from_millis(100) {
        let slot = slot("a");
        let impatient = tokio::time::timeout(Duration::from_millis(20), redis.newest(&slot, None));
        assert!(!matches!(impatient.await, Ok(Ok(_))));
    }
    // The old connection stays silent; a new one is heard.
    proxy.open();
    soon("a load", async || redis.newest(&slot("a"), None).await.ok().flatten()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_whose_answer_is_lost_may_be_kept_and_is_not_repeated_wrongly() {
    let server = own_server().await;
    let proxy = Proxy::to(server.port()).await.unwrap();
    let redis = tier(&format!("redis://{}", proxy.address())).await;
    redis.save(&slot("a"), save(1, "state 1")).await.unwrap();
    for cut in [1, 40, 200, 700] {
        proxy.cut_after_request_bytes(cut);
        // Sent again on a new connection.
        redis.save(&slot("a"), save(1 + cut, format!("state {cut}"))).await.unwrap();
        let newest = redis.newest(&slot("a"), None).await.unwrap().unwrap();
        assert_eq!((newest.head, &newest.bytes[..]), (head(1 + cut), format!("state {cut}").as_bytes()));
        assert_eq!(redis.list_to_vec(SlotFilter::all()).await.unwrap().len(), 1);
    }
}

/// Its keys are missed in bounded time, the others are served, also to a service that starts meanwhile; all are when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_halted_node_of_a_cluster_is_missed_for_its_own_keys_only() {
    let start =
        || RedisServer::builder().config_line("cluster-require-full-coverage no").start_cluster().unwrap();
    let mut cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let config = RedisConfig::new(cluster.urls()).cluster(true).timeout(TIMEOUT).connect_timeout(TIMEOUT);
    let redis = config.clone().connect().await.unwrap();
    let slots: Vec<_> = (0..30).map(|number| slot(&number.to_string())).collect();
    // Nodes that have just come together may take their time on a busy machine.
    for slot in &slots {
        soon("a save", async || redis.save(slot, save(1, "state")).await.ok()).await;
    }
    cluster.node_mut(1).pause().unwrap();
    let started_meanwhile = config.connect().await.unwrap();
    for redis in [&redis, &started_meanwhile] {
        let mut missed = 0;
        for slot in &slots {
            let began = Instant::now();
            missed += u32::from(redis.newest(slot, None).await.is_err());
            assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        }
        assert!((1..=25).contains(&missed), "{missed} of 30 keys missed");
    }
    cluster.node_mut(1).resume().unwrap();
    for slot in &slots {
        soon("a load", async || redis.newest(slot, None).await.ok()).await.unwrap();
    }
}
