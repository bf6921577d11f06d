use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tailfold::{
    Commit, Direction, ErrorKind, Event, EventMeta, EventStore as _, EventStoreExt as _, Expected, Filter,
    Fold, Position, Removal, Repository, Rule, SlotFilter, SnapshotConfig, SnapshotMode, SnapshotStore as _,
    SnapshotStoreExt as _, State, Timestamp, VersionRange,
};

use crate::support::*;

async fn damaged(sql: &str) -> (Place, tailfold_sqlite::SqliteStore) {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/0", Expected::NoStream, events(3)).await;
    append(&store, "a/1", Expected::NoStream, events(5)).await;
    place.sqlite().execute_batch(sql).unwrap();
    (place, store)
}

#[tokio::test]
async fn a_malformed_row_is_an_error_that_names_its_place() {
    for (column, value) in [
        ("id", "x'00'"),
        ("chain", "x'0011'"),
        ("type", "'not a type'"),
        ("schema_version", "-1"),
        ("tags", "'[1]'"),
        ("tags", "'not json'"),
    ] {
        let (_place, store) =
            damaged(&format!("UPDATE events SET {column} = {value} WHERE position = 6")).await;
        let error = store.read_to_vec(&stream("a/1"), VersionRange::ALL).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with(
                "read stream `a/1`: event at position 6 (stream `a/1`, version 3) is malformed: "
            ),
            "{text}"
        );
        let error = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap_err();
        assert!(error.to_string().contains("event at position 6"), "{error}");
        // What lies elsewhere is not held against it.
        assert_eq!(read(&store, "a/0").await.len(), 3);
    }
}

#[tokio::test]
async fn a_missing_event_is_an_error_in_every_read_that_should_have_met_it() {
    let ranges = |from: u64, to: Option<u64>| VersionRange::from(from.into()).up_to(to.map(Into::into));
    for missing in 1..=4u64 {
        let (_place, store) = damaged(&format!("DELETE FROM events WHERE position = 3 + {missing}")).await;
        for from in 1..=missing {
            for to in [None, Some(missing), Some(4), Some(5), Some(9)] {
                if to.is_some_and(|to| to < missing) {
                    continue;
                }
                for direction in [Direction::Forward, Direction::Backward] {
                    let result: Result<Vec<_>, _> =
                        store.read(&stream("a/1"), ranges(from, to), direction).try_concat().await;
                    let error =
                        result.expect_err(&format!("{missing} missing in {from}..={to:?} {direction:?}"));
                    assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
                }
            }
        }
        // Reads that have nothing to do with it go on.
        let above = store.read_to_vec(&stream("a/1"), ranges(missing + 1, None)).await.unwrap();
        assert_eq!(above.len() as u64, 5 - missing);
        let below = store.read_to_vec(&stream("a/1"), ranges(1, Some(missing - 1))).await.unwrap();
        assert_eq!(below.len() as u64, missing - 1);
    }
}

#[tokio::test]
async fn a_snapshot_without_its_envelope_can_be_rejected_and_removed() {
    let place = Place::new();
    let store = place.open().await;
    store.save(&slot("f", "a/1"), save(head(3, 1), "state")).await.unwrap();
    place.sqlite().execute_batch("DELETE FROM snapshot_payloads").unwrap();
    let kept = store.newest(&slot("f", "a/1"), None).await.unwrap().unwrap();
    assert!(kept.bytes.is_empty());
    assert!(store.compare_and_remove(&slot("f", "a/1"), &kept).await.unwrap());
    assert_eq!(store.newest(&slot("f", "a/1"), None).await.unwrap(), None);
}

/// A store whose stream `a/1` has pages that were written over.
async fn overwritten() -> Place {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, (0..500).map(|_| event(&"x".repeat(500))).collect()).await;
    store.close().await.unwrap();
    let mut bytes = std::fs::read(&place.path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 8192].fill(0xA5);
    std::fs::write(&place.path, bytes).unwrap();
    place
}

#[tokio::test]
async fn overwritten_pages_are_reported_as_damage() {
    let place = overwritten().await;
    let store = place.open().await;
    let error = store.read_to_vec(&stream("a/1"), VersionRange::ALL).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(*store.check().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_pages_fail_those_alone_who_need_them() {
    let place = overwritten().await;
    let store = place.open().await;
    let foreign = place.sqlite();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    let add = |name: String| {
        let store = store.clone();
        tokio::spawn(async move { store.append(Commit::new(stream(&name), Expected::Any, events(1))).await })
    };
    let first = add("b/first".to_owned());
    // The writer waits with the first, and takes the others together afterwards.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let others: Vec<_> = (0..10).map(|number| add(format!("b/{number}"))).collect();
    let erasing = tokio::spawn({
        let store = store.clone();
        async move { store.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(0))).await }
    });
    let more: Vec<_> = (10..20).map(|number| add(format!("b/{number}"))).collect();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    foreign.execute_batch("ROLLBACK").unwrap();
    for task in std::iter::once(first).chain(others).chain(more) {
        task.await.unwrap().unwrap();
    }
    assert_eq!(*erasing.await.unwrap().unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.read_all_to_vec(Position::ZERO, Filter::category("b")).await.unwrap().len(), 21);
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    Added { number: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "counter")]
struct Counter {
    numbers: Vec<u64>,
}

