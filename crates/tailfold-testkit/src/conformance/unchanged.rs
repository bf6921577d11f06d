//! Commits that require that nothing which matches was added: dynamic consistency boundaries.

use tailfold::Boundary;

use super::support::*;

struct Scene {
    space: Space,
    /// Before the events that were added.
    seen: Position,
    added: Vec<RecordedEvent>,
}

/// One event seen, then two added: types `test.booked` and `test.counted`, both with the tags `x` and `y`.
async fn scene(store: &Events) -> Scene {
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
    Scene { space, seen, added }
}

/// Whether a store can check such boundaries. What it cannot, it refuses:
/// [`what_a_store_cannot_check_is_unsupported_and_writes_nothing`].
pub(super) fn checks(store: &Events, boundary: Boundary) -> bool {
    store.capabilities().unchanged >= boundary
}

/// Boundaries beyond what the store says it can check are refused and write nothing; those within are accepted.
pub async fn what_a_store_cannot_check_is_unsupported_and_writes_nothing(store: Events) {
    let (space, other) = (Space::fresh(), Space::fresh());
    let (a, b) = (space.stream("a"), space.stream("b"));
    let x = space.tag("x");
    for (filter, least) in [
        (Filter::stream(a.clone()), Boundary::Streams),
        (
            Filter::stream(a.clone()).and_tag(x.clone()).and_types([event_type("test.never")]),
            Boundary::Streams,
        ),
        (Filter::stream(b.clone()), Boundary::Category),
        (Filter::stream(a.clone()).or(Filter::stream(b)), Boundary::Category),
        (space.filter(), Boundary::Category),
        (space.filter().and_tag(x.clone()).or(Filter::stream(a.clone())), Boundary::Category),
        (other.filter(), Boundary::Any),
        (space.filter().or(other.filter()), Boundary::Any),
        (Filter::stream(other.stream("a")), Boundary::Any),
        (Filter::tag(x.clone()), Boundary::Any),
        (space.filter().or(Filter::tag(x)), Boundary::Any),
        (Filter::all().and_types([event_type("test.never")]), Boundary::Any),
    ] {
        let head = store.head(&a).await.unwrap();
        let commit = Commit::new(a.clone(), Expected::from_head(head), facts(1..=1));
        let result = store.append(commit.unchanged(filter.clone(), Position(u64::MAX >> 1))).await;
        if checks(&store, least) {
            assert_ne!(Some(result.unwrap().writes[0].head), head, "{filter:?}");
        } else {
            assert_unsupported(result);
            assert_eq!(store.head(&a).await.unwrap(), head, "{filter:?}");
        }
    }
}

/// A boundary of streams that the commit writes to: what matches is a conflict, what does not is none, whoever appended it.
pub async fn a_boundary_of_the_written_stream_is_exact(store: Events) {
    if !checks(&store, Boundary::Streams) {
        return;
    }
    let Scene { space, seen, added } = scene(&store).await;
    let a = space.stream("a");
    let head = added[1].head();
    let decide = async |filter: Filter, after| {
        let commit = Commit::new(a.clone(), Expected::Head(head), facts(7..=8));
        store.append(commit.unchanged(filter, after)).await
    };
    let own = || Filter::stream(a.clone());
    let counted = event_type("test.counted");
    for (filter, first) in [
        (own(), 0),
        (own().and_types([counted.clone()]), 1),
        (own().and_tag(space.tag("x")), 0),
        (own().and_tag(space.tag("y")).and_types([counted.clone()]), 1),
    ] {
        assert_changed(decide(filter, seen).await, added[first].position);
        assert_eq!(store.head(&a).await.unwrap(), Some(head));
    }
    assert_changed(decide(own(), added[0].position).await, added[1].position);
    let booked = own().and_types([event_type("test.booked")]);
    assert_eq!(decide(booked, added[0].position).await.unwrap().writes[0].first, Version(4));
}

