//! Reading the log to its end.

use super::support::*;

fn positions(events: &[RecordedEvent]) -> Vec<Position> {
    events.iter().map(|event| event.position).collect()
}

/// A read begins after its position and holds all that follows, in order.
pub async fn a_read_begins_after_its_position(store: Events) {
    let space = Space::fresh();
    for number in 1..=9 {
        record(&store, &space.stream(&(number % 3).to_string()), &facts(number..=number)).await;
    }
    let all = log(&store, Position::ZERO, space.filter()).await;
    assert_eq!(all.len(), 9);
    assert!(positions(&all).is_sorted_by(|a, b| a < b) && all[0].position > Position::ZERO);
    for (index, event) in all.iter().enumerate() {
        assert_eq!(log(&store, event.position, space.filter()).await, all[index + 1..]);
        assert_eq!(log(&store, Position(event.position.0 - 1), space.filter()).await, all[index..]);
    }
    assert!(log(&store, Position(u64::MAX), space.filter()).await.is_empty());
}

/// The log holds the events as the streams do, byte for byte, and each stream's in the order of its versions.
pub async fn the_log_agrees_with_the_streams(store: Events) {
    let space = Space::fresh();
    at_once((0..6).map(|task| {
        let (store, streams) = (store.clone(), [space.stream("own"), space.stream(&task.to_string())]);
        async move {
            for number in 0..30u64 {
                let stream = &streams[(number % 2) as usize];
                store
                    .append(Commit::new(stream.clone(), Expected::Any, facts(number..=number + task)))
                    .await
                    .unwrap();
            }
        }
    }))
    .await;
    let all = log(&store, Position::ZERO, space.filter()).await;
    assert_eq!(all.len(), 30 * (1 + 2 + 3 + 4 + 5 + 6));
    assert!(positions(&all).is_sorted_by(|a, b| a < b));
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in all {
        streams.entry(event.stream.clone()).or_default().push(event);
    }
    assert_eq!(streams.len(), 7);
    for (stream, events) in streams {
        assert_eq!(read(&store, &stream).await, events);
    }
}

/// Every filter finds exactly what its definition says: any category, any type, any stream, all tags, any clause.
pub async fn filters_find_what_their_definition_says(store: Events) {
    let (one, two) = (Space::fresh(), Space::fresh());
    let tags = [vec![], vec!["x"], vec!["y"], vec!["x", "y"], vec!["y", "x", "z"], vec!["xy"]];
    let mut number = 0;
    for space in [&one, &two] {
        for stream in ["a", "b"] {
            for name in ["test.booked", "test.cancelled"] {
                for tags in &tags {
                    number += 1;
                    let event = fact_with(number, |data| {
                        data.event_type = event_type(name);
                        // The tags are those of the first space, so that they cross categories.
                        data.tags = tags.iter().map(|tag| one.tag(tag)).collect();
                    });
                    record(&store, &space.stream(stream), &[event]).await;
                }
            }
        }
    }
    let (booked, cancelled) = (event_type("test.booked"), event_type("test.cancelled"));
    let [x, y, z, never] = ["x", "y", "z", "never"].map(|tag| one.tag(tag));
    let everything = one.filter().or(two.filter());
    let both = Filter::stream(one.stream("a")).or(Filter::stream(two.stream("b")));
    let filters = [
        (everything.clone(), 48),
        (one.filter(), 24),
        (one.filter().and_types([booked.clone()]), 12),
        (one.filter().and_types([booked.clone(), cancelled.clone()]), 24),
        (one.filter().and_types([event_type("test.book")]), 0),
        (Filter::stream(one.stream("a")), 12),
        (Filter::stream(one.stream("a")).and_types([cancelled.clone()]), 6),
        (both.clone(), 24),
        (both.clone().and_tag(x.clone()), 12),
        (Filter::tag(x.clone()), 24),
        (Filter::tag(x.clone()).and_tag(y.clone()), 16),
        (Filter::tag(y.clone()).and_tag(x.clone()).and_tag(z.clone()), 8),
        (Filter::tag(x.clone()).and_tag(x.clone()), 24),
        (Filter::tag(x.clone()).or(Filter::tag(y.clone())), 32),
        (Filter::tag(x.clone()).and_tag(never.clone()), 0),
        (Filter::tag(never.clone()), 0),
        (Filter::tag(x.clone()).or(one.filter()), 24 + 12),
        (two.filter().and_tag(z.clone()).and_types([booked.clone()]), 2),
        (one.filter().and_tag(y.clone()).or(two.filter().and_types([cancelled])), 12 + 12),
        (Filter::category("nobody-has-this").or(Filter::tag(z)), 8),
        (Filter::tag(x).and_types([booked]).or(Filter::tag(never)), 12),
    ];
    let all = log(&store, Position::ZERO, everything).await;
    for (filter, count) in filters {
        let expected: Vec<_> = all.iter().filter(|event| filter.matches(event)).cloned().collect();
        assert_eq!(expected.len(), count, "the case itself: {filter:?}");
        let tagged = filter.clauses().iter().any(|clause| !clause.tags.is_empty());
        if tagged && !store.capabilities().tag_index {
            // Such a store may still find them, slowly.
            let found = store.read_all_to_vec(Position::ZERO, filter.clone()).await;
            if found.is_err() {
                assert_unsupported(found);
                continue;
            }
        }
        let found = log_of(&store, &[&one, &two], Position::ZERO, filter.clone()).await;
        assert_eq!(found, expected, "{filter:?}");
        let middle = all[all.len() / 2].position;
        let later: Vec<_> = expected.into_iter().filter(|event| event.position > middle).collect();
        let found = log_of(&store, &[&one, &two], middle, filter.clone()).await;
        assert_eq!(found, later, "{filter:?} after {middle}");
    }
}

