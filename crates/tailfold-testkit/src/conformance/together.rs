//! What a store promises that keeps both events and snapshots.

use super::support::*;

type Both = Arc<dyn Store>;

fn save(head: Head, text: &str) -> Save {
    Save { head, bytes: Bytes::copy_from_slice(text.as_bytes()), keep: Keep::All, day: Day(20_000) }
}

async fn versions_of(store: &Both, key: &StreamId) -> Vec<(Slot, u64)> {
    let listed = store.list_to_vec(SlotFilter::key(key.as_str())).await.unwrap();
    listed.into_iter().map(|info| (info.slot, info.head.version.0)).collect()
}

/// A snapshot that travels with a commit is kept with it; the receipt says so. Without the capability the commit is
/// refused.
pub async fn a_snapshot_travels_with_its_commit(store: Both) {
    let space = Space::fresh();
    let (stream, slot, events) = (space.stream("a"), space.slot("fold", 1, "a"), facts(1..=2));
    let chain = events.iter().fold(Chain::genesis(&stream), |chain, event| chain.link(event.digest()));
    let head = Head { version: Version(2), chain };
    let mut commit = Commit::new(stream.clone(), Expected::NoStream, events.clone());
    commit.snapshot = Some(InlineSnapshot { slot: slot.clone(), save: save(head, "state") });
    let result = store.append(commit).await;
    let as_events: Events = store.clone();
    if !store.capabilities().inline_snapshot {
        assert_unsupported(result);
        assert_history(&as_events, &stream, &[]).await;
        return;
    }
    let committed = result.unwrap();
    assert_eq!(committed.snapshot, Some(Saved::Stored { pruned: 0 }));
    assert_eq!(committed.writes[0].head, head);
    let kept = store.newest(&slot, None).await.unwrap().unwrap();
    assert_eq!(kept, StoredSnapshot { head, bytes: Bytes::from_static(b"state"), used: Day(20_000) });
    assert_history(&as_events, &stream, &events).await;
}

/// Where the commit is refused, its snapshot is not kept; where the snapshot is superseded, the commit goes through.
pub async fn a_commit_decides_the_fate_of_its_snapshot_and_never_the_reverse(store: Both) {
    if !store.capabilities().inline_snapshot {
        return;
    }
    let space = Space::fresh();
    let (stream, slot) = (space.stream("a"), space.slot("fold", 1, "a"));
    let as_events: Events = store.clone();
    let head = record(&as_events, &stream, &facts(1..=2)).await;
    let next = |number: u64| Head { version: Version(number), chain: head.chain };

    let mut refused = Commit::new(stream.clone(), Expected::NoStream, facts(3..=3));
    refused.snapshot = Some(InlineSnapshot { slot: slot.clone(), save: save(next(1), "refused") });
    assert_conflict(store.append(refused).await, &stream, Some(head));
    assert_eq!(store.newest(&slot, None).await.unwrap(), None);

    store.save(&slot, save(next(50), "newer")).await.unwrap();
    let mut commit = Commit::new(stream.clone(), Expected::Head(head), facts(3..=3));
    let late = Save { keep: Keep::Newest, ..save(next(3), "late") };
    commit.snapshot = Some(InlineSnapshot { slot: slot.clone(), save: late });
    let committed = store.append(commit).await.unwrap();
    assert_eq!(committed.snapshot, Some(Saved::Superseded(next(50))));
    assert_eq!(committed.writes[0].head.version, Version(3));
    assert_eq!(store.newest(&slot, None).await.unwrap().unwrap().head, next(50));
}

/// Erasing a stream forgets its snapshots, every fold's and serial's, counts them, and leaves those of others.
pub async fn erasing_a_stream_forgets_its_snapshots(store: Both) {
    if !store.capabilities().erase {
        return;
    }
    let space = Space::fresh();
    let (stream, other) = (space.stream("a"), space.stream("ab"));
    let as_events: Events = store.clone();
    let head = record(&as_events, &stream, &facts(1..=2)).await;
    record(&as_events, &other, &facts(1..=2)).await;
    for slot in [space.slot("one", 1, "a"), space.slot("one", 2, "a"), space.slot("two", 1, "a")] {
        store.save(&slot, save(head, "gone")).await.unwrap();
    }
    store.save(&space.slot("one", 1, "ab"), save(head, "stays")).await.unwrap();
    let removed = store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    assert_eq!((removed.events, removed.snapshots), (2, 3));
    assert_eq!(versions_of(&store, &stream).await, []);
    assert_eq!(versions_of(&store, &other).await, [(space.slot("one", 1, "ab"), 2)]);
}

