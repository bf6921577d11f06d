use tailfold::{
    Commit, Conflict, ErrorKind, EventStore as _, Expected, Filter, InlineSnapshot, Position, Saved,
    SnapshotStore as _, Tag, Unchanged, Version,
};

use crate::support::*;

#[tokio::test]
async fn what_was_appended_is_read_back_byte_for_byte_after_reopening() {
    let place = Place::new();
    let store = place.open().await;
    let mut data = tagged("{\"grüße\":1}", &["course:42", "a \"quoted\" tag"]).into_data();
    data.metadata =
        tailfold::Metadata { correlation_id: Some("c".into()), ..Default::default() }.to_bytes().unwrap();
    data.schema_version = tailfold::SchemaVersion(u32::MAX);
    data.recorded_at = tailfold::Timestamp::from_micros(i64::MIN);
    let written = tailfold::NewEvent::new(data.clone()).unwrap();
    let large = event(&"x".repeat(3 << 20));
    let receipt = append(&store, "a/1", Expected::NoStream, vec![written, large.clone()]).await;
    store.close().await.unwrap();

    let store = place.open().await;
    let read = read(&store, "a/1").await;
    assert_eq!(read[0].data, data);
    assert_eq!(read[1].data, *large.data());
    assert_eq!(verify(&read, tailfold::Chain::genesis(&stream("a/1"))), receipt.writes[0].head);
    assert_eq!(store.head(&stream("a/1")).await.unwrap(), Some(receipt.writes[0].head));
    assert_eq!(receipt.position, read[1].position);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_racing_creators_exactly_one_wins() {
    let place = Place::new();
    let store = place.open().await;
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let commit = Commit::new(stream("a/1"), Expected::NoStream, vec![event(&number.to_string())]);
                store.append(commit).await
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(receipt) => {
                assert!(!receipt.repeated);
                won += 1;
            }
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(read(&store, "a/1").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_among_good_appends_of_one_group_fails_alone() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/0", Expected::NoStream, events(1)).await;
    // A foreign lock lets all of them gather into one group.
    let foreign = place.sqlite();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let store = store.clone();
            let name = format!("a/{number}");
            tokio::spawn(async move {
                store.append(Commit::new(stream(&name), Expected::NoStream, events(2))).await
            })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    foreign.execute_batch("ROLLBACK").unwrap();
    for (number, task) in tasks.into_iter().enumerate() {
        let result = task.await.unwrap();
        assert_eq!(result.is_err_and(|error| error.is_conflict()), number == 0, "stream {number}");
    }
    assert_eq!(read(&store, "a/0").await.len(), 1);
    assert_eq!(read(&store, "a/49").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_the_transaction_fails_alone() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/bad", Expected::NoStream, events(1)).await;
    // The next version of this stream is taken by a row that the writer does not know of.
    let foreign = place.sqlite();
    foreign.execute_batch("CREATE TRIGGER poison BEFORE INSERT ON events WHEN new.payload = x'626F6F6D' BEGIN SELECT raise(ROLLBACK, 'boom'); END;").unwrap();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let store = store.clone();
            let payload = if number == 10 { "boom" } else { "fine" };
            tokio::spawn(async move {
                store
                    .append(Commit::new(
                        stream(&format!("a/{number}")),
                        Expected::NoStream,
                        vec![event(payload)],
                    ))
                    .await
            })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    foreign.execute_batch("ROLLBACK").unwrap();
    for (number, task) in tasks.into_iter().enumerate() {
        let result = task.await.unwrap();
        assert_eq!(result.is_err(), number == 10, "stream {number}: {result:?}");
    }
    assert!(read(&store, "a/10").await.is_empty());
    for number in [9, 11] {
        let name = format!("a/{number}");
        let read = read(&store, &name).await;
        assert_eq!(verify(&read, tailfold::Chain::genesis(&stream(&name))).version, Version(1));
    }
}

#[tokio::test]
async fn the_same_commit_again_gives_the_original_receipt() {
    let place = Place::new();
    let store = place.open().await;
    let first = append(&store, "a/1", Expected::NoStream, events(2)).await;
    let commit = Commit::new(stream("a/1"), Expected::Head(first.writes[0].head), events(2)).and(
        stream("b/1"),
        Expected::NoStream,
        events(1),
    );
    let original = store.append(commit.clone()).await.unwrap();
    append(&store, "a/1", Expected::Any, events(1)).await;
    let store = {
        store.close().await.unwrap();
        place.open().await
    };
    let repeated = store.append(commit.clone()).await.unwrap();
    assert!(repeated.repeated && !original.repeated);
    assert_eq!((&repeated.writes, repeated.position), (&original.writes, original.position));
    assert_eq!(read(&store, "a/1").await.len(), 5);

    let mut partly = commit;
    partly.writes[1].events = events(1);
    let error = store.append(partly).await.unwrap_err();
    let ErrorKind::Conflict(Conflict::Stream { stream: at, actual }) = error.kind() else {
        panic!("{error}")
    };
    assert_eq!((at, actual.unwrap().version), (&stream("a/1"), Version(5)));
}

#[tokio::test]
async fn a_commit_to_several_streams_is_all_or_nothing() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(1)).await;
    let transfer = |expected| {
        Commit::new(stream("a/1"), Expected::Version(Version(1)), events(1)).and(
            stream("a/2"),
            expected,
            events(1),
        )
    };
    let error = store.append(transfer(Expected::Version(Version(9)))).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert_eq!(read(&store, "a/1").await.len(), 1);
    let receipt = store.append(transfer(Expected::NoStream)).await.unwrap();
    assert_eq!(receipt.writes.len(), 2);
    assert_eq!(receipt.position, read(&store, "a/2").await[0].position);
}

#[tokio::test]
async fn unchanged_is_refused_with_the_position_of_what_was_added() {
    let place = Place::new();
    let store = place.open().await;
    let tag = |text: &str| Tag::new(text).unwrap();
    append(&store, "course/1", Expected::Any, vec![tagged("1", &["course:1", "student:1"])]).await;
    let seen = append(&store, "course/2", Expected::Any, vec![tagged("2", &["course:2"])]).await.position;
    let added =
        append(&store, "course/1", Expected::Any, vec![tagged("3", &["student:1", "course:1"])]).await;
    let both = Filter::tag(tag("course:1")).and_tag(tag("student:1"));
    for (filter, after, changed) in [
        (both.clone(), seen, Some(added.position)),
        (both, added.position, None),
        (Filter::tag(tag("course:2")), seen, None),
        (Filter::tag(tag("course:2")).or(Filter::stream(stream("course/1"))), seen, Some(added.position)),
        (Filter::category("course"), seen, Some(added.position)),
        (Filter::category("student"), Position::ZERO, None),
    ] {
        let mut commit = Commit::new(stream("x/1"), Expected::Any, events(1));
        commit.unchanged = Some(Unchanged { filter: filter.clone(), after });
        match (store.append(commit).await, changed) {
            (Ok(_), None) => {}
            (Err(error), Some(position)) => {
                assert_eq!(*error.kind(), ErrorKind::Conflict(Conflict::Changed { position }), "{filter:?}");
            }
            (result, _) => panic!("{filter:?} after {after}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn an_inline_snapshot_shares_the_fate_of_its_events() {
    let place = Place::new();
    let store = place.open().await;
    let new = event("1");
    let head = tailfold::Head {
        version: Version(1),
        chain: tailfold::Chain::genesis(&stream("a/1")).link(new.digest()),
    };
    let mut commit = Commit::new(stream("a/1"), Expected::NoStream, vec![new]);
    commit.snapshot = Some(InlineSnapshot { slot: slot("f", "a/1"), save: save(head, "state") });
    let receipt = store.append(commit).await.unwrap();
    assert_eq!(receipt.snapshot, Some(Saved::Stored { pruned: 0 }));
    let kept = store.newest(&slot("f", "a/1"), None).await.unwrap().unwrap();
    assert_eq!((kept.head, &*kept.bytes), (receipt.writes[0].head, &b"state"[..]));

    let mut late = Commit::new(stream("a/1"), Expected::NoStream, events(1));
    late.snapshot = Some(InlineSnapshot { slot: slot("g", "a/1"), save: save(head, "state") });
    assert!(store.append(late).await.unwrap_err().is_conflict());
    assert_eq!(store.newest(&slot("g", "a/1"), None).await.unwrap(), None);
}

#[tokio::test]
async fn a_dropped_append_happens_as_a_whole_or_not_at_all() {
    let place = Place::new();
    let store = place.open().await;
    for round in 0..100u64 {
        let name = format!("a/{round}");
        let append = store.append(Commit::new(stream(&name), Expected::NoStream, events(5)));
        let patience = std::time::Duration::from_micros(fastrand::u64(0..400));
        drop(tokio::time::timeout(patience, append).await);
    }
    // All that was queued before has been decided when this returns.
    append(&store, "a/last", Expected::NoStream, events(1)).await;
    for round in 0..100 {
        let length = read(&store, &format!("a/{round}")).await.len();
        assert!(length == 0 || length == 5, "{length}");
    }
}

#[tokio::test]
async fn a_closed_store_answers_that_it_is_closed() {
    let place = Place::new();
    let store = place.open().await;
    let clone = store.clone();
    append(&store, "a/1", Expected::Any, events(1)).await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    let error = clone.append(Commit::new(stream("a/1"), Expected::Any, events(1))).await.unwrap_err();
    assert_eq!(error.to_string(), "append to stream `a/1`: the store is closed");
    assert!(clone.head(&stream("a/1")).await.is_err());
    assert!(!place.path.with_extension("tailfold-wal").exists(), "the log is in the file");
}
