//! One place, opened by several processes: at the same time, and one after the other. Here a process is a
//! store that shares nothing with the other in memory.

use futures_util::future::BoxFuture;
use tailfold::Boundary;

use super::support::*;
use crate::Fixture;

fn moment() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_001)
}

/// The place as the first process has it open, and as the next one opens it.
fn two<S: EventStore + ?Sized + 'static>(fixture: &Fixture<S>) -> BoxFuture<'static, [Events; 2]> {
    let (one, two) = (fixture.store(), another(fixture));
    Box::pin(async move { [Arc::new(one) as Events, two.await] })
}

fn another<S: EventStore + ?Sized + 'static>(fixture: &Fixture<S>) -> BoxFuture<'static, Events> {
    let opening = fixture.reopen();
    Box::pin(async move { Arc::new(opening.await) as Events })
}

/// Whoever opens the place meets the same id: a store that names itself anew each time makes every snapshot
/// and every checkpoint one of another store.
pub async fn the_store_id_outlives_the_process<S: EventStore + ?Sized + 'static>(fixture: Fixture<S>) {
    let [one, two] = two(&fixture).await;
    let id = one.store_id().await.unwrap();
    assert_eq!(two.store_id().await.unwrap(), id, "the id that a second process meets");
    record(&two, &Space::fresh().stream("a"), &facts(1..=3)).await;
    drop((one, two));
    let three = another(&fixture).await;
    assert_eq!(three.store_id().await.unwrap(), id, "the id that a process meets after an append");
}

/// What was acknowledged is there for who opens the place after a process that was killed: events,
/// tombstones, truncations, the list of streams. Nothing of it is kept back until a store is closed.
pub async fn what_was_acknowledged_is_there_when_opened_again<S: EventStore + ?Sized + 'static>(
    fixture: Fixture<S>,
) {
    // It stays open, so that closing it cannot write anything.
    let one: Events = Arc::new(fixture.store());
    let space = Space::fresh();
    let (stream, cut, erased) = (space.stream("a"), space.stream("cut"), space.stream("erased"));
    let mut events = facts(1..=3);
    record(&one, &stream, &events).await;
    record(&one, &cut, &[fact(1), fact_with(2, |data| data.origin = true), fact(3)]).await;
    one.remove(&cut, Removal::before_origin(2, moment())).await.unwrap();
    if one.capabilities().erase {
        record(&one, &erased, &facts(1..=2)).await;
        one.remove(&erased, Removal::erase(moment())).await.unwrap();
    }
    let commit = Commit::new(stream.clone(), Expected::Version(Version(3)), facts(4..=5));
    let receipt = one.append(commit.clone()).await.unwrap();
    events.extend(commit.writes[0].events.clone());
    let (logged, left) = (log(&one, Position::ZERO, space.filter()).await, read(&one, &cut).await);
    for number in 0..2 {
        let next = another(&fixture).await;
        assert_history(&next, &stream, &events).await;
        assert_eq!(read(&next, &cut).await, left, "a truncated stream");
        assert_eq!(next.head(&erased).await.unwrap(), None, "an erased stream");
        assert_eq!(log(&next, Position::ZERO, space.filter()).await, logged, "the log");
        let listed = next.streams_to_vec(space.filter()).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|summary| summary.stream).collect();
        assert_eq!(listed, [stream.clone(), cut.clone()], "the list of streams");
        let again = next.append(commit.clone()).await.unwrap();
        assert_eq!(again, Committed { repeated: true, ..receipt.clone() }, "process {number} sends it again");
        crate::verify_chain_where(&next, space.filter()).await.unwrap();
    }
}

