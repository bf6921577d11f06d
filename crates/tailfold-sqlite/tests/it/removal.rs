use tailfold::{
    Chain, ErrorKind, EventStore as _, EventStoreExt as _, Expected, Filter, Position, Removal, Removed,
    SlotFilter, SnapshotStore as _, SnapshotStoreExt as _, Timestamp, Tombstone, Version,
};

use crate::support::*;

fn erase() -> Removal {
    Removal::erase(Timestamp::from_micros(17))
}

#[tokio::test]
async fn an_erased_stream_is_empty_and_its_next_life_has_another_genesis() {
    let place = Place::new();
    let store = place.open().await;
    let id = stream("a/1");
    let mut genesis = Chain::genesis(&id);
    for life in 0..3 {
        let receipt =
            append(&store, "a/1", Expected::NoStream, vec![tagged("secret", &["t"]), event("2")]).await;
        let ended = receipt.writes[0].head;
        assert_eq!(receipt.writes[0].first, Version(1));
        assert_eq!(verify(&read(&store, "a/1").await, genesis), ended, "life {life}");
        store.save(&slot("f", "a/1"), save(ended, "state")).await.unwrap();
        store.save(&slot("f", "a/2"), save(ended, "other")).await.unwrap();
        let removed = store.remove(&id, erase()).await.unwrap();
        let tombstone = removed.tombstone.unwrap();
        assert_eq!(removed, Removed { events: 2, snapshots: 1, tombstone: Some(tombstone), marker: None });
        assert!(tombstone > receipt.position);
        assert!(read(&store, "a/1").await.is_empty());
        assert_eq!(store.head(&id).await.unwrap(), None);

        let log = store.read_all_to_vec(receipt.position, Filter::category("a")).await.unwrap();
        assert_eq!(positions(&log), [tombstone.0]);
        assert_eq!(Tombstone::from_event(&log[0]).unwrap().erased, ended);
        assert_eq!((log[0].version, log[0].data.recorded_at), (Version(3), Timestamp::from_micros(17)));
        assert_eq!(log[0].chain, ended.chain.link(tailfold::Digest::of(&log[0].data)));
        genesis = Chain::genesis_after(&id, log[0].chain);
    }
    assert_eq!(store.remove(&id, erase()).await.unwrap(), Removed::default());
    assert_eq!(store.remove(&stream("a/never"), erase()).await.unwrap(), Removed::default());
    assert_eq!(store.count(SlotFilter::all()).await.unwrap().snapshots, 1);
    let tags: i64 = place
        .sqlite()
        .query_row(
            "SELECT (SELECT count(*) FROM event_tags) + (SELECT count(*) FROM tags_behind)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(tags, 0);
}

#[tokio::test]
async fn erased_bytes_are_gone_from_the_file() {
    let place = Place::new();
    let store = place.open().await;
    append(
        &store,
        "a/1",
        Expected::NoStream,
        vec![event("TOP-SECRET-FACT"), event(&"LONG-SECRET".repeat(3000))],
    )
    .await;
    append(&store, "a/2", Expected::NoStream, vec![event("harmless")]).await;
    store.remove(&stream("a/1"), erase()).await.unwrap();
    store.close().await.unwrap();
    let bytes = std::fs::read(&place.path).unwrap();
    for secret in [&b"TOP-SECRET-FACT"[..], b"LONG-SECRET"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[tokio::test]
async fn positions_are_never_given_out_again() {
    let place = Place::new();
    let mut last = Position::ZERO;
    for round in 0..4 {
        let store = place.open().await;
        let other = place.open().await;
        for handle in [&store, &other, &store] {
            let position = append(handle, "a/newest", Expected::Any, events(3)).await.position;
            assert!(position.0 >= last.0 + 3, "round {round}: {position} after {last}");
            last = handle.remove(&stream("a/newest"), erase()).await.unwrap().tombstone.unwrap();
            assert!(last > position);
        }
        // Not even if the tombstone itself is cleared away by hand.
        if round == 2 {
            place.sqlite().execute_batch("DELETE FROM events").unwrap();
        }
        store.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_is_cut_before_an_origin_only_and_keeps_its_versions() {
    let place = Place::new();
    let store = place.open().await;
    let id = stream("a/1");
    append(&store, "a/1", Expected::NoStream, vec![tagged("1", &["t"]), event("2"), origin("3"), event("4")])
        .await;
    let all = read(&store, "a/1").await;
    for (version, key) in [(2, "a/1"), (3, "a/1"), (2, "a/2")] {
        store
            .save(&slot(if version == 2 { "f" } else { "g" }, key), save(head(version, 1), "s"))
            .await
            .unwrap();
    }
    for version in [2, 4, 5, 0] {
        let error =
            store.remove(&id, Removal::before_origin(version, Timestamp::from_micros(0))).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().starts_with("truncate stream `a/1` before version"), "{error}");
    }
    assert_eq!(read(&store, "a/1").await, all);
    let removed = store.remove(&id, Removal::before_origin(3, Timestamp::from_micros(0))).await.unwrap();
    assert_eq!((removed.events, removed.snapshots, removed.tombstone), (2, 1, None));
    assert_eq!(read(&store, "a/1").await, all[2..]);
    let mut backward: Vec<_> = {
        use futures_util::TryStreamExt as _;
        let range = tailfold::VersionRange::ALL;
        store.read(&id, range, tailfold::Direction::Backward).try_concat().await.unwrap()
    };
    backward.reverse();
    assert_eq!(backward, all[2..]);
    let next = append(&store, "a/1", Expected::Head(all[3].head()), events(1)).await;
    assert_eq!(next.writes[0].first, Version(5));
    assert_eq!(store.count(SlotFilter::all()).await.unwrap().snapshots, 2);
    assert_eq!(
        store.remove(&id, Removal::before_origin(3, Timestamp::from_micros(0))).await.unwrap(),
        Removed::default()
    );
}

#[tokio::test]
async fn a_read_that_is_overtaken_by_an_erase_is_an_error_not_a_short_answer() {
    use futures_util::TryStreamExt as _;
    for direction in [tailfold::Direction::Forward, tailfold::Direction::Backward] {
        for length in [3500, 3000] {
            let place = Place::new();
            let store = place.open().await;
            append(&store, "a/1", Expected::NoStream, events(length)).await;
            let mut pages = store.read(&stream("a/1"), tailfold::VersionRange::ALL, direction);
            assert_eq!(pages.try_next().await.unwrap().unwrap().len(), 1000);
            store.remove(&stream("a/1"), erase()).await.unwrap();
            append(&store, "a/1", Expected::NoStream, events(length)).await;
            let rest: Result<Vec<_>, _> = pages.try_concat().await;
            assert!(matches!(rest.unwrap_err().kind(), ErrorKind::Unavailable(_)));
        }
    }
}
