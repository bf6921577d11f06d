//! Repeated commits: how an unknown outcome is settled.

use super::support::*;

/// The same commit again returns the original receipt and writes nothing, whatever its expectation but `Any`.
pub async fn the_same_commit_again_returns_the_original_receipt(store: Events) {
    let stream = Space::fresh().stream("a");
    let (mut head, mut all) = (None, Vec::new());
    for (round, count) in [1, 3, 1, 2, 300].into_iter().enumerate() {
        let expected = match (round, head) {
            (0, _) => Expected::NoStream,
            (1 | 4, Some(head)) => Expected::Head(head),
            _ => Expected::Version(Version(all.len() as u64)),
        };
        let events = facts(1..=count);
        let commit = Commit::new(stream.clone(), expected, events.clone());
        let original = store.append(commit.clone()).await.unwrap();
        all.extend(events);
        for _ in 0..2 {
            let again = store.append(commit.clone()).await.unwrap();
            assert_eq!(again, Committed { repeated: true, ..original.clone() });
        }
        head = Some(original.writes[0].head);
    }
    assert_history(&store, &stream, &all).await;
}

/// It also does after others have appended.
pub async fn the_receipt_stays_the_same_after_later_events(store: Events) {
    let stream = Space::fresh().stream("a");
    let (first, second) = (facts(1..=2), facts(3..=4));
    let create = Commit::new(stream.clone(), Expected::NoStream, first.clone());
    let created = store.append(create.clone()).await.unwrap();
    let go_on = Commit::new(stream.clone(), Expected::Head(created.writes[0].head), second.clone());
    let went_on = store.append(go_on.clone()).await.unwrap();
    let later = facts(5..=9);
    record(&store, &stream, &later).await;
    for (commit, original) in [(create, created), (go_on, went_on)] {
        assert_eq!(store.append(commit).await.unwrap(), Committed { repeated: true, ..original });
    }
    assert_history(&store, &stream, &[first, second, later].concat()).await;
}

/// A commit of which only the beginning is recorded is a conflict and leaves everything as it is.
pub async fn a_partly_recorded_commit_conflicts(store: Events) {
    let stream = Space::fresh().stream("a");
    let events = facts(1..=2);
    let head = record(&store, &stream, &events).await;
    for more in [fact(3), events[0].clone()] {
        let commit = Commit::new(stream.clone(), Expected::NoStream, [events.clone(), vec![more]].concat());
        assert_conflict(store.append(commit).await, &stream, Some(head));
    }
    let changed_end = Commit::new(stream.clone(), Expected::NoStream, vec![events[0].clone(), fact(2)]);
    assert_conflict(store.append(changed_end).await, &stream, Some(head));
    assert_history(&store, &stream, &events).await;
}

/// The same ids with another payload, time, type, schema version or metadata are another commit.
pub async fn the_same_ids_with_other_contents_conflict(store: Events) {
    let stream = Space::fresh().stream("a");
    let event = fact(1);
    let head = record(&store, &stream, std::slice::from_ref(&event)).await;
    let changes: [fn(&mut EventData); 5] = [
        |data| data.payload = Bytes::from_static(b"{\"number\":2}"),
        |data| data.recorded_at = Timestamp::from_micros(5),
        |data| data.event_type = event_type("test.other"),
        |data| data.schema_version = SchemaVersion(2),
        |data| data.metadata = Bytes::from_static(b"{}"),
    ];
    for change in changes {
        let mut data = event.data().clone();
        change(&mut data);
        let commit = Commit::new(stream.clone(), Expected::NoStream, vec![NewEvent::new(data).unwrap()]);
        assert_conflict(store.append(commit).await, &stream, Some(head));
    }
    assert_history(&store, &stream, &[event]).await;
}

/// Equal contents under other ids are another commit, and so are the same events in another order.
pub async fn other_ids_or_another_order_conflict(store: Events) {
    let stream = Space::fresh().stream("a");
    let events = facts(1..=2);
    let head = record(&store, &stream, &events).await;
    let reversed: Vec<_> = events.iter().rev().cloned().collect();
    for others in [facts(1..=2), reversed] {
        let commit = Commit::new(stream.clone(), Expected::NoStream, others);
        assert_conflict(store.append(commit).await, &stream, Some(head));
    }
    assert_history(&store, &stream, &events).await;
}

/// The same events after the same version of another history conflict: the head's chain counts for repeats too.
pub async fn the_same_events_after_another_history_conflict(store: Events) {
    let space = Space::fresh();
    let stream = space.stream("a");
    let before = record(&store, &stream, &facts(1..=2)).await;
    let events = facts(3..=4);
    let head = record(&store, &stream, &events).await;
    let other = Head { version: before.version, chain: Chain::from_bytes([9; 16]) };
    let commit = Commit::new(stream.clone(), Expected::Head(other), events);
    assert_conflict(store.append(commit).await, &stream, Some(head));
    assert_eq!(store.head(&stream).await.unwrap(), Some(head));
}

/// Events are compared, not commits: what was recorded as a part of a larger commit, or by several, has
/// happened before.
pub async fn a_part_of_a_larger_commit_is_recognised(store: Events) {
    let stream = Space::fresh().stream("a");
    let events = facts(1..=6);
    for part in [&events[..4], &events[4..]] {
        let expected = Expected::from_head(store.head(&stream).await.unwrap());
        store.append(Commit::new(stream.clone(), expected, part.to_vec())).await.unwrap();
    }
    let recorded = assert_history(&store, &stream, &events).await;
    for (from, to) in [(0, 1), (0, 2), (0, 6), (1, 3), (2, 6), (3, 5), (5, 6)] {
        let expected = match from {
            0 => Expected::NoStream,
            _ => Expected::Head(recorded[from - 1].head()),
        };
        let again = Commit::new(stream.clone(), expected, events[from..to].to_vec());
        let written = Written {
            stream: stream.clone(),
            first: Version(from as u64 + 1),
            head: recorded[to - 1].head(),
        };
        let position = recorded[to - 1].position;
        let receipt = Committed { writes: vec![written], position, snapshot: None, repeated: true };
        assert_eq!(store.append(again).await.unwrap(), receipt, "events {} to {to} of 6", from + 1);
    }
    assert_history(&store, &stream, &events).await;
}

/// A commit that expects anything is recorded as often as it is sent.
pub async fn a_commit_that_expects_anything_is_recorded_each_time(store: Events) {
    let stream = Space::fresh().stream("a");
    let events = facts(1..=2);
    let commit = Commit::new(stream.clone(), Expected::Any, events.clone());
    assert!(!store.append(commit.clone()).await.unwrap().repeated);
    assert!(!store.append(commit).await.unwrap().repeated);
    assert_history(&store, &stream, &[events.clone(), events].concat()).await;
}

/// 32 copies of one commit, sent at once, are recorded once, and all return the same receipt.
pub async fn racing_copies_of_one_commit_are_recorded_once(store: Events) {
    let stream = Space::fresh().stream("a");
    let events = facts(1..=3);
    let commit = Commit::new(stream.clone(), Expected::NoStream, events.clone());
    let receipts = at_once((0..32).map(|_| {
        let (store, commit) = (store.clone(), commit.clone());
        async move { store.append(commit).await.unwrap() }
    }))
    .await;
    assert_eq!(receipts.iter().filter(|receipt| !receipt.repeated).count(), 1);
    for receipt in &receipts {
        assert_eq!((&receipt.writes, receipt.position), (&receipts[0].writes, receipts[0].position));
    }
    assert_history(&store, &stream, &events).await;
}