/// What one process was told is recorded, the other sees at once: in `head`, in `read`, in `read_all` and in
/// the list of streams, whatever it has seen of the stream before.
pub async fn every_process_sees_an_acknowledged_append_at_once<S: EventStore + ?Sized + 'static>(
    fixture: Fixture<S>,
) {
    let stores = two(&fixture).await;
    let space = Space::fresh();
    let (stream, mut events) = (space.stream("a"), Vec::new());
    for number in 1..=20u64 {
        let [writer, reader] = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        assert_history(&stores[reader], &stream, &events).await;
        let expected = Expected::from_head(stores[writer].head(&stream).await.unwrap());
        let commit = Commit::new(stream.clone(), expected, vec![fact(number)]);
        let committed = stores[writer].append(commit.clone()).await.unwrap();
        let head = committed.writes[0].head;
        assert_eq!(stores[reader].head(&stream).await.unwrap(), Some(head), "the head after {number} events");
        events.extend(commit.writes[0].events.clone());
        assert_history(&stores[reader], &stream, &events).await;
        let logged = log(&stores[reader], Position(committed.position.0 - 1), space.filter()).await;
        assert_eq!(logged.len(), 1, "the log after {number} events");
        let listed = stores[reader].streams_to_vec(space.filter()).await.unwrap();
        assert_eq!(listed, [StreamSummary { stream: stream.clone(), head }]);
        let again = stores[reader].append(commit).await.unwrap();
        assert_eq!(again, Committed { repeated: true, ..committed }, "sent again by the other process");
    }
}

/// Of 32 creators in two processes exactly one wins; appends that expect anything all succeed, and keep their
/// order.
pub async fn expectations_hold_between_processes<S: EventStore + ?Sized + 'static>(fixture: Fixture<S>) {
    let stores = two(&fixture).await;
    let space = Space::fresh();
    let stream = space.stream("a");
    let results = at_once((0..32).map(|task| {
        let (store, stream) = (stores[task % 2].clone(), stream.clone());
        async move { store.append(Commit::new(stream, Expected::NoStream, facts(1..=2))).await }
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1, "creators that were told that they have won");
    let head = won.into_iter().next().unwrap().unwrap().writes[0].head;
    for result in lost {
        assert_conflict(result, &stream, Some(head));
    }
    at_once((0..16u64).map(|task| {
        let (store, stream) = (stores[(task % 2) as usize].clone(), stream.clone());
        async move {
            for number in 0..5 {
                let commit = Commit::new(stream.clone(), Expected::Any, facts(number..=number + 1));
                store.append(commit).await.unwrap();
            }
        }
    }))
    .await;
    let numbers: Vec<_> =
        read(&stores[1], &stream).await.iter().map(|event| event.data.recorded_at.as_micros()).collect();
    assert_eq!(numbers.len(), 2 + 16 * 5 * 2);
    assert!(numbers.chunks(2).all(|commit| commit[1] == commit[0] + 1), "commits are mixed with one another");
    crate::verify_chain_where(&stores[0], space.filter()).await.unwrap();
}

/// Of 16 decisions on one boundary in two processes exactly one is recorded.
pub async fn boundaries_hold_between_processes<S: EventStore + ?Sized + 'static>(fixture: Fixture<S>) {
    let stores = two(&fixture).await;
    if stores[0].capabilities().unchanged < Boundary::Category {
        return;
    }
    let space = Space::fresh();
    record(&stores[0], &space.stream("begin"), &facts(1..=1)).await;
    let seen = log(&stores[0], Position::ZERO, space.filter()).await[0].position;
    let results = at_once((0..16).map(|task| {
        let (store, stream) = (stores[task % 2].clone(), space.stream(&format!("seat-{task}")));
        let commit = Commit::new(stream, Expected::NoStream, facts(1..=1)).unchanged(space.filter(), seen);
        async move { store.append(commit).await }
    }))
    .await;
    let recorded = log(&stores[1], seen, space.filter()).await;
    assert_eq!(recorded.len(), 1, "decisions that were recorded");
    for result in results {
        if let Err(error) = result {
            assert_changed::<()>(Err(error), recorded[0].position);
        }
    }
}

/// A live read in one process gets what another one appends, and its removals.
pub async fn a_live_read_follows_other_processes<S: EventStore + ?Sized + 'static>(fixture: Fixture<S>) {
    let [one, two] = two(&fixture).await;
    let space = Space::fresh();
    record(&one, &space.stream("a"), &facts(1..=5)).await;
    let mut batches = one.read_all(Position::ZERO, space.filter(), Follow::Live);
    let mut seen = Vec::new();
    let mut follow = async |count: usize, what: &str| {
        let count = seen.len() + count;
        soon(what, async {
            while seen.len() < count {
                seen.extend(batches.try_next().await.unwrap().expect("a live read does not end").events);
            }
        })
        .await;
    };
    follow(5, "what its own process has appended").await;
    for number in 6..=15 {
        record(&two, &space.stream("a"), &facts(number..=number)).await;
        follow(1, "an append of another process").await;
    }
    let before = log(&one, Position::ZERO, space.filter()).await;
    let erase = one.capabilities().erase;
    if erase {
        two.remove(&space.stream("a"), Removal::erase(moment())).await.unwrap();
        follow(1, "the tombstone of another process").await;
    }
    assert_eq!(seen[..15], before);
    assert_eq!(seen.get(15).map(|event| event.data.event_type.is_tombstone()), erase.then_some(true));
}

