//! Files of earlier formats. The schemas in `tests/fixtures` are what was written then, and never change.

use rusqlite::Connection;
use tailfold::{
    EventStore as _, EventStoreExt as _, EventType, Expected, Filter, Position, Removal, Timestamp,
};
use tailfold_sqlite::{SqliteConfig, SqliteStore};

use crate::support::*;

const SCHEMA_1: &str = include_str!("../fixtures/schema-1.sql");

/// A file of format 1 with events, tags, two tombstones and a truncated stream.
async fn format_1() -> Place {
    let source = Place::new();
    let store = source.open().await;
    for number in 0..40 {
        append(&store, &format!("a/{number}"), Expected::NoStream, events(50)).await;
        append(
            &store,
            &format!("b/{number}"),
            Expected::NoStream,
            vec![tagged("{}", &["red"]), origin("{}")],
        )
        .await;
    }
    store.remove(&stream("a/3"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    store.remove(&stream("b/39"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    store.remove(&stream("b/4"), Removal::before_origin(2, Timestamp::from_micros(0))).await.unwrap();
    store.close().await.unwrap();

    let place = Place::new();
    let sqlite = place.sqlite();
    sqlite.execute_batch(SCHEMA_1).unwrap();
    sqlite.execute("ATTACH ?1 AS source", [source.path.to_str().unwrap()]).unwrap();
    for table in ["meta", "streams", "events", "event_tags", "tags_behind", "snapshots", "snapshot_payloads"]
    {
        sqlite.execute_batch(&format!("INSERT INTO main.{table} SELECT * FROM source.{table}")).unwrap();
    }
    sqlite
        .execute_batch("DETACH source; PRAGMA application_id = 0x7461696C; PRAGMA user_version = 1")
        .unwrap();
    place
}

fn version(sqlite: &Connection) -> i32 {
    sqlite.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

fn schema(sqlite: &Connection) -> Vec<(String, Option<String>)> {
    let mut statement = sqlite.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
    let rows = statement.query_map([], |row| row.try_into()).unwrap();
    rows.map(Result::unwrap).collect()
}

fn filters() -> Vec<Filter> {
    let happened = || [EventType::new("test.happened").unwrap()];
    vec![
        Filter::all(),
        Filter::category("a"),
        Filter::category("b"),
        Filter::category("b").and_types(happened()),
        Filter::all().and_types([EventType::new("none").unwrap()]),
        Filter::tag(tailfold::Tag::new("red").unwrap()),
        Filter::stream(stream("a/3")).or(Filter::category("b")),
    ]
}

/// Whether every filter gives what it is defined to give.
async fn check_filters(store: &SqliteStore) {
    let everything = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert!(everything.iter().filter(|event| event.data.event_type.is_tombstone()).count() >= 2);
    for filter in filters() {
        let found = store.read_all_to_vec(Position::ZERO, filter.clone()).await.unwrap();
        let wanted: Vec<_> = everything.iter().filter(|event| filter.matches(event)).cloned().collect();
        assert_eq!(found, wanted, "{filter:?}");
    }
}

async fn entries_read(store: &SqliteStore, filter: Filter) -> u64 {
    let before = store.visited().1;
    store.read_all_to_vec(Position::ZERO, filter).await.unwrap();
    store.visited().1 - before
}

#[tokio::test]
async fn a_store_of_format_1_is_brought_up_to_date_with_all_it_holds() {
    let place = format_1().await;
    let before: i64 =
        place.sqlite().query_row("SELECT max(position) FROM events", [], |row| row.get(0)).unwrap();
    let store = place.open().await;
    assert_eq!(version(&place.sqlite()), 2);
    check_filters(&store).await;
    // 40 streams of 2, one of them cut but for its marker, one erased but for its tombstone.
    assert_eq!(entries_read(&store, Filter::category("b")).await, 79);
    assert_eq!(entries_read(&store, Filter::all().and_types([EventType::new("none").unwrap()])).await, 3);
    let next = append(&store, "a/3", Expected::NoStream, events(1)).await;
    assert_eq!(next.position.0, before as u64 + 1);
    check_filters(&store).await;
    store.check().await.unwrap();

    let fresh = Place::new();
    fresh.open().await.close().await.unwrap();
    assert_eq!(schema(&place.sqlite()), schema(&fresh.sqlite()));
}

#[tokio::test]
async fn a_store_of_format_1_that_may_not_be_written_is_read_by_scan_until_somebody_migrates_it() {
    let place = format_1().await;
    let reading = place.config().read_only(true).open().await.unwrap();
    check_filters(&reading).await;
    assert_eq!(entries_read(&reading, Filter::category("b")).await, 0);
    assert_eq!(version(&place.sqlite()), 1);
    let writing = place.open().await;
    append(&writing, "b/1", Expected::Any, events(1)).await;
    check_filters(&reading).await;
    assert_eq!(entries_read(&reading, Filter::category("b")).await, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_1_is_migrated_once_by_many_who_open_it_at_once() {
    for _ in 0..5 {
        let place = format_1().await;
        let opening: Vec<_> = (0..8).map(|_| tokio::spawn(place.config().open())).collect();
        for (number, opening) in opening.into_iter().enumerate() {
            let store = opening.await.unwrap().unwrap();
            append(&store, &format!("c/{number}"), Expected::NoStream, events(1)).await;
            check_filters(&store).await;
        }
        let indexed = "SELECT (SELECT count(*) FROM event_kinds) = (SELECT count(*) FROM events)";
        assert!(place.sqlite().query_row(indexed, [], |row| row.get::<_, bool>(0)).unwrap());
    }
}

#[tokio::test]
async fn a_backup_of_format_1_is_restored_as_a_store_of_this_format() {
    let place = format_1().await;
    let before = std::fs::read(&place.path).unwrap();
    let target = place.directory.path().join("restored.tailfold");
    SqliteStore::restore(&place.path, &target).await.unwrap();
    assert_eq!(std::fs::read(&place.path).unwrap(), before, "the backup stays as it is");
    assert_eq!(version(&Connection::open(&target).unwrap()), 2);
    let store = SqliteStore::open(&target).await.unwrap();
    check_filters(&store).await;
    assert_eq!(entries_read(&store, Filter::category("b")).await, 79);
    // A backup of it carries the index.
    let copy = place.directory.path().join("copy.tailfold");
    store.backup_to(&copy).await.unwrap();
    let copied = SqliteConfig::new(&copy).read_only(true).open().await.unwrap();
    assert_eq!(entries_read(&copied, Filter::category("b")).await, 79);
}

/// What a writer of format 1 asks before its first append after somebody else's commit: it has to fail, since that writer
/// knows of no index that its events would be missing from.
#[tokio::test]
async fn a_writer_of_format_1_that_has_the_file_open_fails_after_the_migration() {
    let place = format_1().await;
    let old = place.sqlite();
    let next_position =
        "SELECT max((SELECT coalesce(max(position), 0) FROM events), (SELECT position_floor FROM meta)) + 1";
    let ask = || old.query_row(next_position, [], |row| row.get::<_, i64>(0));
    ask().unwrap();
    place.open().await.close().await.unwrap();
    assert!(ask().unwrap_err().to_string().contains("no such column: position_floor"));
}
