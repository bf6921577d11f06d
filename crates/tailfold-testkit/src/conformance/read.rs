//! Reading one stream.

use super::support::*;

const BOTH: [Direction; 2] = [Direction::Forward, Direction::Backward];

fn range(from: u64, to: Option<u64>) -> VersionRange {
    VersionRange::from(Version(from)).up_to(to.map(Version))
}

fn versions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.version.0).collect()
}

/// An empty stream reads as nothing, in either direction and any range, and has no head.
pub async fn an_empty_stream_reads_as_nothing(store: Events) {
    let space = Space::fresh();
    record(&store, &space.stream("b"), &facts(1..=3)).await;
    for direction in BOTH {
        for range in
            [VersionRange::ALL, range(1, None), range(0, Some(0)), range(2, Some(9)), range(5, Some(4))]
        {
            assert!(read_range(&store, &space.stream("a"), range, direction).await.is_empty());
        }
    }
    assert_eq!(store.head(&space.stream("a")).await.unwrap(), None);
}

/// A range includes both ends: the event at `from` is there. 0 and 1 both mean the start; beyond the end is nothing.
pub async fn a_range_includes_both_ends(store: Events) {
    let stream = Space::fresh().stream("a");
    record(&store, &stream, &facts(1..=10)).await;
    for from in 0..=12 {
        for to in [None, Some(u64::MAX)].into_iter().chain((0..=12).map(Some)) {
            let mut expected: Vec<_> = (from.max(1)..=to.unwrap_or(10).min(10)).collect();
            for direction in BOTH {
                let events = read_range(&store, &stream, range(from, to), direction).await;
                assert_eq!(versions(&events), expected, "{from}..={to:?} {direction:?}");
                expected.reverse();
            }
        }
    }
    let last = read_range(&store, &stream, range(u64::MAX, None), Direction::Forward).await;
    assert!(last.is_empty());
}

/// Backward is forward in reverse, byte for byte.
pub async fn backward_is_forward_in_reverse(store: Events) {
    let stream = Space::fresh().stream("a");
    record(&store, &stream, &facts(1..=600)).await;
    let forward = read(&store, &stream).await;
    let mut backward = read_range(&store, &stream, VersionRange::ALL, Direction::Backward).await;
    backward.reverse();
    assert_eq!(forward, backward);
}

/// A read begins when its first batch is asked for, not when it is made: what was acknowledged in between is
/// there.
pub async fn a_read_begins_when_it_is_first_polled(store: Events) {
    let space = Space::fresh();
    let stream = space.stream("a");
    record(&store, &stream, &facts(1..=2)).await;
    let reads = BOTH.map(|direction| store.read(&stream, VersionRange::ALL, direction));
    let of_log = store.read_all(Position::ZERO, space.filter(), Follow::ToEnd);
    let list = store.streams(space.filter(), None);
    record(&store, &stream, &facts(3..=4)).await;
    record(&store, &space.stream("b"), &facts(1..=1)).await;
    for (read, direction) in reads.into_iter().zip(BOTH) {
        let seen: Vec<_> = read.try_concat().await.unwrap();
        assert_eq!(seen.len(), 4, "events of a read {direction:?} that was made before two of them");
    }
    let batches: Vec<_> = of_log.try_collect().await.unwrap();
    let seen: usize = batches.iter().map(|batch| batch.events.len()).sum();
    assert_eq!(seen, 5, "events of a read of the log that was made before three of them");
    let listed: Vec<_> = list.try_concat().await.unwrap();
    assert_eq!(listed.len(), 2, "streams of a list that was made before one of them");
}

/// Reads that end just before, at and just after any page a store may have are complete.
pub async fn reads_are_complete_around_page_limits(store: Events) {
    let space = Space::fresh();
    let stream = space.stream("a");
    let last = 4_100;
    record(&store, &stream, &facts(1..=last)).await;
    for limit in [64, 100, 128, 256, 500, 512, 1000, 1024, 2000, 2048, 4096] {
        for count in limit - 1..=limit + 1 {
            for direction in BOTH {
                let mut first = read_range(&store, &stream, range(1, Some(count)), direction).await;
                let mut tail = read_range(&store, &stream, range(last - count + 1, None), direction).await;
                if direction == Direction::Backward {
                    first.reverse();
                    tail.reverse();
                }
                assert!(versions(&first).into_iter().eq(1..=count), "first {count} {direction:?}");
                assert!(
                    versions(&tail).into_iter().eq(last - count + 1..=last),
                    "last {count} {direction:?}"
                );
            }
        }
    }
    for count in [255, 256, 257, 999, 1000, 1001] {
        let stream = space.stream(&count.to_string());
        record(&store, &stream, &facts(1..=count)).await;
        assert!(versions(&read(&store, &stream).await).into_iter().eq(1..=count), "all of {count}");
    }
}

