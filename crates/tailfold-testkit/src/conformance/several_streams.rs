//! Commits to several streams.

use super::support::*;

fn transfer(from: &StreamId, to: &StreamId, expected: (Expected, Expected), number: u64) -> Commit {
    Commit::new(from.clone(), expected.0, vec![fact(number)]).and(
        to.clone(),
        expected.1,
        facts(number..=number + 1),
    )
}

/// Lets a store without the capability refuse, and checks that it wrote nothing. Answers whether it has it.
async fn supported(store: &Events) -> bool {
    if store.capabilities().several_streams {
        return true;
    }
    let space = Space::fresh();
    let (one, two) = (space.stream("1"), space.stream("2"));
    assert_unsupported(store.append(transfer(&one, &two, (Expected::Any, Expected::Any), 1)).await);
    assert_history(store, &one, &[]).await;
    assert_history(store, &two, &[]).await;
    false
}

/// All streams are written, the receipt names each in the order of the commit.
pub async fn all_streams_of_a_commit_are_written(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    // Not in the order of their names.
    let (one, two) = (space.stream("z"), space.stream("a"));
    record(&store, &two, &facts(1..=3)).await;
    let (left, right) = (facts(1..=2), facts(3..=5));
    let commit = Commit::new(one.clone(), Expected::NoStream, left.clone()).and(
        two.clone(),
        Expected::Version(Version(3)),
        right.clone(),
    );
    let committed = store.append(commit).await.unwrap();
    let ones = assert_history(&store, &one, &left).await;
    let twos = read(&store, &two).await;
    assert_follows(&twos[3..], &two, twos[2].head(), &right);
    let written = |stream: &StreamId, first, events: &[RecordedEvent]| Written {
        stream: stream.clone(),
        first: Version(first),
        head: events.last().unwrap().head(),
    };
    assert_eq!(committed.writes, [written(&one, 1, &ones), written(&two, 4, &twos)]);
    let last = ones.iter().chain(&twos).map(|event| event.position).max();
    assert_eq!(Some(committed.position), last);
    assert!(!committed.repeated);
}

/// Where one expectation fails, nothing is written to any stream, whichever of them it is; the conflict names it.
pub async fn one_conflict_writes_nothing(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let (one, two) = (space.stream("1"), space.stream("2"));
    let events = facts(1..=2);
    let (first, second) = (record(&store, &one, &events).await, record(&store, &two, &events).await);
    let (right, wrong) = (Expected::Head, Expected::Version(Version(1)));
    let refused = transfer(&one, &two, (right(first), wrong), 5);
    assert_conflict(store.append(refused).await, &two, Some(second));
    let refused = transfer(&one, &two, (wrong, right(second)), 5);
    assert_conflict(store.append(refused).await, &one, Some(first));
    assert_history(&store, &one, &events).await;
    assert_history(&store, &two, &events).await;
}

/// A stream that occurs twice in a commit is invalid.
pub async fn a_stream_that_occurs_twice_is_invalid(store: Events) {
    let stream = Space::fresh().stream("a");
    assert_invalid(store.append(transfer(&stream, &stream, (Expected::Any, Expected::Any), 1)).await);
    assert_history(&store, &stream, &[]).await;
}

/// The same commit again returns the original receipt; if it is recorded in one of its streams only, it conflicts.
pub async fn a_repeated_commit_counts_in_all_streams(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let (one, two, three) = (space.stream("1"), space.stream("2"), space.stream("3"));
    let empty = (Expected::NoStream, Expected::NoStream);
    let commit = transfer(&one, &two, empty, 1);
    let original = store.append(commit.clone()).await.unwrap();
    record(&store, &two, &facts(7..=8)).await;
    assert_eq!(store.append(commit.clone()).await.unwrap(), Committed { repeated: true, ..original.clone() });

    // The same events for the first stream, but a second stream that is still empty.
    let mut partly = commit.clone();
    partly.writes[1].stream = three.clone();
    assert_conflict(store.append(partly).await, &one, Some(original.writes[0].head));
    assert_history(&store, &three, &[]).await;

    assert_eq!(read(&store, &two).await.len(), 4);
}