/// A stream's own events are found after any position, long as it is, and in whichever of its lives, truncated or not.
pub async fn a_stream_is_found_after_any_position(store: Events) {
    let space = Space::fresh();
    let (stream, other) = (space.stream("a"), space.stream("b"));
    let numbers = |from: u64, count: u64| (from..from + count).map(fact).collect::<Vec<_>>();
    record(&store, &other, &facts(1..=20)).await;
    for (life, lengths) in [[1500, 700, 30], [1, 1, 1], [40, 900, 1100]].into_iter().enumerate() {
        if life > 0 {
            if !store.capabilities().erase {
                break;
            }
            let erased_at = Timestamp::from_micros(1_800_000_000_000_000);
            store.remove(&stream, Removal::erase(erased_at)).await.unwrap();
        }
        for length in lengths {
            record(&store, &stream, &numbers(1, length)).await;
            record(&store, &other, &facts(1..=3)).await;
        }
    }
    if store.capabilities().erase {
        let origin = fact_with(1, |data| data.origin = true);
        let before = record(&store, &stream, &[origin]).await.version;
        record(&store, &stream, &numbers(2, 9)).await;
        store.remove(&stream, Removal::before_origin(before, Timestamp::from_micros(0))).await.unwrap();
        record(&store, &other, &facts(1..=3)).await;
    }
    let all = log(&store, Position::ZERO, space.filter()).await;
    let filter = Filter::stream(stream.clone());
    let expected: Vec<_> = all.iter().filter(|event| event.stream == stream).cloned().collect();
    let places = (0..=20).map(|place| all[(all.len() - 1) * place / 20].position);
    for after in places.chain([Position::ZERO, Position(u64::MAX)]) {
        let later: Vec<_> = expected.iter().filter(|event| event.position > after).cloned().collect();
        assert_eq!(log(&store, after, filter.clone()).await, later, "after {after}");
        let either = log(&store, after, filter.clone().or(Filter::stream(other.clone()))).await;
        let later = &all[all.partition_point(|event| event.position <= after)..];
        assert_eq!(either, later, "either stream after {after}");
    }
}

/// A read can go on after the `checked_to` of any batch, whatever the filter; it never goes back, and at the
/// end it has checked what is recorded and nothing that is yet to come. Batches hold at most 4,096 events and
/// tell how many were visited.
pub async fn a_read_resumes_after_any_batch(store: Events) {
    let space = Space::fresh();
    let events: Vec<_> = (1..=3000)
        .map(|number| {
            fact_with(number, |data| {
                if number % 700 == 0 {
                    data.event_type = event_type("test.rare");
                }
            })
        })
        .collect();
    record(&store, &space.stream("a"), &events).await;
    record(&store, &space.stream("b"), &facts(1..=1600)).await;
    let last = log(&store, Position::ZERO, space.filter()).await.last().unwrap().position;
    for (filter, count) in [
        // More than one batch may hold.
        (space.filter(), 4600),
        (space.filter().and_types([event_type("test.rare")]), 4),
        (space.filter().and_types([event_type("test.never")]), 0),
    ] {
        let all = log(&store, Position::ZERO, filter.clone()).await;
        assert_eq!(all.len(), count);
        let mut batches = store.read_all(Position::ZERO, filter.clone(), Follow::ToEnd);
        let (mut seen, mut checked_to, mut number) = (0, Position::ZERO, 0);
        while let Some(batch) = batches.try_next().await.unwrap() {
            let events = batch.events.len();
            assert!(events <= 4096, "a batch of {events} events");
            assert!(batch.visited >= events as u64, "{} visited to find {events} events", batch.visited);
            assert!(batch.checked_to >= checked_to);
            assert!(batch.events.iter().all(|event| event.position > checked_to));
            assert!(batch.events.iter().all(|event| event.position <= batch.checked_to));
            (seen, checked_to, number) = (seen + batch.events.len(), batch.checked_to, number + 1);
            if number < 20 {
                assert_eq!(log(&store, checked_to, filter.clone()).await, all[seen..]);
            }
        }
        assert_eq!(seen, count);
        assert!(checked_to >= last, "a read to the end has checked everything");
        // What is recorded after the read lies after what it has checked.
        record(&store, &space.stream("b"), &facts(1..=1)).await;
        assert_eq!(log(&store, checked_to, space.filter()).await.len(), 1);
    }
}

