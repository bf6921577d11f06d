use tailfold::{Chain, Commit, EventStore as _, EventStoreExt as _, Expected, Filter, Position, Version};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_append_to_one_file_without_losing_or_forking_anything() {
    let place = Place::new();
    let stores = [place.open().await, place.open().await];
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = stores[task % 2].clone();
            tokio::spawn(async move {
                let id = stream(&format!("a/{}", task / 4));
                let mut done = 0;
                while done < 50 {
                    let expected = Expected::from_head(store.head(&id).await.unwrap());
                    match store.append(Commit::new(id.clone(), expected, events(1))).await {
                        Ok(receipt) => {
                            assert!(!receipt.repeated);
                            done += 1;
                        }
                        Err(error) => assert!(error.is_conflict(), "{error}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for name in ["a/0", "a/1"] {
        let seen = [read(&stores[0], name).await, read(&stores[1], name).await];
        assert_eq!(seen[0], seen[1]);
        assert_eq!(verify(&seen[0], Chain::genesis(&stream(name))).version, Version(200));
    }
    let log = stores[0].read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert_eq!(positions(&log), (1..=400).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_another_handle_erased_or_appended_is_not_remembered_wrongly() {
    let place = Place::new();
    let (mine, other) = (place.open().await, place.open().await);
    let first = append(&mine, "a/1", Expected::NoStream, events(3)).await.writes[0].head;
    append(&other, "a/1", Expected::Head(first), events(1)).await;
    assert!(mine.append(Commit::new(stream("a/1"), Expected::Head(first), events(1))).await.is_err());
    other
        .remove(&stream("a/1"), tailfold::Removal::erase(tailfold::Timestamp::from_micros(0)))
        .await
        .unwrap();
    assert!(mine.append(Commit::new(stream("a/1"), Expected::Head(first), events(1))).await.is_err());
    let second = append(&mine, "a/1", Expected::NoStream, events(3)).await.writes[0].head;
    assert_eq!(second.version, first.version);
    assert_ne!(second.chain, first.chain);
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_that_create_the_file_at_the_same_time_share_one_store() {
    let place = Place::new();
    let path = place.path.clone();
    let openings: Vec<_> =
        (0..8).map(|_| tokio::spawn(tailfold_sqlite::SqliteStore::open(path.clone()))).collect();
    let mut ids = Vec::new();
    for opening in openings {
        let store = opening.await.unwrap().unwrap();
        append(&store, "a/1", Expected::Any, events(1)).await;
        ids.push(store.store_id().await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(read(&place.open().await, "a/1").await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_starts_over_while_the_store_is_busy() {
    let place = Place::new();
    let store = place.open().await;
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    let payload = event(&"x".repeat(200_000));
                    append(&store, &format!("a/{task}"), Expected::Any, vec![payload]).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let wal = place.path.with_extension("tailfold-wal");
    // 320 MB were written; about 64 MiB bring a checkpoint on.
    let megabytes = std::fs::metadata(wal).unwrap().len() >> 20;
    assert!(megabytes < 200, "{megabytes} MiB of log");
}
