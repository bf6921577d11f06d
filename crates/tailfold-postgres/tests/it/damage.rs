//! What somebody else has changed in the tables.

use crate::support::*;

async fn sql(schema: &str, statement: &str) {
    client(&shared_server().await)
        .await
        .batch_execute(&statement.replace("tf.", &format!("{schema}.")))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_events_are_an_error_and_never_a_short_answer() {
    for (lost, range) in [
        ("version = 3", VersionRange::ALL),
        ("version = 1", VersionRange::ALL),
        ("version IN (4, 5)", VersionRange::from(Version(4)).up_to(Some(Version(5)))),
        ("version < 3", VersionRange::ALL),
    ] {
        let (store, schema) = fresh_store().await;
        append(&store, "a/1", events(10)).await;
        sql(&schema, &format!("DELETE FROM tf.events WHERE {lost}")).await;
        for direction in [Direction::Forward, Direction::Backward] {
            let read: Result<Vec<_>> = store.read(&stream("a/1"), range, direction).try_collect().await;
            let error = read.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Corrupt, "{lost} {direction:?}: {error:?}");
            assert!(error.to_string().starts_with("read stream `a/1`: "), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_row_is_named() {
    for (change, what) in [
        ("chain = '\\x00'", "a chain has 1 bytes instead of 16"),
        ("type = ''", "event type"),
        ("schema_version = -1", "schema version"),
    ] {
        let (store, schema) = fresh_store().await;
        append(&store, "a/1", events(3)).await;
        sql(&schema, &format!("UPDATE tf.events SET {change} WHERE version = 2")).await;
        let error = store.read_to_vec(&stream("a/1"), VersionRange::ALL).await.unwrap_err().to_string();
        assert!(
            error.contains("position 2 (stream `a/1`, version 2) is malformed") && error.contains(what),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_without_its_payload_comes_back_empty_and_makes_room() {
    let (store, schema) = fresh_store().await;
    let slot = Slot::new("fold", "0123456789abcdef".parse().unwrap(), "a/1").unwrap();
    let head = Head { version: Version(3), chain: Chain::from_bytes([7; 16]) };
    let save = Save { head, bytes: "state".into(), keep: Keep::Newest, day: Day(1) };
    store.save(&slot, save.clone()).await.unwrap();
    sql(&schema, "DELETE FROM tf.snapshot_payloads").await;
    let found = store.newest(&slot, None).await.unwrap().unwrap();
    assert!(found.bytes.is_empty());
    assert!(store.compare_and_remove(&slot, &found).await.unwrap());
    store.save(&slot, save).await.unwrap();
    assert_eq!(store.newest(&slot, None).await.unwrap().unwrap().bytes, "state");
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_are_the_same_whether_the_server_or_the_client_links_them() {
    let (store, _) = fresh_store().await;
    // By the function: anything expected. By the statements: a head, one event and several.
    append(&store, "a/1", events(2)).await;
    append(&store, "a/ü/☃ 7", events(2)).await;
    for count in [1, 3] {
        let head = store.head(&stream("a/1")).await.unwrap();
        let commit = Commit::new(stream("a/1"), Expected::from_head(head), events(count));
        store.append(commit).await.unwrap();
    }
    store.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(1))).await.unwrap();
    store.append(Commit::new(stream("a/1"), Expected::NoStream, events(1))).await.unwrap();
    let verified = tailfold_testkit::verify_chain(&store).await.unwrap();
    assert_eq!((verified.events, verified.erased), (4, 1));
}