/// Where a commit expects something of one stream and anything of the others, the one stream tells whether it was recorded: a
/// conflict would say that nothing was.
pub async fn a_commit_is_recognised_by_the_writes_that_expect_something(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let known = record(&store, &space.stream("known"), &facts(1..=2)).await;
    for (round, (name, expected)) in [
        ("empty", Expected::NoStream),
        ("known", Expected::Head(known)),
        ("counted", Expected::Version(Version(0))),
    ]
    .into_iter()
    .enumerate()
    {
        // Before and after it, in the order of the commit, and one of them empty until then.
        let first = 10 * (round as u64 + 1);
        let (before, after) = (space.stream("before"), space.stream(&format!("after-{round}")));
        let commit = Commit::new(before.clone(), Expected::Any, facts(first..=first + 1))
            .and(space.stream(name), expected, facts(first..=first))
            .and(after.clone(), Expected::Any, facts(first..=first + 2));
        let original = store.append(commit.clone()).await.unwrap();
        for later in [&before, &space.stream(name), &after] {
            assert_eq!(
                store.append(commit.clone()).await.unwrap(),
                Committed { repeated: true, ..original.clone() }
            );
            record(&store, later, &facts(7..=8)).await;
        }
        assert_eq!(
            store.append(commit.clone()).await.unwrap(),
            Committed { repeated: true, ..original.clone() }
        );

        // The same events where anything is expected, beside others where something is: another commit.
        let mut other = commit.clone();
        other.writes[1].events = facts(first..=first);
        let actual = store.head(&space.stream(name)).await.unwrap();
        assert_conflict(store.append(other).await, &space.stream(name), actual);
        // And the same where something is expected, beside others.
        let mut other = commit;
        other.writes[2].events = facts(first..=first + 2);
        assert_conflict(store.append(other).await, &space.stream(name), actual);
        assert_eq!(read(&store, &after).await.len(), 5);
    }
}

/// Racing commits to the same streams, named in either order, neither hang nor tear.
pub async fn racing_commits_to_the_same_streams_neither_hang_nor_tear(store: Events) {
    if !supported(&store).await {
        return;
    }
    let space = Space::fresh();
    let (one, two) = (space.stream("1"), space.stream("2"));
    let racing = at_once((0..16u64).map(|task| {
        let (store, one, two) = (store.clone(), one.clone(), two.clone());
        async move {
            let mut won = 0;
            for round in 0..10 {
                let number = 1 + task * 100 + round * 4;
                let heads = (store.head(&one).await.unwrap(), store.head(&two).await.unwrap());
                let expected = (Expected::from_head(heads.0), Expected::from_head(heads.1));
                let commit = if task % 2 == 0 {
                    transfer(&one, &two, expected, number)
                } else {
                    transfer(&two, &one, (expected.1, expected.0), number)
                };
                match store.append(commit).await {
                    Ok(_) => won += if task % 2 == 0 { 1 } else { 2 },
                    Err(error) => assert!(error.is_conflict(), "{error}"),
                }
            }
            won
        }
    }));
    let ones: u64 = soon("racing commits to two streams", racing).await.into_iter().sum();
    let (first, second) = (read(&store, &one).await, read(&store, &two).await);
    assert_eq!(first.len() as u64, ones);
    let numbers = |events: &[RecordedEvent]| -> BTreeSet<Timestamp> {
        events.iter().map(|event| event.data.recorded_at).collect()
    };
    // Each commit left one event of the same number on both sides.
    let common = numbers(&first).intersection(&numbers(&second)).count();
    assert_eq!(common * 3, first.len() + second.len());
    crate::verify_chain_where(&store, space.filter()).await.unwrap();
}
