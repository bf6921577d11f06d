//! Erasing a stream: tombstones and second lives.

use super::support::*;

fn moment() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_001)
}

async fn erase(store: &Events, stream: &StreamId) -> Removed {
    store.remove(stream, Removal::erase(moment())).await.unwrap()
}

/// Lets a store without the capability refuse, and checks that everything is still there. Answers whether it has it.
async fn supported(store: &Events) -> bool {
    if store.capabilities().erase {
        return true;
    }
    let (stream, events) = (Space::fresh().stream("a"), facts(1..=2));
    record(store, &stream, &events).await;
    assert_unsupported(store.remove(&stream, Removal::erase(moment())).await);
    assert_history(store, &stream, &events).await;
    false
}

/// An erased stream reads as empty, has no head and is not listed; its events are gone from the log, whatever
/// filter looks for them; others stay.
pub async fn an_erased_stream_is_empty(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let (stream, events) = (space.stream("a"), facts(1..=300));
    let others = ["A", "a ", "a/b", "ab", "b"].map(|id| space.stream(id));
    let tagged = (1..=300).map(|number| fact_with(number, |data| data.tags = vec![space.tag("x")]));
    record(&store, &stream, &tagged.collect::<Vec<_>>()).await;
    for other in &others {
        record(&store, other, &events).await;
    }
    let first = read(&store, &stream).await[0].position;
    let removed = erase(&store, &stream).await;
    assert_eq!((removed.events, removed.snapshots), (300, 0));
    for direction in [Direction::Forward, Direction::Backward] {
        assert!(read_range(&store, &stream, VersionRange::ALL, direction).await.is_empty());
    }
    assert_eq!(store.head(&stream).await.unwrap(), None);
    let listed = store.streams_to_vec(space.filter()).await.unwrap();
    assert!(listed.into_iter().map(|summary| summary.stream).eq(others.clone()), "streams named alike stay");
    // Whatever finds them, and whatever index that takes.
    for filter in [
        Filter::all(),
        Filter::all().and_types([event_type("test.counted")]),
        space.filter(),
        space.filter().and_types([event_type("test.counted")]),
        Filter::stream(stream.clone()),
        Filter::tag(space.tag("x")),
        Filter::stream(stream.clone()).and_tag(space.tag("x")),
    ] {
        let before = Position(first.0 - 1);
        let Some(left) = log_of_stream(&store, &stream, before, filter.clone()).await else { continue };
        assert_eq!(left.len(), 1, "what {filter:?} finds in the log of an erased stream");
        assert!(left[0].data.event_type.is_tombstone(), "{filter:?} finds {:?}", left[0]);
    }
    for other in &others {
        assert_history(&store, other, &events).await;
    }
}

/// The tombstone names the head that was erased, follows from it by its chain, and stands at a new position.
pub async fn a_tombstone_says_what_was_erased(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let stream = space.stream("a");
    let head = record(&store, &stream, &facts(1..=3)).await;
    let newest = read(&store, &stream).await[2].position;
    let id = EventId::fresh();
    let removed = store.remove(&stream, Removal::Erase { id, recorded_at: moment() }).await.unwrap();
    let tombstone = log(&store, Position::ZERO, space.filter()).await.pop().unwrap();
    let data = Tombstone::event(head, id, moment()).unwrap();
    assert_eq!(Tombstone::from_event(&tombstone).unwrap(), Tombstone { erased: head });
    assert_eq!(tombstone.chain, head.chain.link(Digest::of(&data)));
    assert_eq!((&tombstone.stream, tombstone.version, &tombstone.data), (&stream, Version(4), &data));
    assert_eq!(removed.tombstone, Some(tombstone.position));
    assert!(tombstone.position > newest);
}

/// Whoever may have folded events of the stream sees its tombstone: types and tags do not hide it, other categories do.
pub async fn every_filter_of_the_category_sees_the_tombstone(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let stream = space.stream("a");
    let tagged = fact_with(1, |data| data.tags = vec![space.tag("x")]);
    record(&store, &stream, &[tagged]).await;
    let before = log(&store, Position::ZERO, space.filter()).await[0].position;
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
    let position = erase(&store, &stream).await.tombstone.unwrap();
    for filter in [
        space.filter(),
        Filter::stream(stream.clone()),
        space.filter().and_types([event_type("test.other")]),
        space.filter().and_tag(space.tag("x")),
        space.filter().and_tag(space.tag("never")),
        Filter::stream(stream.clone()).and_tag(space.tag("x")).and_types([event_type("test.other")]),
        Filter::category("nobody-has-this").or(space.filter().and_tag(space.tag("y"))),
    ] {
        let seen = log(&store, before, filter.clone()).await;
        let positions: Vec<_> = seen.iter().map(|event| event.position).collect();
        assert_eq!(positions, [position], "{filter:?}");
    }
    // A clause by tag alone is about every category.
    let by_tag = log(&store, before, Filter::tag(space.tag("x"))).await;
    assert!(by_tag.iter().any(|event| event.position == position));
    for filter in [Space::fresh().filter(), Filter::stream(space.stream("b"))] {
        assert!(log(&store, before, filter).await.is_empty());
    }
    assert_eq!(soon("a live reader and a tombstone", joined(live)).await.position, position);
}

