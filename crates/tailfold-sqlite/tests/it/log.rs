use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tailfold::{
    ErrorKind, EventStore as _, EventStoreExt as _, EventType, Expected, Filter, Follow, Position, Removal,
    Tag, Timestamp,
};

use crate::support::*;

fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

#[tokio::test]
async fn every_filter_gives_what_its_definition_gives_on_random_histories() {
    let place = Place::new();
    let store = place.open().await;
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..3000u32 {
        let name = format!("{}/{}", random.choice(["a", "b"]).unwrap(), random.u8(0..20));
        if number % 250 == 249 {
            store.remove(&stream(&name), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
            continue;
        }
        let mut data = event(&number.to_string()).into_data();
        data.event_type = EventType::new(["x", "y", "z"][random.usize(0..3)]).unwrap();
        data.tags = ["red", "green", "blue"].into_iter().filter(|_| random.u8(0..3) == 0).map(tag).collect();
        append(&store, &name, Expected::Any, vec![tailfold::NewEvent::new(data).unwrap()]).await;
    }
    let everything = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert!(everything.iter().any(|event| event.data.event_type.is_tombstone()));
    let x = || [EventType::new("x").unwrap()];
    for filter in [
        Filter::category("a"),
        Filter::category("a").and_types(x()),
        Filter::tag(tag("red")),
        Filter::tag(tag("red")).and_tag(tag("blue")),
        Filter::tag(tag("red")).and_tag(tag("blue")).and_tag(tag("green")).and_types(x()),
        Filter::tag(tag("absent")),
        Filter::stream(stream("a/3")),
        Filter::stream(stream("a/3")).and_tag(tag("green")),
        Filter::stream(stream("a/3")).or(Filter::stream(stream("b/4"))).or(Filter::tag(tag("blue"))),
        Filter::stream(stream("none/0")),
        Filter::category("b").and_tag(tag("red")).or(Filter::category("a").and_types(x())),
    ] {
        for after in [0, 1, 1500, 2990, 5000] {
            let found = store.read_all_to_vec(Position(after), filter.clone()).await.unwrap();
            let wanted: Vec<_> = everything
                .iter()
                .filter(|event| event.position.0 > after && filter.matches(event))
                .cloned()
                .collect();
            assert_eq!(positions(&found), positions(&wanted), "{filter:?} after {after}");
            assert_eq!(found, wanted);
        }
    }
}

#[tokio::test]
async fn checked_to_goes_on_where_nothing_matches() {
    let place = Place::new();
    let store = place.open().await;
    for _ in 0..10 {
        append(&store, "a/1", Expected::Any, events(1000)).await;
    }
    for filter in [Filter::category("b"), Filter::tag(tag("none")), Filter::stream(stream("b/1"))] {
        let batches: Vec<_> =
            store.read_all(Position::ZERO, filter, Follow::ToEnd).try_collect().await.unwrap();
        assert!(batches.iter().all(|batch| batch.events.is_empty()));
        assert!(batches.windows(2).all(|pair| pair[0].checked_to < pair[1].checked_to));
        assert_eq!(batches.last().unwrap().checked_to, Position(10_000));
    }
}

#[tokio::test]
async fn a_read_ends_where_the_log_ended_when_it_began() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::Any, events(2500)).await;
    let mut log = store.read_all(Position::ZERO, Filter::all(), Follow::ToEnd);
    let mut one = store.read(&stream("a/1"), tailfold::VersionRange::ALL, tailfold::Direction::Forward);
    let (mut in_log, mut in_stream) = (0, 0);
    loop {
        let batch = log.try_next().await.unwrap();
        let page = one.try_next().await.unwrap();
        append(&store, "a/1", Expected::Any, events(1)).await;
        if batch.is_none() && page.is_none() {
            break;
        }
        in_log += batch.map_or(0, |batch| batch.events.len());
        in_stream += page.map_or(0, |page| page.len());
    }
    assert_eq!(in_log, 2500);
    assert!((2500..2510).contains(&in_stream), "{in_stream}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_reader_sees_the_commits_of_two_handles_without_gap_or_duplicate() {
    let place = Place::new();
    let (mine, foreign) = (place.open().await, place.open().await);
    append(&mine, "a/1", Expected::Any, events(1500)).await;
    let mut live = mine.read_all(Position::ZERO, Filter::category("a"), Follow::Live);
    let writers: Vec<_> = [mine.clone(), foreign.clone()]
        .into_iter()
        .enumerate()
        .map(|(number, store)| {
            tokio::spawn(async move {
                for _ in 0..200 {
                    append(&store, &format!("a/{number}"), Expected::Any, events(1)).await;
                    append(&store, "b/1", Expected::Any, events(1)).await;
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    while seen.len() < 1900 {
        let batch =
            tokio::time::timeout(Duration::from_secs(20), live.try_next()).await.unwrap().unwrap().unwrap();
        seen.extend(batch.events);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen, mine.read_all_to_vec(Position::ZERO, Filter::category("a")).await.unwrap());

    // With nobody else awake, a foreign commit is seen within the poll interval.
    append(&foreign, "a/9", Expected::Any, events(1)).await;
    let deadline = Duration::from_secs(2);
    let event = tokio::time::timeout(deadline, async {
        loop {
            if let Some(event) = live.try_next().await.unwrap().unwrap().events.pop() {
                return event;
            }
        }
    });
    assert_eq!(event.await.unwrap().stream, stream("a/9"));
    drop(foreign);

    // The end of the store ends the read, with an error.
    drop(mine);
    let end = tokio::time::timeout(deadline, async {
        live.by_ref().skip_while(|next| std::future::ready(next.is_ok())).next().await
    });
    assert!(matches!(end.await.unwrap().unwrap().unwrap_err().kind(), ErrorKind::Unavailable(_)));
}

#[tokio::test]
async fn reindex_finds_again_what_the_index_lost() {
    let place = Place::new();
    let store = place.open().await;
    let awkward = ["a \"b\" \\ c", "grün", "42", "null", "[]"];
    append(&store, "a/1", Expected::Any, vec![tagged("1", &awkward), tagged("2", &["42"]), event("3")]).await;
    let sqlite = place.sqlite();
    store.reindex().await.unwrap();
    let before = index(&sqlite);
    assert_eq!(before.len(), 6);
    sqlite
        .execute_batch("DELETE FROM event_tags WHERE position = 1; INSERT INTO event_tags VALUES ('42', 99)")
        .unwrap();
    assert_eq!(store.read_all_to_vec(Position::ZERO, Filter::tag(tag("grün"))).await.unwrap(), []);
    store.reindex().await.unwrap();
    assert_eq!(index(&sqlite), before);
    assert_eq!(store.read_all_to_vec(Position::ZERO, Filter::tag(tag("grün"))).await.unwrap().len(), 1);
    assert_eq!(store.read_all_to_vec(Position::ZERO, Filter::tag(tag("42"))).await.unwrap().len(), 2);
}

/// The index is kept behind the log: whatever has been moved so far, every event is found by its tags, once.
#[tokio::test]
async fn tags_are_found_while_they_move_into_the_index() {
    const EVENTS: usize = 9000;
    let place = Place::new();
    let store = place.open().await;
    let other = place.open().await;
    let sqlite = place.sqlite();
    let mut moved = Vec::new();
    for first in (0..EVENTS).step_by(100) {
        let tagged = (first..first + 100).map(|n| {
            let (own, shared) = (format!("own:{n}"), format!("shared:{}", n % 7));
            tagged("fact", &[own.as_str(), shared.as_str(), "all"])
        });
        // Two handles in turn, as two processes would.
        let writer = if first % 300 == 0 { &other } else { &store };
        append(writer, &format!("a/{}", first % 3), Expected::Any, tagged.collect()).await;
        moved.push(index(&sqlite).len());
        let count = |tags: &[&str]| {
            let filter = tags.iter().fold(Filter::all(), |filter, name| filter.and_tag(tag(name)));
            async { store.read_all_to_vec(Position::ZERO, filter).await.unwrap().len() }
        };
        let written = first + 100;
        assert_eq!(count(&["all"]).await, written);
        let in_class = (0..written).filter(|n| n % 7 == 3).count();
        assert_eq!(count(&["shared:3"]).await, in_class);
        assert_eq!(count(&["all", "shared:3"]).await, in_class);
        assert_eq!(count(&["shared:3", "own:10"]).await, usize::from(written > 10));
        assert_eq!(count(&["shared:4", "own:10"]).await, 0);
        let newest = format!("own:{}", written - 1);
        assert_eq!(count(&[newest.as_str()]).await, 1);
    }
    assert!(
        moved.iter().any(|entries| *entries > 0 && entries % 3 != 0),
        "a part of them was seen: {moved:?}"
    );
    assert!(moved.last().is_some_and(|entries| *entries > 3 * 4096), "most of them were moved: {moved:?}");
    // What is erased is found no more, moved or not.
    store.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    let found = store.read_all_to_vec(Position::ZERO, Filter::tag(tag("all"))).await.unwrap();
    assert!(found.iter().all(|event| event.stream != stream("a/1") || event.data.event_type.is_tombstone()));
    store.reindex().await.unwrap();
    let again = store.read_all_to_vec(Position::ZERO, Filter::tag(tag("all"))).await.unwrap();
    assert_eq!(positions(&again), positions(&found));
}

fn index(sqlite: &rusqlite::Connection) -> Vec<(String, i64)> {
    let mut statement =
        sqlite.prepare("SELECT tag, position FROM event_tags ORDER BY tag, position").unwrap();
    let rows = statement.query_map([], |row| row.try_into()).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test]
async fn streams_are_listed_by_the_bytes_of_their_names_with_their_heads() {
    let place = Place::new();
    let store = place.open().await;
    let mut names: Vec<_> = (0..1200).map(|number| format!("a/{number}")).collect();
    names.extend(["a-b/1", "a.b/1", "a0/1", "ab/ü", "b/z", "b/1"].map(str::to_owned));
    for name in &names {
        append(&store, name, Expected::NoStream, events(1)).await;
    }
    let last = append(&store, "b/1", Expected::Any, events(1)).await.writes[0].head;
    store.remove(&stream("b/z"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    names.retain(|name| name != "b/z");
    names.sort();
    let listed = store.streams_to_vec(Filter::all()).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.stream.as_str()).collect::<Vec<_>>(), names);
    assert_eq!(listed.iter().find(|one| one.stream == stream("b/1")).unwrap().head, last);
    let of_a = store.streams_to_vec(Filter::category("a")).await.unwrap();
    assert_eq!(of_a.len(), 1200);
    let rest: Vec<_> = store.streams(Filter::category("a"), Some(stream("a/99"))).try_concat().await.unwrap();
    assert!(rest.iter().all(|one| one.stream > stream("a/99")));
    assert_eq!(rest.len(), of_a.iter().filter(|one| one.stream > stream("a/99")).count());
    let error = store.streams_to_vec(Filter::tag(tag("x"))).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported);
}