/// A tail of 70,000 events is read whole and in order, in batches of at most 4,096.
pub async fn a_tail_of_70_000_events_is_read_whole(store: Events) {
    let stream = Space::fresh().stream("a");
    let events = facts(1..=70_010);
    record(&store, &stream, &events).await;
    let (mut next, mut chain) = (11, None);
    let mut batches = store.read(&stream, range(11, None), Direction::Forward);
    while let Some(batch) = batches.try_next().await.unwrap() {
        assert!(!batch.is_empty() && batch.len() <= 4096, "a batch of {}", batch.len());
        for event in batch {
            let expected = &events[next as usize - 1];
            assert_eq!((event.version, &event.data), (Version(next), expected.data()));
            assert!(chain.is_none_or(|chain: Chain| chain.link(expected.digest()) == event.chain));
            (chain, next) = (Some(event.chain), next + 1);
        }
    }
    assert_eq!(next, 70_011);
    let mut batches = store.read(&stream, range(11, None), Direction::Backward);
    let mut last = 70_010;
    while let Some(batch) = batches.try_next().await.unwrap() {
        assert!(!batch.is_empty() && batch.len() <= 4096, "a batch of {}, backward", batch.len());
        let wanted = last + 1 - batch.len() as u64..=last;
        assert!(versions(&batch).into_iter().eq(wanted.rev()), "backward from version {last}");
        last -= batch.len() as u64;
    }
    assert_eq!(last, 10);
}

/// A reader beside writers sees a gapless prefix of the stream that holds all that was acknowledged before it began.
pub async fn a_reader_beside_writers_sees_a_gapless_prefix(store: Events) {
    let stream = Space::fresh().stream("a");
    record(&store, &stream, &facts(1..=1)).await;
    let writer = tokio::spawn({
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            for number in 0..60 {
                record(&store, &stream, &facts(number * 20..=number * 20 + 19)).await;
            }
        }
    });
    let mut ended = false;
    while !ended {
        // A store that never waits would otherwise not let the writers begin.
        tokio::task::yield_now().await;
        ended = writer.is_finished();
        let acknowledged = store.head(&stream).await.unwrap().unwrap().version.0;
        let forward = read(&store, &stream).await;
        assert!(forward.len() as u64 >= acknowledged);
        assert!(versions(&forward).into_iter().eq(1..=forward.len() as u64));
        let backward = read_range(&store, &stream, VersionRange::ALL, Direction::Backward).await;
        assert!(backward.len() >= forward.len());
        assert!(versions(&backward).into_iter().eq((1..=backward.len() as u64).rev()));
    }
    joined(writer).await;
    assert_eq!(read(&store, &stream).await.len(), 1201);
}

/// A reader that stops half way, or thinks for long between batches, is in nobody's way.
pub async fn an_unfinished_read_is_in_nobodys_way(store: Events) {
    let space = Space::fresh();
    let stream = space.stream("a");
    record(&store, &stream, &facts(1..=4096)).await;
    let mut unfinished = store.read(&stream, VersionRange::ALL, Direction::Forward);
    let mut unfinished_log = store.read_all(Position::ZERO, space.filter(), Follow::ToEnd);
    let first = unfinished.try_next().await.unwrap().unwrap();
    unfinished_log.try_next().await.unwrap().unwrap();
    soon("appending beside an unfinished read", async {
        for number in 0..5 {
            record(&store, &stream, &facts(number..=number)).await;
            record(&store, &space.stream("b"), &facts(number..=number)).await;
        }
    })
    .await;
    drop(unfinished_log);
    let rest: Vec<_> = unfinished.try_concat().await.unwrap();
    let all: Vec<_> = versions(&first).into_iter().chain(versions(&rest)).collect();
    assert!(all.len() >= 4096 && all.iter().copied().eq(1..=all.len() as u64));
}