impl Fold for Counter {
    type Event = CounterEvent;
    fn apply(&mut self, CounterEvent::Added { number }: CounterEvent, _: &EventMeta<'_>) {
        self.numbers.push(number);
    }
}

fn counters(store: &tailfold_sqlite::SqliteStore, mode: SnapshotMode) -> Repository<Counter> {
    let config = SnapshotConfig { policy: Rule::Every(1), mode, ..Default::default() };
    Repository::builder(store.clone()).snapshots(config).build().unwrap()
}

async fn add(counters: &Repository<Counter>, id: &str, number: u64) {
    let added = counters.execute(id, |_| Ok::<_, ()>(CounterEvent::Added { number }));
    added.await.unwrap().unwrap();
}

/// Overwrites the pages of tables and indexes of snapshots, as a broken disk does.
fn damage_snapshots(place: &Place) {
    let pages: Vec<u32> = {
        let connection = place.sqlite();
        let mut statement = connection
            .prepare("SELECT rootpage FROM sqlite_schema WHERE tbl_name LIKE 'snapshot%' AND rootpage > 0")
            .unwrap();
        let roots = statement.query_map([], |row| row.get(0)).unwrap();
        roots.map(Result::unwrap).collect()
    };
    assert_eq!(pages.len(), 4, "two tables and two indexes");
    let mut bytes = std::fs::read(&place.path).unwrap();
    for page in pages {
        let end = page as usize * 4096;
        bytes[end - 4096..end].fill(0xA5);
    }
    std::fs::write(&place.path, bytes).unwrap();
}

#[tokio::test]
async fn damaged_snapshots_fail_no_command_and_can_be_thrown_away() {
    let place = Place::new();
    let store = place.open().await;
    for number in 0..50 {
        add(&counters(&store, SnapshotMode::Inline), &(number % 7).to_string(), number).await;
    }
    store.close().await.unwrap();
    damage_snapshots(&place);
    let store = place.open().await;
    assert_eq!(*store.check().await.unwrap_err().kind(), ErrorKind::Corrupt);
    let repositories = [SnapshotMode::Inline, SnapshotMode::Background].map(|mode| counters(&store, mode));
    for counters in &repositories {
        for number in 50..60 {
            add(counters, &(number % 7).to_string(), number).await;
        }
        counters.flush().await;
        let loaded = counters.load("3").await.unwrap();
        assert_eq!(loaded.state().numbers.iter().filter(|number| **number < 50).count(), 7);
    }
    // An erase would leave a snapshot behind: it fails, and says what helps.
    let error =
        store.remove(&stream("counter/6"), Removal::erase(Timestamp::from_micros(0))).await.unwrap_err();
    assert!(error.to_string().contains("`tailfold reset-snapshots`"), "{error}");
    store.reset_snapshots().await.unwrap();
    store.check().await.unwrap();
    for counters in &repositories {
        let written = counters.stats().await.unwrap().written;
        assert!(written["failed"] > 0 && !written.contains_key("stored"), "{written:?}");
    }
    let counters = counters(&store, SnapshotMode::Inline);
    add(&counters, "3", 99).await;
    assert_eq!(store.count(SlotFilter::all()).await.unwrap().snapshots, 1);
    assert_eq!(counters.load("3").await.unwrap().state().numbers.last(), Some(&99));
    assert_eq!(store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap().len(), 50 + 20 + 1);
    store.close().await.unwrap();
    // Nor do other connections notice anything.
    place.open().await.check().await.unwrap();
}

#[tokio::test]
async fn what_subscriptions_keep_among_snapshots_survives_a_reset() {
    let place = Place::new();
    let store = place.open().await;
    let kept = slot("tailfold-subscription", "stock");
    store.save(&kept, save(head(7, 1), "a checkpoint")).await.unwrap();
    store.save(&slot("f", "a/1"), save(head(3, 1), "state")).await.unwrap();
    store.reset_snapshots().await.unwrap();
    let stored = store.newest(&kept, None).await.unwrap().unwrap();
    assert_eq!((stored.head, &*stored.bytes), (head(7, 1), &b"a checkpoint"[..]));
    assert_eq!(store.count(SlotFilter::all()).await.unwrap().snapshots, 1);
}
