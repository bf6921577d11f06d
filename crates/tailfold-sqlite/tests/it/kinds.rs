use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tailfold::{
    Clause, ErrorKind, EventStore as _, EventStoreExt as _, EventType, Expected, Filter, Follow, NewEvent,
    Position, RecordedEvent, Removal, Tag, Timestamp,
};
use tailfold_sqlite::SqliteStore;

use crate::support::*;

fn event_type(name: &str) -> EventType {
    EventType::new(name).unwrap()
}

fn types(names: &[&str]) -> Filter {
    Filter::all().and_types(names.iter().copied().map(event_type))
}

fn typed(name: &str) -> NewEvent {
    let mut data = event("{}").into_data();
    data.event_type = event_type(name);
    NewEvent::new(data).unwrap()
}

/// A log of so many events; the first function names the type of each.
async fn fill(store: &SqliteStore, name: &str, count: usize, of: impl Fn(usize) -> &'static str) {
    for first in (0..count).step_by(1000) {
        let events = (first..count.min(first + 1000)).map(|number| typed(of(number))).collect();
        append(store, name, Expected::Any, events).await;
    }
}

/// Events found, rows of the log and entries of indexes visited.
async fn cost(store: &SqliteStore, filter: Filter) -> (u64, u64, u64) {
    let before = store.visited();
    let found = store.read_all_to_vec(Position::ZERO, filter).await.unwrap().len() as u64;
    let after = store.visited();
    (found, after.0 - before.0, after.1 - before.1)
}

/// Reads to the end, checks what every batch says about itself, and gives all events.
async fn read_through(
    store: &SqliteStore,
    after: u64,
    filter: &Filter,
    follow: Follow,
    end: u64,
) -> Vec<RecordedEvent> {
    let mut log = store.read_all(Position(after), filter.clone(), follow);
    let (mut checked, mut found) = (after, Vec::new());
    while checked < end {
        let next = tokio::time::timeout(Duration::from_secs(20), log.try_next()).await.unwrap();
        let batch = next.unwrap().expect("the log goes on up to its end");
        assert!(batch.checked_to.0 > checked && batch.checked_to.0 <= end, "{filter:?}");
        let inside = |event: &RecordedEvent| event.position.0 > checked && event.position <= batch.checked_to;
        assert!(batch.events.iter().all(inside), "{filter:?}");
        checked = batch.checked_to.0;
        found.extend(batch.events);
    }
    if follow == Follow::ToEnd {
        assert!(log.try_next().await.unwrap().is_none());
    }
    found
}

const CATEGORIES: [&str; 4] = ["a", "b", "a.b", "absent"];
const TYPES: [&str; 5] = ["x", "y", "z", "rare", "absent"];
const TAGS: [&str; 3] = ["red", "green", "blue"];