/// The next life begins at version 1 with another genesis: equal events give other heads, old heads conflict.
pub async fn the_next_life_is_another_history(store: Events) {
    if !supported(&store).await {
        return;
    }
    let stream = Space::fresh().stream("a");
    let events = facts(1..=3);
    let mut heads = vec![record(&store, &stream, &events).await];
    for expected in [Expected::NoStream, Expected::Version(Version::ZERO), Expected::Any] {
        erase(&store, &stream).await;
        let old = Commit::new(stream.clone(), Expected::Head(heads[0]), vec![fact(4)]);
        assert_conflict(store.append(old).await, &stream, None);
        let tombstone = log(&store, Position::ZERO, Filter::stream(stream.clone())).await.pop().unwrap();
        // The very events of the first life, ids included: they are new facts of a new life.
        let committed = store.append(Commit::new(stream.clone(), expected, events.clone())).await.unwrap();
        assert!(!committed.repeated);
        let genesis = Chain::genesis_after(&stream, tombstone.chain);
        let recorded = read(&store, &stream).await;
        assert_follows(&recorded, &stream, Head { version: Version::ZERO, chain: genesis }, &events);
        let head = store.head(&stream).await.unwrap().unwrap();
        assert_eq!(Some(head), recorded.last().map(RecordedEvent::head));
        assert!(!heads.contains(&head), "two lives with one head");
        heads.push(head);
        let old = Commit::new(stream.clone(), Expected::Head(heads[0]), vec![fact(4)]);
        assert_conflict(store.append(old).await, &stream, Some(head));
    }
    let commit = Commit::new(stream.clone(), Expected::NoStream, events);
    assert!(store.append(commit).await.unwrap().repeated, "a commit of this life is recognised");
    let verified = crate::verify_chain_where(&store, Filter::stream(stream)).await.unwrap();
    assert!((1..=3).contains(&verified.erased), "the last tombstone stays, the ones before it may go");
    assert_eq!((verified.events, verified.streams), (3 + verified.erased, 1));
}

/// Erasing what is empty does nothing, and says so: a stream that never was, or one that was erased already.
pub async fn erasing_an_empty_stream_does_nothing(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    assert_eq!(erase(&store, &space.stream("never")).await, Removed::default());
    record(&store, &space.stream("a"), &facts(1..=1)).await;
    erase(&store, &space.stream("a")).await;
    assert_eq!(erase(&store, &space.stream("a")).await, Removed::default());
    assert_eq!(log(&store, Position::ZERO, space.filter()).await.len(), 1, "one tombstone");
}

/// Positions are never used again, even if the newest events are erased: a reader that had seen them sees what follows.
pub async fn positions_are_never_used_again(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let mut newest = Position::ZERO;
    for round in 0..3 {
        let stream = space.stream(&round.to_string());
        record(&store, &stream, &facts(1..=5)).await;
        let seen = read(&store, &stream).await.pop().unwrap().position;
        assert!(seen > newest);
        let tombstone = erase(&store, &stream).await.tombstone.unwrap();
        assert!(tombstone > seen);
        record(&store, &space.stream("next"), &facts(round..=round)).await;
        let after = log(&store, seen, space.filter()).await;
        assert_eq!(after.len(), 2, "the tombstone and the next event");
        newest = after[1].position;
        assert!(newest > tombstone);
    }
}

/// Erasing beside appends leaves one consistent history, and every append that was acknowledged belongs to one life.
pub async fn erasing_beside_appends_stays_consistent(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let stream = space.stream("a");
    let appenders = (0..4u64).map(|task| {
        let (store, stream) = (store.clone(), stream.clone());
        tokio::spawn(async move {
            for number in 0..40 {
                let commit = Commit::new(stream.clone(), Expected::Any, facts(task..=task + number % 3));
                store.append(commit).await.unwrap();
            }
        })
    });
    let appenders: Vec<_> = appenders.collect();
    let mut erased = 0;
    while !appenders.iter().all(|appender| appender.is_finished()) {
        erased += erase(&store, &stream).await.events;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let left = read(&store, &stream).await.len() as u64;
    assert_eq!(erased + left, 4 * (14 + 13 * 2 + 13 * 3));
    crate::verify_chain_where(&store, space.filter()).await.unwrap();
}

/// A read that is under way while its stream is erased, and begins another life, gives what was there when it
/// began or fails. It never goes on with the next life's events and never ends early as if that were all.
pub async fn a_read_beside_an_erase_is_whole_or_fails(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    for (stream, direction) in [("forward", Direction::Forward), ("backward", Direction::Backward)] {
        let stream = space.stream(stream);
        record_many(&store, &stream, &facts(1..=5000)).await;
        let all = read_range(&store, &stream, VersionRange::ALL, direction).await;
        let mut batches = store.read(&stream, VersionRange::ALL, direction);
        let seen = batches.try_next().await.unwrap().unwrap();
        erase(&store, &stream).await;
        record_many(&store, &stream, &facts(10_001..=15_000)).await;
        assert_whole_or_failed(seen, batches, &all).await;
    }
}

/// A tombstone counts as an addition to a commit's boundary.
pub async fn a_tombstone_changes_a_boundary(store: Events) {
    if !supported(&store).await || store.capabilities().unchanged < Boundary::Category {
        return;
    }
    let space = Space::fresh();
    record(&store, &space.stream("a"), &facts(1..=2)).await;
    let events = read(&store, &space.stream("a")).await;
    let tombstone = erase(&store, &space.stream("a")).await.tombstone.unwrap();
    let filter = space.filter().and_tag(space.tag("x"));
    // It stands in for the events that are gone: they conflict with nobody any more.
    for (filter, seen) in [
        (filter.clone(), events[1].position),
        (filter, events[0].position),
        (space.filter(), events[0].position),
        (space.filter(), Position(events[0].position.0 - 1)),
    ] {
        let commit = Commit::new(space.stream("b"), Expected::NoStream, facts(1..=1));
        assert_changed(store.append(commit.unchanged(filter, seen)).await, tombstone);
    }
}
