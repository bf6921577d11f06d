//! Cutting off what lies before an origin.

use super::support::*;

async fn truncate(store: &Events, stream: &StreamId, before: u64) -> Result<Removed> {
    store.remove(stream, Removal::before_origin(before, Timestamp::from_micros(0))).await
}

/// Numbers 1 to 9, of which 4 and 7 are origins.
fn with_origins() -> Vec<NewEvent> {
    (1..=9).map(|number| fact_with(number, |data| data.origin = number % 3 == 1 && number > 1)).collect()
}

/// Without an origin at the version nothing is cut off: not at another event, beyond the end, or in an empty stream.
pub async fn only_an_origin_allows_it(store: Events) {
    let space = Space::fresh();
    let (stream, events) = (space.stream("a"), with_origins());
    record(&store, &stream, &events).await;
    for before in [0, 1, 3, 5, 9, 10, u64::MAX] {
        assert_invalid(truncate(&store, &stream, before).await);
    }
    for before in [0, 1, 4] {
        assert_invalid(truncate(&store, &space.stream("empty"), before).await);
    }
    assert_history(&store, &stream, &events).await;
}

/// What is left keeps versions, chain, positions and head; the log loses what the stream has lost; others stay.
pub async fn what_is_left_stays_as_it_was(store: Events) {
    let space = Space::fresh();
    let (stream, other, events) = (space.stream("a"), space.stream("b"), with_origins());
    let head = record(&store, &stream, &events).await;
    record(&store, &other, &events).await;
    let all = read(&store, &stream).await;
    for (before, cut, left) in [(4, 3, 3), (4, 0, 3), (7, 3, 6)] {
        let removed = truncate(&store, &stream, before).await.unwrap();
        assert_eq!((removed.events, removed.snapshots, removed.tombstone), (cut, 0, None));
        assert_eq!(removed.marker.is_some(), cut > 0, "nothing to tell where nothing went");
        for range in [VersionRange::ALL, VersionRange::from(Version(1)), VersionRange::from(Version(before))]
        {
            assert_eq!(read_range(&store, &stream, range, Direction::Forward).await, all[left..]);
        }
        let backward = read_range(&store, &stream, VersionRange::ALL, Direction::Backward).await;
        assert!(backward.iter().rev().eq(&all[left..]));
        let below = VersionRange::ALL.up_to(Some(Version(before - 1)));
        assert!(read_range(&store, &stream, below, Direction::Forward).await.is_empty());
        assert_eq!(store.head(&stream).await.unwrap(), Some(head));
        let mut logged = log(&store, Position::ZERO, Filter::stream(stream.clone())).await;
        logged.retain(|event| !event.data.event_type.is_truncation());
        assert_eq!(logged, all[left..]);
        for filter in [Filter::all(), space.filter().and_types([event_type("test.counted")])] {
            let before = Position(all[0].position.0 - 1);
            let mut logged = log_of_stream(&store, &stream, before, filter.clone()).await.unwrap();
            logged.retain(|event| !event.data.event_type.is_truncation());
            assert_eq!(logged, all[left..], "what {filter:?} finds in the log of a truncated stream");
        }
    }
    assert_invalid(truncate(&store, &stream, 4).await);
    assert_history(&store, &other, &events).await;
    let verified = crate::verify_chain_where(&store, space.filter()).await.unwrap();
    assert_eq!((verified.events, verified.truncated), (3 + 1 + 9, 1), "one marker, the last");
}

/// Appends go on after the head, and a commit that was recorded is still recognised, even at the very beginning.
pub async fn appends_go_on_after_it(store: Events) {
    let stream = Space::fresh().stream("a");
    let before = record(&store, &stream, &facts(1..=3)).await;
    let events = [fact_with(4, |data| data.origin = true), fact(5)];
    let commit = Commit::new(stream.clone(), Expected::Head(before), events.to_vec());
    let original = store.append(commit.clone()).await.unwrap();
    truncate(&store, &stream, 4).await.unwrap();

    let head = original.writes[0].head;
    assert_eq!(store.append(commit).await.unwrap(), Committed { repeated: true, ..original });
    let empty = Commit::new(stream.clone(), Expected::NoStream, facts(1..=1));
    assert_conflict(store.append(empty).await, &stream, Some(head));
    let more = facts(6..=7);
    store.append(Commit::new(stream.clone(), Expected::Head(head), more.clone())).await.unwrap();
    assert_follows(&read(&store, &stream).await, &stream, before, &[&events[..], &more].concat());
}

