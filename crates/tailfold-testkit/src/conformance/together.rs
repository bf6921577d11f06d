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
    let stored = Some(Saved::Stored { pruned: 0 });
    assert_eq!(committed.snapshot, stored, "what the receipt tells of the snapshot");
    assert_eq!(committed.writes[0].head, head, "the head that the commit makes");
    let kept = store.newest(&slot, None).await.unwrap();
    let expected = StoredSnapshot { head, bytes: Bytes::from_static(b"state"), used: Day(20_000) };
    assert_eq!(kept, Some(expected), "the snapshot that came with the commit");
    assert_history(&as_events, &stream, &events).await;

    // It prunes by its own retention, as any other save.
    let next = Head { version: Version(3), chain: chain.link(fact(3).digest()) };
    let mut commit = Commit::new(stream.clone(), Expected::Head(head), facts(3..=3));
    let newest = Save { keep: Keep::Newest, ..save(next, "next") };
    commit.snapshot = Some(InlineSnapshot { slot: slot.clone(), save: newest });
    let committed = store.append(commit).await.unwrap();
    let stored = Some(Saved::Stored { pruned: 1 });
    assert_eq!(committed.snapshot, stored, "what the receipt tells of a snapshot that takes another's place");
    assert_eq!(versions_of(&store, &stream).await, [(slot, 3)], "versions after `Keep::Newest` in a commit");
}

/// A commit that was recorded before is not recorded again, and neither is its snapshot: the receipt is the
/// original one and tells of none.
pub async fn a_repeated_commit_keeps_no_snapshot(store: Both) {
    if !store.capabilities().inline_snapshot {
        return;
    }
    let space = Space::fresh();
    let (stream, slot) = (space.stream("a"), space.slot("fold", 1, "a"));
    let head = Head { version: Version(1), chain: Chain::genesis(&stream).link(fact(1).digest()) };
    let mut commit = Commit::new(stream.clone(), Expected::NoStream, facts(1..=1));
    commit.snapshot = Some(InlineSnapshot { slot: slot.clone(), save: save(head, "state") });
    let original = store.append(commit.clone()).await.unwrap();
    store.forget(slot.key()).await.unwrap();
    let again = store.append(commit).await.unwrap();
    let receipt = Committed { repeated: true, snapshot: None, ..original };
    assert_eq!(again, receipt, "the receipt of a commit that was recorded before");
    assert_eq!(versions_of(&store, &stream).await, [], "snapshots after a commit that was recorded before");
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
    let kept = store.newest(&slot, None).await.unwrap();
    assert_eq!(kept, None, "the snapshot of a commit that was refused");

    store.save(&slot, save(next(50), "newer")).await.unwrap();
    let mut commit = Commit::new(stream.clone(), Expected::Head(head), facts(3..=3));
    let late = Save { keep: Keep::Newest, ..save(next(3), "late") };
    commit.snapshot = Some(InlineSnapshot { slot: slot.clone(), save: late });
    let committed = store.append(commit).await.unwrap();
    let superseded = Some(Saved::Superseded(next(50)));
    assert_eq!(committed.snapshot, superseded, "what the receipt tells of a snapshot that came too late");
    assert_eq!(committed.writes[0].head.version, Version(3), "the commit whose snapshot came too late");
    let newest = store.newest(&slot, None).await.unwrap().map(|kept| kept.head);
    assert_eq!(newest, Some(next(50)), "newest after a snapshot that came too late");
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
    assert_eq!((removed.events, removed.snapshots), (2, 3), "events and snapshots that were removed");
    assert_eq!(versions_of(&store, &stream).await, [], "snapshots of an erased stream");
    let left = versions_of(&store, &other).await;
    assert_eq!(left, [(space.slot("one", 1, "ab"), 2)], "snapshots of another stream that begins alike");
}

/// An erase whose future was dropped is finished by whoever erases again, even if the stream is empty by
/// then: no snapshot outlives the events that it was made of.
pub async fn an_erase_that_was_dropped_is_finished_by_the_next(store: Both) {
    if !store.capabilities().erase {
        return;
    }
    let space = Space::fresh();
    let as_events: Events = store.clone();
    for number in 0..24u64 {
        let stream = space.stream(&number.to_string());
        let head = record(&as_events, &stream, &facts(1..=2)).await;
        let slots = [("one", 1), ("one", 2), ("two", 1)]
            .map(|(fold, serial)| space.slot(fold, serial, &number.to_string()));
        for slot in &slots {
            store.save(slot, save(head, "personal")).await.unwrap();
        }
        let erase = || store.remove(&stream, Removal::erase(Timestamp::from_micros(0)));
        // Some are dropped before their first poll ends, some a while later, some not at all.
        let patience = Duration::from_micros(number * number * 40);
        let dropped = tokio::time::timeout(patience, erase()).await.is_err();
        erase().await.unwrap();
        let left = versions_of(&store, &stream).await;
        assert_eq!(
            left,
            [],
            "snapshots after an erase that was dropped after {patience:?} ({dropped}) and a whole one"
        );
        assert!(read(&as_events, &stream).await.is_empty(), "events after an erase");
        let told = log(&as_events, Position::ZERO, Filter::stream(stream.clone())).await;
        assert!(told.len() == 1 && told[0].data.event_type.is_tombstone(), "one tombstone: {told:?}");
    }
}

