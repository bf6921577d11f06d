//! Replicas, and a replica that becomes the primary.

use super::support::*;

async fn pair() -> (RedisServer, RedisServer) {
    let (primary, replica) = (own_server().await, own_server().await);
    follow(&replica, &primary).await;
    (primary, replica)
}

async fn follow(replica: &RedisServer, primary: &RedisServer) {
    let port = primary.port().to_string();
    let () = say(&replica.url(), &["REPLICAOF", "127.0.0.1", &port]).await;
    soon("replication", async || {
        let info: String = say(&replica.url(), &["INFO", "replication"]).await;
        info.contains("master_link_status:up").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_replica_serves_loads_and_refuses_saves_by_name() {
    let (primary, replica) = pair().await;
    let (writer, reader) = (tier(&primary.url()).await, tier(&replica.url()).await);
    writer.save(&slot("a"), save(5, "state")).await.unwrap();
    let found = soon("replication", async || reader.newest(&slot("a"), None).await.unwrap()).await;
    assert_eq!(found.head, head(5));
    assert_eq!(reader.newest(&slot("a"), Some(Version(9))).await.unwrap(), Some(found.clone()));
    for error in [
        reader.save(&slot("a"), save(6, "state")).await.map(|_| ()).unwrap_err(),
        reader.compare_and_remove(&slot("a"), &found).await.map(|_| ()).unwrap_err(),
        reader.mark_used(&[(slot("a"), Version(5))], Day(20_001)).await.unwrap_err(),
        reader.forget(slot("a").key()).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), &ErrorKind::Unavailable(tailfold::Outcome::NotDone), "{error}");
        assert!(error.to_string().contains("read-only replica"), "{error}");
    }
    let tallies: Repository<Tally> = repository(&MemoryStore::new(), &reader);
    add(&tallies, "a", 25).await;
    assert_eq!(load(&tallies, "a").await.replayed_events, 25);
    let () = say(&replica.url(), &["REPLICAOF", "NO", "ONE"]).await;
    add(&tallies, "a", 10).await;
    assert!(matches!(load(&tallies, "a").await.source, Source::Snapshot(_)));
}

/// Of two servers, the one that takes writes is used, also after they have changed places.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_primary_is_used() {
    let (mut primary, replica) = pair().await;
    // The replica is named first.
    let servers = [replica.url(), primary.url()];
    let redis = RedisConfig::new(servers).timeout(TIMEOUT).connect_timeout(TIMEOUT).connect().await.unwrap();
    redis.save(&slot("a"), save(1, "state")).await.unwrap();
    soon("replication", async || tier(&replica.url()).await.newest(&slot("a"), None).await.unwrap()).await;

    primary.kill().unwrap();
    assert!(redis.save(&slot("a"), save(2, "state")).await.is_err());
    assert_eq!(redis.newest(&slot("a"), None).await.unwrap().unwrap().head, head(1));
    let () = say(&replica.url(), &["REPLICAOF", "NO", "ONE"]).await;
    soon("a save on the new primary", async || redis.save(&slot("a"), save(2, "state")).await.ok()).await;

    // And back: the connection to the former primary does not break, which only says READONLY.
    let primary = tokio::task::spawn_blocking(move || {
        primary.start_again().unwrap();
        primary
    });
    let primary = primary.await.unwrap();
    follow(&replica, &primary).await;
    soon("a save after the second change", async || redis.save(&slot("a"), save(3, "state")).await.ok())
        .await;
    let newest = tier(&primary.url()).await.newest(&slot("a"), None).await.unwrap().unwrap();
    assert_eq!(newest.head, head(3));
}