fn some(random: &mut fastrand::Rng, of: &[&'static str], most: usize) -> Vec<&'static str> {
    (0..random.usize(0..=most)).map(|_| *random.choice(of).unwrap()).collect()
}

fn random_clause(random: &mut fastrand::Rng) -> Clause {
    let streams = if random.u8(0..4) == 0 { random.usize(1..3) } else { 0 };
    let tags = if random.u8(0..4) == 0 { 2 } else { 0 };
    Clause {
        categories: some(random, &CATEGORIES, 2).into_iter().map(str::to_owned).collect(),
        types: some(random, &TYPES, 3).into_iter().map(event_type).collect(),
        streams: (0..streams).map(|_| stream(&format!("a/{}", random.u8(0..9)))).collect(),
        tags: some(random, &TAGS, tags).into_iter().map(|tag| Tag::new(tag).unwrap()).collect(),
    }
}

fn random_filter(random: &mut fastrand::Rng) -> Filter {
    let clauses: Vec<_> = (0..random.usize(1..=3)).map(|_| random_clause(random)).collect();
    serde_json::from_value(serde_json::json!({ "clauses": clauses })).unwrap()
}

async fn random_log(store: &SqliteStore, random: &mut fastrand::Rng) {
    for _ in 0..700 {
        let name = format!("{}/{}", random.choice(&CATEGORIES[..3]).unwrap(), random.u8(0..9));
        let id = stream(&name);
        let head = store.head(&id).await.unwrap();
        match (random.u8(0..40), head) {
            (0, _) => drop(store.remove(&id, Removal::erase(Timestamp::from_micros(0))).await.unwrap()),
            (1, Some(_)) => {
                let origin = append(store, &name, Expected::Any, vec![origin("{}")]).await.writes[0].head;
                store
                    .remove(&id, Removal::before_origin(origin.version, Timestamp::from_micros(0)))
                    .await
                    .unwrap();
            }
            _ => {
                // Long runs of one type, so that reads change from sparse to dense and back.
                let common = *random.choice(&["x", "y", "z"]).unwrap();
                let events = (0..random.usize(1..40)).map(|_| {
                    let name = if random.u8(0..100) == 0 { "rare" } else { common };
                    let mut data = typed(name).into_data();
                    data.tags =
                        some(random, &TAGS, 1).into_iter().map(|tag| Tag::new(tag).unwrap()).collect();
                    NewEvent::new(data).unwrap()
                });
                append(store, &name, Expected::Any, events.collect()).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_filter_of_any_history_gives_what_its_definition_gives() {
    for seed in 0..3 {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::new();
        let store = place.open().await;
        random_log(&store, &mut random).await;
        let everything = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
        assert!(everything.iter().any(|event| event.data.event_type.is_tombstone()));
        let end = everything.last().unwrap().position.0;
        for round in 0..80 {
            if round == 40 {
                store.reindex().await.unwrap();
            }
            let filter = random_filter(&mut random);
            let after = if random.bool() { 0 } else { random.u64(0..end) };
            let wanted: Vec<_> = everything
                .iter()
                .filter(|event| event.position.0 > after && filter.matches(event))
                .cloned()
                .collect();
            let follow = if random.bool() { Follow::ToEnd } else { Follow::Live };
            let found = read_through(&store, after, &filter, follow, end).await;
            assert_eq!(positions(&found), positions(&wanted), "seed {seed}: {filter:?} after {after}");
            assert_eq!(found, wanted);
        }
    }
}

#[tokio::test]
async fn a_selective_read_visits_about_what_matches() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store, "a/1", 3000, |number| if number % 100 == 99 { "rare" } else { "x" }).await;
    for number in 0..30 {
        append(&store, &format!("b/{number}"), Expected::Any, vec![typed("x"), typed("y"), typed("z")]).await;
    }
    fill(&store, "a/1", 3000, |number| if number % 100 == 99 { "rare" } else { "x" }).await;
    let b = || Filter::category("b");
    for (filter, matches) in [
        (types(&["rare"]), 60),
        (types(&["rare", "y"]), 90),
        (b(), 90),
        (b().and_types([event_type("x")]), 30),
        (b().or(types(&["rare"])), 150),
        (types(&["absent"]), 0),
        (Filter::category("absent"), 0),
    ] {
        let (found, rows, entries) = cost(&store, filter.clone()).await;
        assert_eq!((found, rows), (matches, matches), "{filter:?}");
        assert!(entries * 5 <= matches * 6, "{filter:?}: {entries} entries for {matches} events");
    }
}

#[tokio::test]
async fn many_kinds_are_merged_without_reading_ahead() {
    let place = Place::new();
    let store = place.open().await;
    for round in 0..3 {
        for kind in 0..200 {
            let of_kind = typed(["x", "y"][kind % 2]);
            append(&store, &format!("c{kind}/{round}"), Expected::Any, vec![of_kind]).await;
            append(&store, "other/1", Expected::Any, (0..9).map(|_| typed("x")).collect()).await;
        }
    }
    let all_but_one = (0..200).map(|kind| Filter::category(format!("c{kind}"))).reduce(Filter::or).unwrap();
    let (found, rows, entries) = cost(&store, all_but_one).await;
    assert_eq!((found, rows, entries), (600, 600, 600));
}

#[tokio::test]
async fn a_read_of_most_of_the_log_scans_it() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store, "a/1", 8000, |number| if number % 20 == 19 { "rare" } else { "x" }).await;
    let (found, rows, entries) = cost(&store, types(&["x", "rare", "unheard"])).await;
    assert_eq!((found, rows, entries), (8000, 8000, 0), "all kinds: nothing but a scan");
    let (found, rows, entries) = cost(&store, types(&["x"])).await;
    assert_eq!(found, 7600);
    assert!(
        rows <= 8000 && entries <= 1001,
        "one page by the index, then a scan: {rows} rows, {entries} entries"
    );
}

#[tokio::test]
async fn a_read_returns_to_the_index_where_matches_become_rare() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store, "a/1", 24_000, |number| if number < 4000 || number % 100 == 99 { "x" } else { "y" }).await;
    let (found, rows, _) = cost(&store, types(&["x"])).await;
    assert_eq!(found, 4200);
    assert!(rows < 4000 + 3 * 4096, "{rows} rows");
}