/// 64 tasks book ten seats of a category, each into a stream of its own or one of a few, beside others who append to the
/// category what does not matter: exactly ten are booked, and nobody gives up while there is a seat.
pub async fn of_64_racing_tasks_none_overbooks_a_category(store: Events) {
    if !checks(&store, Boundary::Category) {
        return;
    }
    let space = Space::fresh();
    let booked = space.filter().and_types([event_type("test.booked")]);
    let stop = Arc::new(tokio::sync::Notify::new());
    let noise = tokio::spawn({
        let (store, space, stop) = (store.clone(), space.clone(), stop.clone());
        async move {
            let append = async {
                for number in 0.. {
                    // Now and then to a stream that somebody books in.
                    let stream = space.stream(&format!("desk-{}", number % 12));
                    store.append(Commit::new(stream, Expected::Any, facts(number..=number))).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! { () = append => {}, () = stop.notified() => {} }
        }
    });
    let won = at_once((0..64u64).map(|task| {
        let (store, space, booked) = (store.clone(), space.clone(), booked.clone());
        async move {
            let stream = space.stream(&format!("desk-{}", if task % 2 == 0 { task } else { task % 8 }));
            loop {
                let (mut seats, mut seen) = (0, Position::ZERO);
                let mut batches = store.read_all(Position::ZERO, booked.clone(), Follow::ToEnd);
                while let Some(batch) = batches.try_next().await.unwrap() {
                    (seats, seen) = (seats + batch.events.len(), batch.checked_to);
                }
                if seats >= 10 {
                    return false;
                }
                let event = fact_with(task, |data| data.event_type = event_type("test.booked"));
                let commit = Commit::new(stream.clone(), Expected::Any, vec![event]);
                match store.append(commit.unchanged(booked.clone(), seen)).await {
                    Ok(_) => return true,
                    Err(error) => assert!(error.is_conflict(), "{error}"),
                }
            }
        }
    }))
    .await;
    stop.notify_one();
    joined(noise).await;
    assert_eq!(log(&store, Position::ZERO, booked).await.len(), 10);
    assert_eq!(won.into_iter().filter(|won| *won).count(), 10);
    // Whoever came next of the category came next of its own stream, too.
    crate::verify_chain_where(&store, space.filter()).await.unwrap();
}

/// A matching event refuses the commit, whether it matches by category, stream, type, tag or one of several clauses; the
/// conflict names the first one's position.
pub async fn a_matching_event_refuses_the_commit(store: Events) {
    if !checks(&store, Boundary::Category) {
        return;
    }
    let Scene { space, seen, added } = scene(&store).await;
    let nothing = || Filter::stream(space.stream("nothing"));
    for (filter, first) in [
        (space.filter(), 0),
        (Filter::stream(space.stream("a")), 0),
        (space.filter().and_types([event_type("test.counted")]), 1),
        (Filter::tag(space.tag("x")), 0),
        (Filter::tag(space.tag("x")).and_tag(space.tag("y")), 0),
        (Filter::tag(space.tag("x")).and_types([event_type("test.counted")]), 1),
        (nothing().or(Filter::tag(space.tag("y"))), 0),
        (space.filter().and_tag(space.tag("y")), 0),
        (nothing().or(space.filter().and_types([event_type("test.counted")])), 1),
    ] {
        let needs_more = filter.clauses().iter().any(|c| c.categories.is_empty() && c.streams.is_empty());
        if needs_more && !checks(&store, Boundary::Any) {
            continue;
        }
        let commit = Commit::new(space.stream("b"), Expected::Any, facts(1..=2)).unchanged(filter, seen);
        assert_changed(append_in(&store, &space, commit).await, added[first].position);
        assert_history(&store, &space.stream("b"), &[]).await;
    }
}

/// Events that do not match, and those up to the position, are none of its business.
pub async fn other_events_let_the_commit_pass(store: Events) {
    if !checks(&store, Boundary::Any) {
        return;
    }
    let Scene { space, seen, added } = scene(&store).await;
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
    if !checks(&store, Boundary::Category) {
        return;
    }
    let Scene { space, added, .. } = scene(&store).await;
    let commit = Commit::new(space.stream("a"), Expected::Version(Version(2)), facts(1..=1));
    let refused = store.append(commit.unchanged(space.filter(), added[1].position)).await;
    assert_conflict(refused, &space.stream("a"), Some(added[1].head()));
}

/// A commit whose own events match its boundary can be sent again: it is recognised before the boundary is looked at.
pub async fn a_repeated_commit_returns_its_receipt(store: Events) {
    if !checks(&store, Boundary::Category) {
        return;
    }
    let Scene { space, added, .. } = scene(&store).await;
    let commit = Commit::new(space.stream("b"), Expected::NoStream, facts(1..=2))
        .unchanged(space.filter(), added[1].position);
    let original = store.append(commit.clone()).await.unwrap();
    assert_eq!(store.append(commit).await.unwrap(), Committed { repeated: true, ..original });
}

/// 32 decisions on the same boundary, each for a stream of its own: exactly one is recorded. The others learn where.
pub async fn of_racing_decisions_exactly_one_is_recorded(store: Events) {
    if !checks(&store, Boundary::Category) {
        return;
    }
    for round in 0..if checks(&store, Boundary::Any) { 4 } else { 1 } {
        let Scene { space, added, .. } = scene(&store).await;
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
