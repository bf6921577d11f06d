//! Commits that require that nothing which matches was added: dynamic consistency boundaries.

use super::support::*;

struct Boundary {
    space: Space,
    /// Before the events that were added.
    seen: Position,
    added: Vec<RecordedEvent>,
}

/// One event seen, then two added: types `test.booked` and `test.counted`, both with the tags `x` and `y`.
async fn boundary(store: &Events) -> Boundary {
    let space = Space::fresh();
    let event = |number, name: &str| {
        fact_with(number, |data| {
            data.event_type = event_type(name);
            data.tags = vec![space.tag("x"), space.tag("y")];
        })
    };
    record(store, &space.stream("a"), &[event(1, "test.booked")]).await;
    let seen = log(store, Position::ZERO, space.filter()).await[0].position;
    record(store, &space.stream("a"), &[event(2, "test.booked"), event(3, "test.counted")]).await;
    let added = log(store, seen, space.filter()).await;
    Boundary { space, seen, added }
}

/// Lets a store without the capability refuse, and checks that it wrote nothing. Answers whether it has it.
async fn supported(store: &Events) -> bool {
    if store.capabilities().unchanged {
        return true;
    }
    let space = Space::fresh();
    let commit = Commit::new(space.stream("a"), Expected::NoStream, facts(1..=1));
    assert_unsupported(store.append(commit.unchanged(space.filter(), Position::ZERO)).await);
    assert_history(store, &space.stream("a"), &[]).await;
    false
}

/// A matching event refuses the commit, whether it matches by category, stream, type, tag or one of several clauses; the
/// conflict names the first one's position.
pub async fn a_matching_event_refuses_the_commit(store: Events) {
    if !supported(&store).await {
        return;
    }
    let Boundary { space, seen, added } = boundary(&store).await;
    let nothing = || Filter::stream(space.stream("nothing"));
    for (filter, first) in [
        (space.filter(), 0),
        (Filter::stream(space.stream("a")), 0),
        (space.filter().and_types([event_type("test.counted")]), 1),
        (Filter::tag(space.tag("x")), 0),
        (Filter::tag(space.tag("x")).and_tag(space.tag("y")), 0),
        (Filter::tag(space.tag("x")).and_types([event_type("test.counted")]), 1),
        (nothing().or(Filter::tag(space.tag("y"))), 0),
    ] {
        let commit = Commit::new(space.stream("b"), Expected::Any, facts(1..=2)).unchanged(filter, seen);
        assert_changed(append_in(&store, &space, commit).await, added[first].position);
        assert_history(&store, &space.stream("b"), &[]).await;
    }
}

/// Events that do not match, and those up to the position, are none of its business.
pub async fn other_events_let_the_commit_pass(store: Events) {
    if !supported(&store).await {
        return;
    }
    let Boundary { space, seen, added } = boundary(&store).await;
    for (number, (filter, after)) in [
        (space.filter(), added[1].position),
        (space.filter().and_types([event_type("test.booked")]), added[0].position),
        (space.filter().and_types([event_type("test.other")]), seen),
        (Filter::stream(space.stream("other")), seen),
        (Filter::tag(space.tag("z")), seen),
        (Filter::tag(space.tag("x")).and_tag(space.tag("z")), seen),
        (Filter::category(Space::fresh().category()).and_tag(space.tag("x")), seen),
    ]
    .into_iter()
    .enumerate()
    {
        // Of another category, so that none of these commits is in the way of the next.
        let stream = Space::fresh().stream(&number.to_string());
        let commit = Commit::new(stream.clone(), Expected::NoStream, facts(1..=1));
        append_in(&store, &space, commit.unchanged(filter, after)).await.unwrap();
        assert_eq!(read(&store, &stream).await.len(), 1);
    }
}

/// The expectations of a commit with a boundary hold as well.
pub async fn expectations_hold_beside_the_boundary(store: Events) {
    if !supported(&store).await {
        return;
    }
    let Boundary { space, added, .. } = boundary(&store).await;
    let commit = Commit::new(space.stream("a"), Expected::Version(Version(2)), facts(1..=1));
    let refused = store.append(commit.unchanged(space.filter(), added[1].position)).await;
    assert_conflict(refused, &space.stream("a"), Some(added[1].head()));
}

/// A commit whose own events match its boundary can be sent again: it is recognised before the boundary is looked at.
pub async fn a_repeated_commit_returns_its_receipt(store: Events) {
    if !supported(&store).await {
        return;
    }
    let Boundary { space, added, .. } = boundary(&store).await;
    let commit = Commit::new(space.stream("b"), Expected::NoStream, facts(1..=2))
        .unchanged(space.filter(), added[1].position);
    let original = store.append(commit.clone()).await.unwrap();
    assert_eq!(store.append(commit).await.unwrap(), Committed { repeated: true, ..original });
}

/// 32 decisions on the same boundary, each for a stream of its own: exactly one is recorded. The others learn where.
pub async fn of_racing_decisions_exactly_one_is_recorded(store: Events) {
    if !supported(&store).await {
        return;
    }
    for round in 0..4 {
        let Boundary { space, added, .. } = boundary(&store).await;
        let results = at_once((0..32u64).map(|task| {
            let event = fact_with(task, |data| data.tags = vec![space.tag("y"), space.tag("x")]);
            let filter = match round {
                0 => space.filter(),
                _ => Filter::tag(space.tag("x")),
            };
            let commit = Commit::new(space.stream(&format!("seat-{task}")), Expected::NoStream, vec![event])
                .unchanged(filter, added[1].position);
            let (store, space) = (store.clone(), space.clone());
            async move { append_in(&store, &space, commit).await }
        }))
        .await;
        let events = log(&store, added[1].position, space.filter()).await;
        assert_eq!(events.len(), 1, "round {round}");
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for result in lost {
            assert_changed(result, events[0].position);
        }
    }
}