#[tokio::test]
async fn a_kind_that_begins_while_a_read_is_live_is_found() {
    let place = Place::new();
    let (store, other) = (place.open().await, place.open().await);
    fill(&store, "a/1", 200, |_| "x").await;
    let filter = Filter::category("b").or(types(&["new"]));
    assert_eq!(read_through(&store, 0, &filter, Follow::Live, 200).await, []);
    append(&other, "b/1", Expected::Any, vec![typed("x")]).await;
    append(&other, "a/1", Expected::Any, vec![typed("new")]).await;
    other.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    let found = read_through(&store, 0, &filter, Follow::Live, 203).await;
    assert_eq!(positions(&found), [201, 203], "the tombstone of category a matches every type");
}

#[tokio::test]
async fn unchanged_looks_for_types_by_the_index() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store, "a/1", 5000, |number| if number == 4000 { "rare" } else { "x" }).await;
    let commit = |after| {
        let commit = tailfold::Commit::new(stream("b/1"), Expected::Any, events(1));
        commit.unchanged(types(&["rare"]), Position(after))
    };
    let error = store.append(commit(0)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Conflict(_)) && error.to_string().contains("4001"), "{error}");
    store.append(commit(4001)).await.unwrap();
}

/// Index and events are read from one state of the store.
#[tokio::test(flavor = "multi_thread")]
async fn reads_beside_erasures_never_miss_what_the_index_names() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store, "stay/1", 4000, |_| "x").await;
    let done = Arc::new(AtomicBool::new(false));
    let eraser = tokio::spawn({
        let (store, done) = (store.clone(), done.clone());
        async move {
            for _ in 0..150 {
                append(&store, "go/1", Expected::Any, (0..300).map(|_| typed("rare")).collect()).await;
                store.remove(&stream("go/1"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
            }
            done.store(true, Ordering::Relaxed);
        }
    });
    while !done.load(Ordering::Relaxed) {
        store.read_all_to_vec(Position(4000), types(&["rare"])).await.unwrap();
    }
    eraser.await.unwrap();
}

#[tokio::test]
async fn the_index_of_kinds_follows_removals_and_is_rebuilt() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::Any, vec![typed("x"), typed("y"), origin("{}"), typed("x")]).await;
    append(&store, "a/2", Expected::Any, vec![typed("x")]).await;
    store.remove(&stream("a/1"), Removal::before_origin(3, Timestamp::from_micros(0))).await.unwrap();
    store.remove(&stream("a/2"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    let sqlite = place.sqlite();
    let index = || -> Vec<(String, String, i64)> {
        let sql =
            "SELECT category, type, position FROM event_kinds JOIN kinds ON ref = kind ORDER BY position";
        let mut statement = sqlite.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.try_into()).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let entry = |name: &str, position| ("a".to_owned(), name.to_owned(), position);
    let wanted = [
        entry("test.happened", 3),
        entry("x", 4),
        entry("tailfold.truncated", 6),
        entry("tailfold.erased", 7),
    ];
    assert_eq!(index(), wanted);
    sqlite
        .execute_batch("DELETE FROM event_kinds WHERE position = 4; INSERT INTO event_kinds VALUES (1, 99)")
        .unwrap();
    store.reindex().await.unwrap();
    assert_eq!(index(), wanted);
    sqlite.execute_batch("INSERT INTO event_kinds VALUES (1, 2)").unwrap();
    let error = store.read_all_to_vec(Position::ZERO, types(&["x"])).await.unwrap_err();
    assert!(error.to_string().contains("an index names position 2") && error.to_string().contains("reindex"));
}
