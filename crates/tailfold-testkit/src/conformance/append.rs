//! Appending: expectations, races, receipts, limits, bytes.

use super::support::*;

/// Against an empty stream `NoStream`, version 0 and `Any` hold; everything else conflicts and says that it is empty.
pub async fn expectations_against_an_empty_stream(store: Events) {
    let space = Space::fresh();
    let foreign = Head { version: Version(1), chain: Chain::from_bytes([7; 16]) };
    let none = Head { version: Version::ZERO, chain: Chain::genesis(&space.stream("x")) };
    for (index, refused) in
        [Expected::Version(Version(1)), Expected::Head(foreign), Expected::Head(none)].into_iter().enumerate()
    {
        let stream = space.stream(&format!("refused-{index}"));
        assert_conflict(
            store.append(Commit::new(stream.clone(), refused, facts(1..=2))).await,
            &stream,
            None,
        );
        assert_history(&store, &stream, &[]).await;
    }
    for (index, met) in
        [Expected::NoStream, Expected::Version(Version::ZERO), Expected::Any].into_iter().enumerate()
    {
        let (stream, events) = (space.stream(&format!("met-{index}")), facts(1..=2));
        store.append(Commit::new(stream.clone(), met, events.clone())).await.unwrap();
        assert_history(&store, &stream, &events).await;
    }
}

/// Against a stream with events only its exact head, its version and `Any` hold; everything else conflicts, tells the
/// actual head and writes nothing.
pub async fn expectations_against_a_stream_with_events(store: Events) {
    let (space, mut events) = (Space::fresh(), facts(1..=3));
    let stream = space.stream("a");
    let head = record(&store, &stream, &events).await;
    let older = read(&store, &stream).await[1].head();
    for refused in [
        Expected::NoStream,
        Expected::Version(Version(0)),
        Expected::Version(Version(2)),
        Expected::Version(Version(4)),
        Expected::Version(Version(u32::MAX.into())),
        Expected::Head(older),
        Expected::Head(Head { version: Version(4), chain: head.chain }),
    ] {
        let commit = Commit::new(stream.clone(), refused, facts(11..=12));
        assert_conflict(store.append(commit).await, &stream, Some(head));
        assert_history(&store, &stream, &events).await;
    }
    for (number, met) in [(4, Expected::Head(head)), (5, Expected::Version(Version(4))), (6, Expected::Any)] {
        store.append(Commit::new(stream.clone(), met, vec![fact(number)])).await.unwrap();
        events = facts(1..=number)
            .iter()
            .zip(read(&store, &stream).await)
            .map(|(_, event)| again(event))
            .collect();
        assert_eq!(events.len() as u64, number);
        assert_history(&store, &stream, &events).await;
    }
}

fn again(event: RecordedEvent) -> NewEvent {
    NewEvent::new(event.data).unwrap()
}

/// `Expected::Head` compares the chain too: the same version of another history is a conflict.
pub async fn head_of_another_history_conflicts(store: Events) {
    let (space, events) = (Space::fresh(), facts(1..=3));
    let stream = space.stream("a");
    let head = record(&store, &stream, &events).await;
    let other = record(&store, &space.stream("b"), &events).await;
    assert_ne!(head.chain, other.chain, "equal events of two streams are two histories");
    let commit = Commit::new(stream.clone(), Expected::Head(other), vec![fact(4)]);
    assert_conflict(store.append(commit).await, &stream, Some(head));
    assert_history(&store, &stream, &events).await;
}

/// 64 tasks create the same stream at the same time: exactly one succeeds, the others learn its head.
pub async fn of_64_racing_creators_exactly_one_wins(store: Events) {
    let stream = Space::fresh().stream("a");
    let results = at_once((1..=64).map(|number| {
        let (store, commit) =
            (store.clone(), Commit::new(stream.clone(), Expected::NoStream, vec![fact(number)]));
        async move { store.append(commit).await }
    }))
    .await;
    let events = read(&store, &stream).await;
    assert_eq!(events.len(), 1);
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert_eq!(won[0].as_ref().unwrap().writes[0].head, events[0].head());
    for result in lost {
        assert_conflict(result, &stream, Some(events[0].head()));
    }
}