/// The last event may be the origin: everything before it goes.
pub async fn everything_before_the_last_event_may_go(store: Events) {
    let stream = Space::fresh().stream("a");
    let before = record(&store, &stream, &facts(1..=400)).await;
    let origin = fact_with(401, |data| data.origin = true);
    record(&store, &stream, std::slice::from_ref(&origin)).await;
    assert_eq!(truncate(&store, &stream, 401).await.unwrap().events, 400);
    assert_follows(&read(&store, &stream).await, &stream, before, &[origin]);
}

/// A truncated stream can be erased; its next life starts at version 1.
pub async fn a_truncated_stream_can_be_erased(store: Events) {
    if !store.capabilities().erase {
        return;
    }
    let space = Space::fresh();
    let stream = space.stream("a");
    record(&store, &stream, &with_origins()).await;
    truncate(&store, &stream, 7).await.unwrap();
    let removed = store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    assert_eq!(removed.events, 3);
    assert_eq!(record(&store, &stream, &facts(1..=2)).await.version, Version(2));
    let verified = crate::verify_chain_where(&store, space.filter()).await.unwrap();
    assert_eq!((verified.events, verified.erased, verified.truncated), (3, 1, 0));
}

/// Whoever has not read the log since a stream was erased hears of it although the next life was truncated meanwhile, and before what is
/// left of that life.
pub async fn a_truncation_hides_no_erase_before_it(store: Events) {
    if !store.capabilities().erase {
        return;
    }
    let space = Space::fresh();
    let (stream, other) = (space.stream("a"), space.stream("b"));
    record(&store, &stream, &facts(1..=3)).await;
    record(&store, &other, &[fact(1)]).await;
    let seen = log(&store, Position::ZERO, space.filter()).await.pop().unwrap().position;
    store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    record(&store, &stream, &with_origins()).await;
    record(&store, &other, &[fact(2)]).await;
    let filters = || [space.filter(), space.filter().and_tag(space.tag("x")), Filter::stream(stream.clone())];
    let mut before = Vec::new();
    for filter in filters() {
        before.push(log(&store, seen, filter).await);
    }
    let mut live = store.read_all(seen, space.filter(), Follow::Live);
    for origin in [4u64, 7] {
        let marker = truncate(&store, &stream, origin).await.unwrap().marker.unwrap();
        for (filter, before) in filters().into_iter().zip(&before) {
            let is_cut_off = |event: &RecordedEvent| {
                event.stream == stream
                    && event.version < Version(origin)
                    && !event.data.event_type.tells_of_removal()
            };
            let expected: Vec<_> = before.iter().filter(|event| !is_cut_off(event)).cloned().collect();
            assert!(expected[0].data.event_type.is_tombstone());
            let mut after = log(&store, seen, filter.clone()).await;
            assert_eq!(after.pop().map(|marker| marker.position), Some(marker), "{filter:?}");
            assert_eq!(after, expected, "{filter:?}");
            // Whoever has read it does not hear of it again.
            let after = log(&store, expected[0].position, filter.clone()).await;
            assert!(after.iter().all(|event| !event.data.event_type.is_tombstone()), "{filter:?}");
        }
        let verified = crate::verify_chain_where(&store, space.filter()).await.unwrap();
        assert_eq!((verified.erased, verified.truncated), (1, 1));
    }
    // Batches before it may have looked at what was cut off alone.
    let mut events = Vec::new();
    while events.is_empty() {
        events = live.try_next().await.unwrap().unwrap().events;
    }
    assert!(events[0].data.event_type.is_tombstone());
}

/// The marker stands in the log, after everything that was there, and says where the stream begins; the stream knows nothing of it.
pub async fn a_marker_stands_in_the_log_alone(store: Events) {
    let space = Space::fresh();
    let (stream, events) = (space.stream("a"), with_origins());
    let head = record(&store, &stream, &events).await;
    let all = read(&store, &stream).await;
    let id = EventId::fresh();
    let recorded_at = Timestamp::from_micros(1_800_000_000_000_001);
    let removal = Removal::BeforeOrigin { version: Version(4), id, recorded_at };
    let position = store.remove(&stream, removal).await.unwrap().marker.unwrap();
    let marker = log(&store, Position::ZERO, space.filter()).await.pop().unwrap();
    assert_eq!((marker.position, &marker.stream, marker.version), (position, &stream, Version(4)));
    assert!(position > all[8].position);
    let truncation = Truncation::from_event(&marker).unwrap();
    assert_eq!((truncation.origin(), truncation.commands()), (all[3].head(), 0));
    assert_eq!(marker.head(), truncation.place(&marker.data));
    assert_eq!(marker.chain, all[3].chain.link(Digest::of(&marker.data)));
    assert_eq!(marker.data.event_type.as_str(), EventType::TRUNCATED);
    assert_eq!(
        (marker.data.recorded_at, marker.data.tags.len(), marker.data.origin),
        (recorded_at, 0, false)
    );

    assert_eq!(read(&store, &stream).await, all[3..]);
    let backward = read_range(&store, &stream, VersionRange::ALL, Direction::Backward).await;
    assert!(backward.iter().rev().eq(&all[3..]));
    assert_eq!(store.head(&stream).await.unwrap(), Some(head));
    let listed = store.streams_to_vec(space.filter()).await.unwrap();
    assert_eq!(listed, [StreamSummary { stream: stream.clone(), head }]);
    let next = record(&store, &stream, &[fact(10)]).await;
    assert_eq!(next.version, Version(10));
    let verified = crate::verify_chain_where(&store, space.filter()).await.unwrap();
    assert_eq!((verified.events, verified.streams, verified.truncated), (7 + 1, 1, 1));
}