/// Truncating a stream removes the snapshots below the origin, of every fold and serial, and counts them;
/// those at and above it stay.
pub async fn truncating_a_stream_removes_the_snapshots_below(store: Both) {
    let space = Space::fresh();
    let (stream, slot, other) = (space.stream("a"), space.slot("fold", 1, "a"), space.slot("fold", 1, "b"));
    let more = [space.slot("fold", 2, "a"), space.slot("another", 1, "a")];
    let as_events: Events = store.clone();
    let events: Vec<_> = (1..=9).map(|number| fact_with(number, |data| data.origin = number == 5)).collect();
    record(&as_events, &stream, &events).await;
    for event in read(&as_events, &stream).await {
        store.save(&slot, save(event.head(), "state")).await.unwrap();
        store.save(&other, save(event.head(), "state")).await.unwrap();
        if [2, 7].contains(&event.version.0) {
            for slot in &more {
                store.save(slot, save(event.head(), "state")).await.unwrap();
            }
        }
    }
    assert_invalid(store.remove(&stream, Removal::before_origin(6, Timestamp::from_micros(0))).await);
    assert_eq!(
        versions_of(&store, &stream).await.len(),
        9 + 4,
        "snapshots after a truncation that was refused"
    );
    let removed = store.remove(&stream, Removal::before_origin(5, Timestamp::from_micros(0))).await.unwrap();
    let told = (removed.events, removed.snapshots, removed.tombstone);
    assert_eq!(told, (4, 4 + 2, None), "events and snapshots below the origin, and no tombstone");
    let left = versions_of(&store, &stream).await;
    let of = |slot: &Slot| left.iter().filter(|(of, _)| of == slot).map(|(_, at)| *at).collect::<Vec<_>>();
    assert_eq!(of(&slot), [5, 6, 7, 8, 9], "snapshots that are left of nine, from the origin on");
    for slot in &more {
        assert_eq!(of(slot), [7], "snapshots of {slot} that are left");
    }
    assert_eq!(versions_of(&store, &space.stream("b")).await.len(), 9, "snapshots of another stream");
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
    assert_eq!(serve(&slot, &stream, None).await, (None, Vec::new()), "of an empty stream");
    record(&as_events, &stream, &facts(1..=700)).await;
    let events = read(&as_events, &stream).await;
    for (bound, to) in [(None, 700), (Some(3), 3)] {
        let (head, tail) = serve(&slot, &stream, bound).await;
        assert_eq!(head, None, "the snapshot of a slot that nothing was saved in");
        assert_events(&tail, &events[..to], &format!("the tail without a snapshot, at or below {bound:?}"));
    }
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
        let expected = base.map(|base: usize| events[base - 1].head());
        assert_eq!(head, expected, "the snapshot at or below {bound:?}, of those at 10 and 300");
        let expected = &events[base.map_or(0, |base| base - 1)..to];
        assert_events(&tail, expected, &format!("the tail of {base:?}, at or below {bound:?}"));
    }
    // A snapshot ahead of the stream comes with nothing behind it: the loader sees that it is ahead.
    let ahead = Head { version: Version(900), chain: events[0].chain };
    store.save(&slot, save(ahead, "state")).await.unwrap();
    let served = serve(&slot, &stream, None).await;
    assert_eq!(served, (Some(ahead), Vec::new()), "a snapshot ahead of the stream, and nothing behind it");
    // Another slot of the same stream has no snapshot.
    let (head, tail) = serve(&space.slot("fold", 2, "a"), &stream, None).await;
    assert_eq!(head, None, "the snapshot of another serial, in which nothing was saved");
    assert_events(&tail, &events, "the tail of a slot without a snapshot");
}

/// A long tail comes in batches of at most 4,096 events, none of them empty, as any read of a stream does.
pub async fn a_long_tail_comes_in_small_batches(store: Both) {
    let Some(together) = store.snapshot_and_tail() else { return };
    let space = Space::fresh();
    let (stream, slot) = (space.stream("a"), space.slot("fold", 1, "a"));
    let as_events: Events = store.clone();
    record(&as_events, &stream, &facts(1..=5000)).await;
    let (_, mut tail) = together.newest_with_tail(&slot, &stream, None).await.unwrap();
    let mut next = 1;
    while let Some(batch) = tail.try_next().await.unwrap() {
        assert!(!batch.is_empty() && batch.len() <= 4096, "a batch of {}", batch.len());
        assert!(batch.iter().map(|event| event.version.0).eq(next..next + batch.len() as u64));
        next += batch.len() as u64;
    }
    assert_eq!(next, 5001, "the version after the tail's last event");
}