/// Racing appenders that retry on conflict: every event is there once, no version is missing.
pub async fn racing_appenders_lose_and_repeat_nothing(store: Events) {
    let stream = Space::fresh().stream("a");
    let ids = at_once((0..8).map(|task| {
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            let mut ids = Vec::new();
            for number in 0..16 {
                let event = fact(task * 100 + number);
                let mut expected = Expected::from_head(store.head(&stream).await.unwrap());
                loop {
                    match store.append(Commit::new(stream.clone(), expected, vec![event.clone()])).await {
                        Ok(_) => break,
                        Err(error) => match error.kind() {
                            ErrorKind::Conflict(Conflict::Stream { actual, .. }) => {
                                expected = Expected::from_head(*actual);
                            }
                            _ => panic!("{error}"),
                        },
                    }
                }
                ids.push(event.data().id);
            }
            ids
        }
    }))
    .await;
    let events = read(&store, &stream).await;
    let recorded: Vec<_> = events.iter().map(|event| event.data.id).collect();
    assert_eq!(recorded.len(), 8 * 16);
    assert_eq!(recorded.iter().collect::<BTreeSet<_>>(), ids.iter().flatten().collect());
    let expected: Vec<_> = events.into_iter().map(again).collect();
    assert_history(&store, &stream, &expected).await;
}

/// Racing appenders that expect anything all succeed, each one's events in its own order and each commit's in a row.
pub async fn racing_appenders_that_expect_anything_all_succeed(store: Events) {
    let stream = Space::fresh().stream("a");
    at_once((0..8u64).map(|task| {
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            for number in 0..10 {
                let first = task * 1000 + number * 10;
                let commit = Commit::new(stream.clone(), Expected::Any, facts(first..=first + 2));
                let written = store.append(commit).await.unwrap().writes[0].clone();
                assert_eq!(written.head.version, Version(written.first.0 + 2));
            }
        }
    }))
    .await;
    let events = read(&store, &stream).await;
    assert_eq!(events.len(), 8 * 10 * 3);
    let times: Vec<_> = events.iter().map(|event| event.data.recorded_at.as_micros()).collect();
    assert!(times.chunks(3).all(|commit| commit[1] == commit[0] + 1 && commit[2] == commit[0] + 2));
    let mut last = BTreeMap::new();
    for time in times {
        let before = last.insert((time - 1_700_000_000_000_000) / 1000, time);
        assert!(before.is_none_or(|before| before < time), "one task's events are out of order");
    }
    let expected: Vec<_> = events.into_iter().map(again).collect();
    assert_history(&store, &stream, &expected).await;
}

/// A receipt names the first version, the head after the last event, and the position of the last event.
pub async fn a_receipt_names_versions_head_and_position(store: Events) {
    let stream = Space::fresh().stream("a");
    let mut head = None;
    for (first, last) in [(1, 1), (2, 4), (5, 5)] {
        let commit = Commit::new(stream.clone(), Expected::from_head(head), facts(first..=last));
        let committed = store.append(commit).await.unwrap();
        let event = read(&store, &stream).await.pop().unwrap();
        head = Some(event.head());
        let written = Written { stream: stream.clone(), first: Version(first), head: event.head() };
        let expected =
            Committed { writes: vec![written], position: event.position, snapshot: None, repeated: false };
        assert_eq!(committed, expected);
        assert_eq!(event.version, Version(last));
    }
}

/// What one task was told is recorded, every other task sees: in `head`, in `read` and in `read_all`.
pub async fn an_acknowledged_append_is_seen_by_everybody(store: Events) {
    let space = Space::fresh();
    for number in 1..=20u64 {
        let stream = space.stream(&number.to_string());
        let (writer, commit) = (store.clone(), Commit::new(stream.clone(), Expected::NoStream, facts(1..=3)));
        let committed = joined(tokio::spawn(async move { writer.append(commit).await.unwrap() })).await;
        let (reader, filter) = (store.clone(), space.filter());
        let seen = tokio::spawn(async move {
            assert_eq!(reader.head(&stream).await.unwrap(), Some(committed.writes[0].head));
            assert_eq!(read(&reader, &stream).await.len(), 3);
            log(&reader, Position::ZERO, filter).await.last().map(|event| event.position)
        });
        assert_eq!(joined(seen).await, Some(committed.position), "the end of the log, seen by another task");
    }
}