/// A reader that comes back after what it has checked misses nothing, however slow and fast commits overlap.
pub async fn a_returning_reader_misses_nothing(store: Events) {
    let space = Space::fresh();
    let tasks = (0..8u64).map(|task| {
        let (store, stream) = (store.clone(), space.stream(&task.to_string()));
        // Some commits are large, and so slow.
        let (commits, size) = if task % 4 == 0 { (6, 300) } else { (40, 1) };
        async move {
            for number in 0..commits {
                let events = facts(number * size..=number * size + size - 1);
                store.append(Commit::new(stream.clone(), Expected::Any, events)).await.unwrap();
            }
        }
    });
    let writers = tokio::spawn(at_once(tasks.collect::<Vec<_>>()));
    let (mut seen, mut checked_to, mut ended) = (Vec::new(), Position::ZERO, false);
    while !ended {
        // A store that never waits would otherwise not let the writers begin.
        tokio::task::yield_now().await;
        ended = writers.is_finished();
        let mut batches = store.read_all(checked_to, space.filter(), Follow::ToEnd);
        while let Some(batch) = batches.try_next().await.unwrap() {
            seen.extend(positions(&batch.events));
            checked_to = batch.checked_to;
        }
    }
    joined(writers).await;
    assert_eq!(seen.len(), 2 * 6 * 300 + 6 * 40);
    assert_eq!(seen, positions(&log(&store, Position::ZERO, space.filter()).await));
}

/// A read to the end ends, although others keep appending.
pub async fn a_read_to_the_end_ends_beside_writers(store: Events) {
    let space = Space::fresh();
    record(&store, &space.stream("a"), &facts(1..=500)).await;
    let writer = tokio::spawn({
        let (store, stream) = (store.clone(), space.stream("b"));
        async move {
            loop {
                store.append(Commit::new(stream.clone(), Expected::Any, facts(1..=5))).await.unwrap();
                // A store that never waits would otherwise not let the task be aborted.
                tokio::task::yield_now().await;
            }
        }
    });
    soon("a read to the end", async {
        for _ in 0..3 {
            assert!(log(&store, Position::ZERO, space.filter()).await.len() >= 500);
        }
    })
    .await;
    writer.abort();
}

/// A commit becomes visible as a whole: a read to the end that begins beside it holds all of its events or
/// none, of one stream and of several.
pub async fn a_read_to_the_end_holds_whole_commits(store: Events) {
    let space = Space::fresh();
    let several = store.capabilities().several_streams;
    let writer = tokio::spawn({
        let (store, space) = (store.clone(), space.clone());
        async move {
            for number in 0..40u64 {
                let commit = Commit::new(space.stream("a"), Expected::Any, facts(number..=number + 2));
                let commit = match several {
                    true => commit.and(space.stream("b"), Expected::Any, facts(number..=number + 3)),
                    false => commit,
                };
                store.append(commit).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    let size = if several { 7 } else { 3 };
    let mut ended = false;
    while !ended {
        // A store that never waits would otherwise not let the writer begin.
        tokio::task::yield_now().await;
        ended = writer.is_finished();
        let seen = log(&store, Position::ZERO, space.filter()).await.len();
        assert_eq!(seen % size, 0, "{seen} events of commits of {size}: a commit is visible in part");
    }
    joined(writer).await;
    assert_eq!(log(&store, Position::ZERO, space.filter()).await.len(), 40 * size);
}

/// Reads of the log that end just before, at and just after any page a store may have are complete.
pub async fn reads_of_the_log_are_complete_around_page_limits(store: Events) {
    let space = Space::fresh();
    for stream in ["a", "b"] {
        record(&store, &space.stream(stream), &facts(1..=1030)).await;
    }
    let all = positions(&log(&store, Position::ZERO, space.filter()).await);
    assert_eq!(all.len(), 2060);
    for count in
        [1, 99, 100, 101, 255, 256, 257, 499, 500, 501, 999, 1000, 1001, 1023, 1024, 1025, 2047, 2048, 2049]
    {
        let after = all[all.len() - count - 1];
        assert_eq!(
            positions(&log(&store, after, space.filter()).await),
            all[all.len() - count..],
            "last {count}"
        );
    }
}
