//! Cutting off what lies before an origin.

use super::support::*;

async fn truncate(store: &Events, stream: &StreamId, before: u64) -> Result<Removed> {
    store.remove(stream, Removal::BeforeOrigin(Version(before))).await
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
        assert_eq!(removed, Removed { events: cut, snapshots: 0, tombstone: None });
        for range in [VersionRange::ALL, VersionRange::from(Version(1)), VersionRange::from(Version(before))]
        {
            assert_eq!(read_range(&store, &stream, range, Direction::Forward).await, all[left..]);
        }
        let backward = read_range(&store, &stream, VersionRange::ALL, Direction::Backward).await;
        assert!(backward.iter().rev().eq(&all[left..]));
        let below = VersionRange::ALL.up_to(Some(Version(before - 1)));
        assert!(read_range(&store, &stream, below, Direction::Forward).await.is_empty());
        assert_eq!(store.head(&stream).await.unwrap(), Some(head));
        assert_eq!(log(&store, Position::ZERO, Filter::stream(stream.clone())).await, all[left..]);
    }
    assert_invalid(truncate(&store, &stream, 4).await);
    assert_history(&store, &other, &events).await;
    let verified = crate::verify_chain_where(&store, space.filter()).await.unwrap();
    assert_eq!((verified.events, verified.truncated), (3 + 9, 1));
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