/// Whoever may have folded events of the stream sees the marker: types and tags do not hide it, other categories do.
pub async fn every_filter_of_the_category_sees_the_marker(store: Events) {
    let space = Space::fresh();
    let stream = space.stream("a");
    let mut events = with_origins();
    events[0] = fact_with(1, |data| data.tags = vec![space.tag("x")]);
    record(&store, &stream, &events).await;
    record(&store, &space.stream("b"), &facts(1..=3)).await;
    let before = log(&store, Position::ZERO, space.filter()).await.pop().unwrap().position;
    let live = tokio::spawn({
        let (store, filter) = (store.clone(), space.filter().and_types([event_type("test.other")]));
        async move {
            let mut batches = store.read_all(before, filter, Follow::Live);
            loop {
                if let Some(event) = batches.try_next().await.unwrap().unwrap().events.into_iter().next() {
                    return event;
                }
            }
        }
    });
    let position = truncate(&store, &stream, 4).await.unwrap().marker.unwrap();
    for filter in [
        space.filter(),
        Filter::stream(stream.clone()),
        space.filter().and_types([event_type("test.other")]),
        space.filter().and_tag(space.tag("x")),
        space.filter().and_tag(space.tag("x")).and_tag(space.tag("never")),
        Filter::stream(stream.clone()).and_tag(space.tag("x")).and_types([event_type("test.other")]),
        Filter::category("nobody-has-this").or(space.filter().and_tag(space.tag("y"))),
    ] {
        for after in [before, Position(position.0 - 1)] {
            let seen = log(&store, after, filter.clone()).await;
            let positions: Vec<_> = seen.iter().map(|event| event.position).collect();
            assert_eq!(positions, [position], "{filter:?}");
        }
        assert!(log(&store, position, filter.clone()).await.is_empty(), "{filter:?}");
    }
    let by_tag = log(&store, before, Filter::tag(space.tag("x"))).await;
    assert!(by_tag.iter().any(|event| event.position == position));
    for filter in [Space::fresh().filter(), Filter::stream(space.stream("b"))] {
        assert!(log(&store, before, filter).await.is_empty());
    }
    // A store that records the marker before the events go and again after shows it to a live reader twice.
    let first = soon("a live reader and a marker", joined(live)).await;
    assert!(first.data.event_type.is_truncation() && first.stream == stream && first.position <= position);
}

/// What was recorded under idempotency keys is remembered by the marker, by the next one too, and by none once the stream is
/// erased.
pub async fn markers_remember_commands_until_the_stream_is_erased(store: Events) {
    let space = Space::fresh();
    let stream = space.stream("a");
    let keyed = |number: u64, key: &str| {
        fact_with(number, |data| {
            data.tags = vec![Tag::from_stored(&format!("tailfold.key:{key}")).unwrap()];
            data.origin = number % 3 == 1 && number > 1;
        })
    };
    let events: Vec<_> = (1..=9).map(|number| keyed(number, &format!("k{number}"))).collect();
    record(&store, &stream, &events).await;
    let markers = async || {
        let mut markers = log(&store, Position::ZERO, space.filter()).await;
        markers.retain(|event| event.data.event_type.is_truncation());
        markers
    };
    for (before, remembered) in [(4, 3), (4, 3), (7, 6)] {
        truncate(&store, &stream, before).await.unwrap();
        let [marker] = <[RecordedEvent; 1]>::try_from(markers().await).expect("one marker, the last");
        let truncation = Truncation::from_event(&marker).unwrap();
        assert_eq!((truncation.commands(), truncation.forgotten()), (remembered, 0));
        assert_eq!(truncation.origin().version, Version(before));
    }
    if !store.capabilities().erase {
        return;
    }
    for _ in 0..2 {
        store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
        assert!(markers().await.is_empty());
        record(&store, &stream, &events).await;
        truncate(&store, &stream, 4).await.unwrap();
        let truncation = Truncation::from_event(&markers().await[0]).unwrap();
        assert_eq!(truncation.commands(), 3, "those of this life");
    }
    crate::verify_chain_where(&store, space.filter()).await.unwrap();
}

