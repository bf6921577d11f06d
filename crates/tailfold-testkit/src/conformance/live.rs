//! Following the log live.

use super::support::*;

/// Reads that many events of one category live.
async fn follow(store: Events, space: Space, filter: Filter, count: usize) -> Vec<RecordedEvent> {
    soon("following the log", async {
        let mut batches = store.read_all(Position::ZERO, filter, Follow::Live);
        let mut events = Vec::new();
        while events.len() < count {
            let batch = batches.try_next().await.unwrap().expect("a live read does not end");
            // A filter by tag alone also finds the tombstones of other cases on the same server.
            events
                .extend(batch.events.into_iter().filter(|event| event.stream.category() == space.category()));
        }
        events
    })
    .await
}

async fn append_slowly(store: Events, stream: StreamId, commits: u64, size: u64) {
    for number in 0..commits {
        let events = facts(number * size..=number * size + size - 1);
        store.append(Commit::new(stream.clone(), Expected::Any, events)).await.unwrap();
        if number % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A live read first gives what is there, then what comes.
pub async fn a_live_read_catches_up_then_follows(store: Events) {
    let space = Space::fresh();
    record(&store, &space.stream("a"), &facts(1..=600)).await;
    let reader = tokio::spawn(follow(store.clone(), space.clone(), space.filter(), 1000));
    append_slowly(store.clone(), space.stream("b"), 400, 1).await;
    let recorded = log(&store, Position::ZERO, space.filter()).await;
    assert_events(&joined(reader).await, &recorded, "a live read");
}

/// Several live readers that begin at any time beside concurrent writers each see every event once, in order.
pub async fn live_readers_miss_and_repeat_nothing(store: Events) {
    let space = Space::fresh();
    let writers: Vec<_> = (0..6u64)
        .map(|task| {
            let (commits, size) = if task == 0 { (5, 200) } else { (60, 1 + task % 3) };
            let stream = space.stream(&task.to_string());
            (commits * size, tokio::spawn(append_slowly(store.clone(), stream, commits, size)))
        })
        .collect();
    let total: u64 = writers.iter().map(|(events, _)| events).sum();
    let mut readers = Vec::new();
    for _ in 0..6 {
        readers.push(tokio::spawn(follow(store.clone(), space.clone(), space.filter(), total as usize)));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for (_, writer) in writers {
        joined(writer).await;
    }
    let all = log(&store, Position::ZERO, space.filter()).await;
    assert_eq!(all.len() as u64, total, "events in the log after all writers have ended");
    for (number, reader) in readers.into_iter().enumerate() {
        assert_events(&joined(reader).await, &all, &format!("live reader {number} of 6"));
    }
}

/// A consumer that is slower than the writers still gets everything, in order.
pub async fn a_slow_consumer_misses_nothing(store: Events) {
    let space = Space::fresh();
    let mut batches = store.read_all(Position::ZERO, space.filter(), Follow::Live);
    let writer = tokio::spawn(append_slowly(store.clone(), space.stream("a"), 600, 5));
    let mut seen = Vec::new();
    soon("a slow consumer", async {
        while seen.len() < 3000 {
            let batch = batches.try_next().await.unwrap().expect("a live read does not end");
            seen.extend(batch.events);
            if seen.len() < 1500 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    })
    .await;
    joined(writer).await;
    assert_events(&seen, &read(&store, &space.stream("a")).await, "a live read");
}

/// A filter applies to what is there and to what comes.
pub async fn a_live_read_filters(store: Events) {
    let space = Space::fresh();
    let rare = event_type("test.rare");
    let event = |number: u64| {
        fact_with(number, |data| {
            if number.is_multiple_of(10) {
                data.event_type = rare.clone();
                data.tags = vec![space.tag("x")];
            }
        })
    };
    for number in 1..=100 {
        record(&store, &space.stream("a"), &[event(number)]).await;
    }
    let filter = space.filter().and_types([rare.clone()]);
    let readers = [filter.clone(), Filter::tag(space.tag("x"))]
        .map(|filter| tokio::spawn(follow(store.clone(), space.clone(), filter, 20)));
    for number in 101..=200 {
        record(&store, &space.stream("a"), &[event(number)]).await;
        record(&store, &Space::fresh().stream("a"), &[fact(number)]).await;
    }
    let expected = log(&store, Position::ZERO, filter).await;
    assert_eq!(expected.len(), 20, "matching events in the log");
    for (reader, by) in readers.into_iter().zip(["category and type", "tag"]) {
        assert_events(&joined(reader).await, &expected, &format!("a live read by {by}"));
    }
}

/// A live read waits while nothing happens, and goes on when something does.
pub async fn a_live_read_waits_for_the_next_event(store: Events) {
    let space = Space::fresh();
    record(&store, &space.stream("a"), &facts(1..=1)).await;
    let first = log(&store, Position::ZERO, space.filter()).await.pop().unwrap();
    let mut batches = store.read_all(first.position, space.filter(), Follow::Live);
    let quiet = tokio::time::timeout(Duration::from_millis(300), async {
        loop {
            // On a shared server there may be batches without events of ours.
            let batch = batches.try_next().await.unwrap().expect("a live read does not end");
            if !batch.events.is_empty() {
                return batch.events;
            }
        }
    })
    .await;
    assert!(quiet.is_err(), "nothing was recorded after that position, but {quiet:?} came");
    for number in 2..=4 {
        record(&store, &space.stream("a"), &facts(number..=number)).await;
        let event = soon("the next event", async {
            loop {
                let batch = batches.try_next().await.unwrap().expect("a live read does not end");
                if let Some(event) = batch.events.into_iter().next() {
                    return event;
                }
            }
        })
        .await;
        assert_eq!(event.version, Version(number), "the event that a live read had waited for");
    }
}

/// A live read that is dropped and begun again after what it had checked misses and repeats nothing.
pub async fn a_live_read_resumes_after_what_it_has_checked(store: Events) {
    let space = Space::fresh();
    let writer = tokio::spawn(append_slowly(store.clone(), space.stream("a"), 300, 2));
    let (mut seen, mut checked_to) = (Vec::new(), Position::ZERO);
    soon("following in parts", async {
        while seen.len() < 600 {
            let mut batches = store.read_all(checked_to, space.filter(), Follow::Live);
            for _ in 0..3 {
                if seen.len() < 600 {
                    let batch = batches.try_next().await.unwrap().expect("a live read does not end");
                    checked_to = batch.checked_to;
                    seen.extend(batch.events);
                }
            }
        }
    })
    .await;
    joined(writer).await;
    assert_events(&seen, &read(&store, &space.stream("a")).await, "a live read");
}