/// A commit without events, or with no events for one of its streams, is invalid.
pub async fn a_commit_without_events_is_invalid(store: Events) {
    let space = Space::fresh();
    let (one, two) = (space.stream("1"), space.stream("2"));
    assert_invalid(store.append(Commit::new(one.clone(), Expected::Any, Vec::new())).await);
    let commit = Commit::new(one.clone(), Expected::Any, facts(1..=1)).and(two, Expected::Any, Vec::new());
    assert_invalid(store.append(commit).await);
    let mut nothing = Commit::new(one.clone(), Expected::Any, facts(1..=1));
    nothing.writes.clear();
    assert_invalid(store.append(nothing).await);
    assert_history(&store, &one, &[]).await;
}

/// A commit of as many events as are allowed is recorded whole; one more is invalid and nothing of it is written.
pub async fn a_commit_has_at_most_4096_events(store: Events) {
    let stream = Space::fresh().stream("a");
    let most = Commit::MAX_EVENTS as u64;
    assert_invalid(store.append(Commit::new(stream.clone(), Expected::Any, facts(1..=most + 1))).await);
    assert_history(&store, &stream, &[]).await;
    let events = facts(1..=most);
    store.append(Commit::new(stream.clone(), Expected::NoStream, events.clone())).await.unwrap();
    assert_history(&store, &stream, &events).await;
}

/// Payloads and metadata of any bytes, times, types, schema versions and tags at their limits come back as they were.
pub async fn awkward_events_come_back_exactly(store: Events) {
    let space = Space::fresh();
    let stream = space.stream("a");
    let mut random = vec![0u8; 1024 * 1024];
    fastrand::Rng::with_seed(7).fill(&mut random);
    let payloads: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\0\0a\0",
        b"{\"b\": 1, \"a\":  1.50}",
        b"\xff\xfe\x80",
        b"\\x00'\"\r\n",
        "\u{feff}\u{1F600}".as_bytes(),
        &[0xff; 4097],
        &random,
    ];
    let mut events = Vec::new();
    for payload in payloads {
        events.push(fact_with(0, |data| data.payload = Bytes::copy_from_slice(payload)));
        let metadata = payload.get(..EventData::MAX_METADATA_BYTES).unwrap_or(payload);
        events.push(fact_with(0, |data| data.metadata = Bytes::copy_from_slice(metadata)));
    }
    for micros in [i64::MIN, -1, 0, 1, i64::MAX] {
        events.push(fact_with(0, |data| data.recorded_at = Timestamp::from_micros(micros)));
    }
    for version in [0, 1, u32::MAX] {
        events.push(fact_with(0, |data| data.schema_version = SchemaVersion(version)));
    }
    for name in ["a", "A", &"x".repeat(128), "tailfold.erased2", "a:b-c_d.e"] {
        events.push(fact_with(0, |data| data.event_type = event_type(name)));
    }
    for origin in [true, false] {
        events.push(fact_with(0, |data| data.origin = origin));
    }
    let longest = "\u{1F600}".repeat(63) + "abc";
    for text in ["a", "A", "%", "_", "a,b", "{a}", "\"", "'", "\\", " a ", longest.as_str()] {
        events.push(fact_with(0, |data| data.tags = vec![Tag::new(text).unwrap()]));
    }
    // Not in order, so that a store that sorts or deduplicates them shows.
    let many = (0..EventData::MAX_TAGS).rev().map(|number| Tag::new(&format!("t{}", number % 31)).unwrap());
    events.push(fact_with(0, |data| data.tags = many.collect()));
    record(&store, &stream, &events).await;
    let recorded = assert_history(&store, &stream, &events).await;
    assert_eq!(log(&store, Position::ZERO, Filter::stream(stream)).await, recorded);
}