/// A decision on what has been cut off since is refused.
pub async fn a_marker_changes_a_boundary(store: Events) {
    if store.capabilities().unchanged < Boundary::Streams {
        return;
    }
    let space = Space::fresh();
    let stream = space.stream("a");
    let head = record(&store, &stream, &with_origins()).await;
    let seen = read(&store, &stream).await[8].position;
    let marker = truncate(&store, &stream, 4).await.unwrap().marker.unwrap();
    let filter = Filter::stream(stream.clone()).and_tag(space.tag("x"));
    let commit = || Commit::new(stream.clone(), Expected::Head(head), facts(10..=10));
    assert_changed(store.append(commit().unchanged(filter.clone(), seen)).await, marker);
    if store.capabilities().unchanged >= Boundary::Category {
        let elsewhere = Commit::new(space.stream("b"), Expected::NoStream, facts(1..=1));
        let of_category = space.filter().and_tag(space.tag("x"));
        assert_changed(store.append(elsewhere.unchanged(of_category, seen)).await, marker);
    }
    store.append(commit().unchanged(filter, marker)).await.unwrap();
}

/// A read that is under way while the beginning of its stream is cut off gives what was there when it began
/// or fails; it never leaves out what is gone as if it had not been, and nothing of it is told as damage.
pub async fn a_read_beside_a_truncation_is_whole_or_fails(store: Events) {
    let space = Space::fresh();
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    for (number, (direction, to, origin)) in [
        // At the beginning of a commit, in the middle of one, and after all that is wanted.
        (forward, None, 4901),
        (backward, None, 4901),
        (forward, None, 4950),
        (backward, None, 4950),
        (backward, None, 4097),
        (forward, Some(Version(3000)), 4950),
    ]
    .into_iter()
    .enumerate()
    {
        let (stream, range) = (space.stream(&number.to_string()), VersionRange::ALL.up_to(to));
        let events = (1..=5000).map(|number| fact_with(number, |data| data.origin = number == origin));
        match number {
            // In two commits, of which the second is cut off in part.
            2 | 3 => {
                record(&store, &stream, &events.collect::<Vec<_>>()).await;
            }
            _ => record_many(&store, &stream, &events.collect::<Vec<_>>()).await,
        }
        let all = read_range(&store, &stream, range, direction).await;
        let mut batches = store.read(&stream, range, direction);
        let seen = batches.try_next().await.unwrap().unwrap();
        truncate(&store, &stream, origin).await.unwrap();
        assert_whole_or_failed(seen, batches, &all).await;
        // Begun again, it gives what is left.
        let left = read_range(&store, &stream, range, direction).await;
        let expected: Vec<_> = all.into_iter().filter(|event| event.version >= Version(origin)).collect();
        assert_events(&left, &expected, "a read after a truncation");
    }
}

/// Truncations beside appends and readers: every reader of the log has events and marker in an order that a fold can follow.
pub async fn truncating_beside_appends_and_readers_stays_consistent(store: Events) {
    let space = Space::fresh();
    let stream = space.stream("a");
    record(&store, &stream, &with_origins()).await;
    let writer = tokio::spawn({
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            for number in 10..=60 {
                let event = fact_with(number, |data| data.origin = number % 3 == 1);
                store.append(Commit::new(stream.clone(), Expected::Any, vec![event])).await.unwrap();
            }
        }
    });
    let cutter = tokio::spawn({
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            for before in [4, 7, 4, 10, 13, 16] {
                while store.head(&stream).await.unwrap().unwrap().version < Version(before) {
                    tokio::task::yield_now().await;
                }
                match truncate(&store, &stream, before).await {
                    Ok(_) => {}
                    // It was cut off further already.
                    Err(error) => assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}"),
                }
            }
        }
    });
    let filter = space.filter();
    while !(writer.is_finished() && cutter.is_finished()) {
        let seen = log(&store, Position::ZERO, filter.clone()).await;
        assert!(seen.is_sorted_by(|one, next| one.position < next.position));
        tokio::task::yield_now().await;
    }
    joined(writer).await;
    joined(cutter).await;
    let left = read(&store, &stream).await;
    assert_eq!((left[0].version, left.last().unwrap().version), (Version(16), Version(60)));
    let mut logged = log(&store, Position::ZERO, filter.clone()).await;
    let marker = logged.iter().position(|event| event.data.event_type.is_truncation()).unwrap();
    assert_eq!(Truncation::from_event(&logged.remove(marker)).unwrap().origin(), left[0].head());
    assert_eq!(logged, left, "and one marker");
    crate::verify_chain_where(&store, filter).await.unwrap();
}