/// What one process erased or cut off is gone for the other: its reads, its heads, what it expects and what
/// it recognises.
pub async fn a_removal_counts_in_every_process<S: EventStore + ?Sized + 'static>(fixture: Fixture<S>) {
    let [one, two] = two(&fixture).await;
    let space = Space::fresh();
    let (stream, cut) = (space.stream("a"), space.stream("cut"));
    let events: Vec<_> = (1..=5).map(|number| fact_with(number, |data| data.origin = number == 4)).collect();
    record(&one, &cut, &events).await;
    let all = read(&one, &cut).await;
    two.remove(&cut, Removal::before_origin(4, moment())).await.unwrap();
    assert_eq!(read(&one, &cut).await, all[3..], "what the other process has left of the stream");
    assert_eq!(one.head(&cut).await.unwrap(), Some(all[4].head()));

    if !one.capabilities().erase {
        return;
    }
    let create = Commit::new(stream.clone(), Expected::NoStream, facts(1..=3));
    let old = one.append(create.clone()).await.unwrap().writes[0].head;
    assert_eq!(read(&one, &stream).await.len(), 3);
    two.remove(&stream, Removal::erase(moment())).await.unwrap();
    assert_eq!(one.head(&stream).await.unwrap(), None, "the head of a stream that the other has erased");
    assert!(read(&one, &stream).await.is_empty(), "events that the other process has erased");
    let stale = Commit::new(stream.clone(), Expected::Head(old), facts(4..=4));
    assert_conflict(one.append(stale).await, &stream, None);
    let next = one.append(create).await.unwrap();
    assert!(!next.repeated, "a commit of the life that has ended is recorded anew");
    assert_ne!(next.writes[0].head, old, "two lives with one head");
    assert_eq!(two.head(&stream).await.unwrap(), Some(next.writes[0].head));
    crate::verify_chain_where(&two, space.filter()).await.unwrap();
}

/// No position is given away twice, whichever process erases the newest events and whichever appends next:
/// who had read up to them misses nothing of what follows, and a decision on it is refused.
pub async fn positions_are_never_used_again_by_any_process<S: EventStore + ?Sized + 'static>(
    fixture: Fixture<S>,
) {
    let mut stores = Vec::from(two(&fixture).await);
    if !stores[0].capabilities().erase {
        return;
    }
    let space = Space::fresh();
    let mut newest = Position::ZERO;
    for round in 0..6 {
        // Each by another process than the last, half of them by one that has just opened the place.
        if round >= 3 {
            stores.push(another(&fixture).await);
        }
        let [appender, eraser, next] = [0, 1, 2].map(|role| (stores.len() - 1 + round + role) % stores.len());
        let stream = space.stream(&format!("victim-{round}"));
        record(&stores[appender], &space.stream("a"), &facts(1..=1)).await;
        record(&stores[appender], &stream, &facts(1..=3)).await;
        let seen = read(&stores[appender], &stream).await[2].position;
        assert!(seen > newest, "round {round}: position {seen} was given away before {newest}");
        let erased = stores[eraser].remove(&stream, Removal::erase(moment())).await.unwrap();
        let tombstone = erased.tombstone.unwrap();
        assert!(tombstone > seen, "round {round}: the tombstone is at {tombstone}, events were at {seen}");
        if stores[0].capabilities().unchanged >= Boundary::Category {
            let late = Commit::new(space.stream(&format!("late-{round}")), Expected::NoStream, facts(1..=1));
            assert_changed(stores[next].append(late.unchanged(space.filter(), seen)).await, tombstone);
        }
        record(&stores[next], &space.stream("b"), &facts(1..=2)).await;
        for store in &stores {
            let after = log(store, seen, space.filter()).await;
            assert_eq!(after.len(), 3, "round {round}: the tombstone and two events after position {seen}");
            newest = after[2].position;
            assert!(after[0].position == tombstone && newest > tombstone);
        }
    }
    crate::verify_chain_where(&stores[0], space.filter()).await.unwrap();
}