/// The largest payload is recorded exactly, or refused as invalid: never cut, never half.
pub async fn the_largest_payload_is_exact_or_invalid(store: Events) {
    let stream = Space::fresh().stream("a");
    let payload = vec![0xa5; EventData::MAX_PAYLOAD_BYTES];
    let events = [fact(1), fact_with(2, |data| data.payload = payload.into())];
    match store.append(Commit::new(stream.clone(), Expected::NoStream, events.to_vec())).await {
        Ok(_) => assert_history(&store, &stream, &events).await,
        refused => {
            assert_invalid(refused);
            assert_history(&store, &stream, &[]).await
        }
    };
}

/// Streams with similar, long or awkward names are streams of their own.
pub async fn streams_with_similar_names_do_not_mix(store: Events) {
    let space = Space::fresh();
    let longest = "x".repeat(StreamId::MAX_ID_BYTES);
    let ids = [
        "a",
        "A",
        "a ",
        " a",
        "a/b",
        "a/b/",
        "a.b",
        "a*",
        "a>",
        "*",
        ">",
        ".",
        "..",
        "a_b",
        "a%",
        "%",
        "_",
        "a:b",
        "'",
        "\"",
        "\\",
        "$a",
        "é",
        "e\u{301}",
        "\u{1F600}",
        "a\u{a0}b",
        "0",
        "00",
        &longest,
    ];
    for (number, id) in ids.iter().enumerate() {
        let commit = Commit::new(space.stream(id), Expected::NoStream, vec![fact(number as u64)]);
        store.append(commit).await.unwrap();
    }
    for (number, id) in ids.iter().enumerate() {
        let stream = space.stream(id);
        let events = read(&store, &stream).await;
        assert_eq!(events.len(), 1, "{stream}");
        assert_eq!(&events[0].data.payload, &fact(number as u64).data().payload, "{stream}");
        assert_eq!(log(&store, Position::ZERO, Filter::stream(stream)).await, events);
    }
    assert_eq!(log(&store, Position::ZERO, space.filter()).await.len(), ids.len());
}

/// An append whose future is dropped has happened as a whole or not at all, and sending the same commit again settles it.
pub async fn a_dropped_append_happened_whole_or_not_at_all(store: Events) {
    let space = Space::fresh();
    at_once((0..48u64).map(|task| {
        let (store, stream) = (store.clone(), space.stream(&task.to_string()));
        async move {
            let events = facts(1..=20);
            let commit = Commit::new(stream.clone(), Expected::NoStream, events.clone());
            {
                let mut append = store.append(commit.clone());
                // Some are dropped before their first poll ends, some a while later, some not at all.
                let patience = Duration::from_micros(task * task * 4);
                if tokio::time::timeout(patience, &mut append).await.is_ok_and(|result| result.is_err()) {
                    panic!("an append to an empty stream failed");
                }
            }
            let seen = read(&store, &stream).await.len();
            assert!(seen == 0 || seen == 20, "{seen} of 20 events are recorded");
            store.append(commit).await.unwrap();
            assert_history(&store, &stream, &events).await;
        }
    }))
    .await;
}

/// The store's id is the same whoever asks, and appends do not change it.
pub async fn the_store_id_is_stable(store: Events) {
    let id = store.store_id().await.unwrap();
    record(&store, &Space::fresh().stream("a"), &facts(1..=3)).await;
    assert_eq!(store.store_id().await.unwrap(), id);
    let other = store.clone();
    assert_eq!(joined(tokio::spawn(async move { other.store_id().await.unwrap() })).await, id);
}

/// What the store computed as chains is what anybody recomputes from its log.
pub async fn chains_are_what_anybody_recomputes(store: Events) {
    let space = Space::fresh();
    for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
        for _ in 0..=number {
            record(&store, &space.stream(id), &facts(1..=5)).await;
        }
    }
    let verified = crate::verify_chain_where(&store, space.filter()).await.unwrap();
    assert_eq!((verified.events, verified.streams, verified.erased, verified.truncated), (30, 3, 0, 0));
}
