//! Commits that are too large for a message, or can be cut in the middle.

use crate::support::*;

async fn small_server() -> (NatsServer, NatsStore) {
    let server = tokio::task::spawn_blocking(|| {
        NatsServer::builder(NatsVersion::V2_15_1).max_payload(32 * 1024).start().unwrap()
    });
    let server = server.await.unwrap();
    let store = open(&server.url(), "tf").await;
    (server, store)
}

fn large(size: usize, seed: u64) -> NewEvent {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    event(bytes)
}

/// Commits of any size around the limit of a message are recorded whole, and a conflict leaves nothing that can be seen.
#[tokio::test(flavor = "multi_thread")]
async fn commits_above_the_limit_of_a_message_are_whole() {
    let (_server, store) = small_server().await;
    let stream = stream("file/1");
    let mut expected = Vec::new();
    for (seed, size) in [1, 29_000, 30_000, 31_000, 32_000, 33_000, 70_000, 500_000].into_iter().enumerate() {
        let events = vec![large(size, seed as u64), event("small"), large(size / 2, 99)];
        append(&store, &stream, events.clone()).await;
        expected.extend(events);
    }
    let recorded = read(&store, &stream).await;
    assert!(recorded.iter().map(|event| &event.data).eq(expected.iter().map(NewEvent::data)));
    assert_eq!(store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap(), recorded);

    let refused = Commit::new(stream.clone(), Expected::NoStream, vec![large(100_000, 5)]);
    assert!(store.append(refused).await.unwrap_err().is_conflict());
    assert_eq!(read(&store, &stream).await, recorded);
    tailfold_testkit::verify_chain(&store).await.unwrap();
}

/// What lies before an origin in the middle of a commit goes, bytes and all; what lies after it stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_cut_at_an_origin_in_its_middle() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let stream = stream("ledger/1");
    append(&store, &stream, events(3)).await;
    let middle = vec![event("4"), origin("5"), event("6"), origin("7"), event("8")];
    let before = append(&store, &stream, middle).await.writes[0].head;
    append(&store, &stream, events(2)).await;
    let (messages, parts) = (format!("{}_EVENTS", name.to_uppercase()), format!("{name}.ch.ledger.*"));
    assert_eq!(raw.count(&messages, &parts).await, 3);
    let all = read(&store, &stream).await;
    for (origin, removed, left_parts) in [(5u64, 4, 2), (7, 2, 1)] {
        let removal = Removal::before_origin(origin, Timestamp::from_micros(0));
        assert_eq!(store.remove(&stream, removal).await.unwrap().events, removed);
        assert_eq!(read(&store, &stream).await, all[origin as usize - 1..]);
        assert_eq!(raw.count(&messages, &parts).await, left_parts);
    }
    assert_eq!(all[7].head(), before);
    let erased = store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    assert_eq!(erased.events, 4);
    assert_eq!(raw.count(&messages, &parts).await, 0);
}

/// Appends of large commits that lose a race write their parts anew, so that truncating never takes a part that is needed.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_racing_commits_survive_a_truncation() {
    let (_server, store) = small_server().await;
    let stream = stream("file/1");
    let tasks = (0..6u64).map(|task| {
        let (store, stream) = (store.clone(), stream.clone());
        tokio::spawn(async move {
            for round in 0..6 {
                append(&store, &stream, vec![origin("start"), large(60_000, task * 10 + round)]).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let all = read(&store, &stream).await;
    assert_eq!(all.len(), 72);
    for origin in (3..72).step_by(2) {
        store.remove(&stream, Removal::before_origin(origin, Timestamp::from_micros(0))).await.unwrap();
        assert_eq!(read(&store, &stream).await, all[origin as usize - 1..]);
    }
}

/// What is removed while it is read is not told as damage, in parts or not.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_removed_while_they_are_read_are_not_damage() {
    let (_server, store) = small_server().await;
    for (number, direction, erased) in [
        (1, Direction::Forward, true),
        (2, Direction::Backward, true),
        (3, Direction::Forward, false),
        (4, Direction::Backward, false),
    ] {
        let stream = stream(&format!("file/{number}"));
        // Enough for a batch of its own, on either side of the commit in parts.
        append(&store, &stream, events(300)).await;
        append(&store, &stream, vec![large(60_000, number), origin("302"), large(60_000, number)]).await;
        append(&store, &stream, [vec![origin("304")], events(300)].concat()).await;
        let mut batches = store.read(&stream, VersionRange::ALL, direction);
        batches.try_next().await.unwrap().unwrap();
        let removal = match erased {
            true => Removal::erase(Timestamp::from_micros(0)),
            false => Removal::before_origin(304, Timestamp::from_micros(0)),
        };
        store.remove(&stream, removal).await.unwrap();
        let error = batches.try_concat().await.map(|events| events.len()).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{number}: {error}");
        assert!(error.to_string().contains("removed meanwhile"), "{error}");
    }
}