/// Truncating a stream removes the snapshots below the origin, and counts them; those at and above it stay.
pub async fn truncating_a_stream_removes_the_snapshots_below(store: Both) {
    let space = Space::fresh();
    let (stream, slot, other) = (space.stream("a"), space.slot("fold", 1, "a"), space.slot("fold", 1, "b"));
    let as_events: Events = store.clone();
    let events: Vec<_> = (1..=9).map(|number| fact_with(number, |data| data.origin = number == 5)).collect();
    record(&as_events, &stream, &events).await;
    for event in read(&as_events, &stream).await {
        store.save(&slot, save(event.head(), "state")).await.unwrap();
        store.save(&other, save(event.head(), "state")).await.unwrap();
    }
    assert_invalid(store.remove(&stream, Removal::before_origin(6, Timestamp::from_micros(0))).await);
    assert_eq!(versions_of(&store, &stream).await.len(), 9);
    let removed = store.remove(&stream, Removal::before_origin(5, Timestamp::from_micros(0))).await.unwrap();
    assert_eq!((removed.events, removed.snapshots, removed.tombstone), (4, 4, None));
    let left: Vec<_> = versions_of(&store, &stream).await.into_iter().map(|(_, version)| version).collect();
    assert_eq!(left, [5, 6, 7, 8, 9]);
    assert_eq!(versions_of(&store, &space.stream("b")).await.len(), 9);
}

/// Snapshot and tail come together: the tail begins at the snapshot's version, inclusive, or at the start if there is no
/// snapshot; a bound limits both.
pub async fn snapshot_and_tail_come_together(store: Both) {
    let Some(together) = store.snapshot_and_tail() else { return };
    let space = Space::fresh();
    let (stream, slot) = (space.stream("a"), space.slot("fold", 1, "a"));
    let as_events: Events = store.clone();
    let serve = async |slot: &Slot, stream: &StreamId, bound: Option<u64>| {
        let (snapshot, tail) = together.newest_with_tail(slot, stream, bound.map(Version)).await.unwrap();
        let tail: Vec<_> = tail.try_concat().await.unwrap();
        (snapshot.map(|snapshot| snapshot.head), tail)
    };
    assert_eq!(serve(&slot, &stream, None).await, (None, Vec::new()));
    record(&as_events, &stream, &facts(1..=700)).await;
    let events = read(&as_events, &stream).await;
    assert_eq!(serve(&slot, &stream, None).await, (None, events.clone()));
    assert_eq!(serve(&slot, &stream, Some(3)).await, (None, events[..3].to_vec()));
    for version in [10, 300] {
        store.save(&slot, save(events[version - 1].head(), "state")).await.unwrap();
    }
    for (bound, base, to) in [
        (None, Some(300), 700),
        (Some(701), Some(300), 700),
        (Some(700), Some(300), 700),
        (Some(301), Some(300), 301),
        (Some(300), Some(300), 300),
        (Some(299), Some(10), 299),
        (Some(10), Some(10), 10),
        (Some(9), None, 9),
        (Some(0), None, 0),
    ] {
        let (head, tail) = serve(&slot, &stream, bound).await;
        assert_eq!(head, base.map(|base: usize| events[base - 1].head()), "bound {bound:?}");
        assert_eq!(tail, events[base.map_or(0, |base| base - 1)..to], "bound {bound:?}");
    }
    // A snapshot ahead of the stream comes with nothing behind it: the loader sees that it is ahead.
    let ahead = Head { version: Version(900), chain: events[0].chain };
    store.save(&slot, save(ahead, "state")).await.unwrap();
    assert_eq!(serve(&slot, &stream, None).await, (Some(ahead), Vec::new()));
    // Another slot of the same stream has no snapshot.
    assert_eq!(serve(&space.slot("fold", 2, "a"), &stream, None).await, (None, events));
}
