//! No position is given out twice, whichever process wrote, erased or died before.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tailfold::{
    Commit, Conflict, ErrorKind, EventId, EventStore as _, EventStoreExt as _, Expected, Filter, Follow,
    Position, Removal, Timestamp,
};
use tailfold_sqlite::SqliteStore;

use crate::support::*;

fn erase() -> Removal {
    Removal::erase(Timestamp::from_micros(17))
}

/// The newest stream is erased as the first thing that a handle does: by another one, by one that was opened just now, and by one
/// whose last transaction was rolled back.
#[tokio::test]
async fn an_erase_as_the_first_write_gives_no_position_out_again() {
    for case in ["another", "opened anew", "rolled back"] {
        let place = Place::new();
        let store = place.open().await;
        let other = place.open().await;
        append(&store, "a/1", Expected::NoStream, events(1)).await;
        let seen = append(&store, "a/victim", Expected::NoStream, events(3)).await.position;
        assert_eq!(seen, Position(4));
        let eraser = match case {
            "another" => other,
            "opened anew" => {
                other.close().await.unwrap();
                store.close().await.unwrap();
                place.open().await
            }
            _ => {
                drop(other);
                let foreign = place.sqlite();
                foreign
                    .execute_batch(
                        "CREATE TRIGGER refuse BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END",
                    )
                    .unwrap();
                assert!(
                    store.append(Commit::new(stream("a/2"), Expected::Any, events(1))).await.is_err(),
                    "the trigger refuses it"
                );
                foreign.execute_batch("DROP TRIGGER refuse").unwrap();
                store
            }
        };
        let tombstone = eraser.remove(&stream("a/victim"), erase()).await.unwrap().tombstone.unwrap();
        assert_eq!(tombstone, Position(5), "{case}: after all positions that were given out");
        let next = append(&eraser, "a/1", Expected::Any, events(2)).await.position;
        assert_eq!(next, Position(7), "{case}");
        let followed = eraser.read_all_to_vec(seen, Filter::category("a")).await.unwrap();
        assert_eq!(positions(&followed), [5, 6, 7], "{case}: what a follower that stood at 4 reads");
        let late = Commit::new(stream("a/late"), Expected::NoStream, events(1));
        let error = eraser.append(late.unchanged(Filter::category("a"), seen)).await.unwrap_err();
        assert_eq!(
            *error.kind(),
            ErrorKind::Conflict(Conflict::Changed { position: Position(5) }),
            "{case}: {error}"
        );
        eraser.check().await.unwrap();
    }
}

/// The marker of a truncation may be the newest event, and goes with the next truncation and with an erase.
#[tokio::test]
async fn a_marker_that_goes_gives_its_position_to_nobody() {
    let place = Place::new();
    let first = place.open().await;
    append(&first, "a/1", Expected::NoStream, vec![event("1"), origin("2"), origin("3")]).await;
    let cut = |version: u64| Removal::before_origin(version, Timestamp::from_micros(0));
    let marker = first.remove(&stream("a/1"), cut(2)).await.unwrap().marker.unwrap();
    let second = place.open().await;
    let newer = second.remove(&stream("a/1"), cut(3)).await.unwrap().marker.unwrap();
    assert!(newer > marker, "{newer} after {marker}");
    let third = place.open().await;
    let tombstone = third.remove(&stream("a/1"), erase()).await.unwrap().tombstone.unwrap();
    assert!(tombstone > newer, "{tombstone} after {newer}");
    assert!(append(&place.open().await, "a/2", Expected::Any, events(1)).await.position > tombstone);
    third.check().await.unwrap();
}

const CHILD: &str = "TAILFOLD_TEST_ERASER_CHILD";

/// Runs only as the child of the test below: erases what its predecessor left newest, then appends and erases until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_erases_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    loop {
        // A handle that has written nothing yet is what erases first.
        let store = SqliteStore::open(&path).await.unwrap();
        let log = store.read_all_to_vec(Position::ZERO, Filter::category("a")).await.unwrap();
        if let Some(newest) = log.last() {
            store.remove(&newest.stream, erase()).await.unwrap();
        }
        for _ in 0..fastrand::usize(1..20) {
            let name = format!("a/{}", fastrand::u32(0..8));
            if fastrand::u32(0..4) == 0 {
                store.remove(&stream(&name), erase()).await.unwrap();
            } else {
                append(&store, &name, Expected::Any, events(fastrand::usize(1..4))).await;
            }
        }
    }
}

fn start_child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "positions::child_that_erases_until_it_is_killed", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_misses_nothing_beside_kills_and_erasures() {
    let place = Place::new();
    let store = place.config().poll_interval(Duration::from_millis(2)).open().await.unwrap();
    let mut followed: BTreeMap<Position, EventId> = BTreeMap::new();
    let mut batches = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    let mut last = Position::ZERO;
    for _ in 0..12 {
        let mut child = start_child(&place.path);
        let end = tokio::time::Instant::now() + Duration::from_millis(fastrand::u64(150..500));
        while let Ok(batch) = tokio::time::timeout_at(end, batches.try_next()).await {
            for event in batch.unwrap().unwrap().events {
                assert!(event.position > last, "position {} came after {last}", event.position);
                last = event.position;
                followed.insert(event.position, event.data.id);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let end = append(&store, "a/end", Expected::Any, events(1)).await.position;
    while last < end {
        for event in batches.try_next().await.unwrap().unwrap().events {
            assert!(event.position > last, "position {} came after {last}", event.position);
            last = event.position;
            followed.insert(event.position, event.data.id);
        }
    }
    let log = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert!(
        log.len() > 2 && followed.len() > 100,
        "too little happened: {} of {}",
        log.len(),
        followed.len()
    );
    for event in log {
        assert_eq!(
            followed.get(&event.position),
            Some(&event.data.id),
            "the follower has seen the event at position {}",
            event.position
        );
    }
    store.check().await.unwrap();
}

/// As builds did that gave positions out again: an erase that took the next position from what was left.
#[tokio::test]
async fn a_log_whose_positions_were_given_out_twice_is_noticed() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(1)).await;
    append(&store, "a/victim", Expected::NoStream, events(3)).await;
    store.remove(&stream("a/victim"), erase()).await.unwrap();
    append(&store, "a/1", Expected::Any, events(1)).await;
    store.check().await.unwrap();
    place
        .sqlite()
        .execute_batch(
            "UPDATE events SET position = 2 WHERE position = 5; UPDATE streams SET erased = 2 WHERE erased = 5;
             UPDATE events SET position = 3 WHERE position = 6; UPDATE meta SET positions_used = 2",
        )
        .unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("6 events were recorded at 3 positions"), "{error}");
}

#[tokio::test]
async fn a_tombstone_above_the_floor_is_noticed() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(3)).await;
    store.remove(&stream("a/1"), erase()).await.unwrap();
    place.sqlite().execute_batch("UPDATE meta SET positions_used = 0").unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("position 4"), "{error}");
    store.close().await.unwrap();
    // Opening for writing puts it right, so that the tombstone may go, too.
    let store = place.open().await;
    place.sqlite().execute_batch("DELETE FROM events").unwrap();
    assert_eq!(append(&store, "a/2", Expected::NoStream, events(1)).await.position, Position(5));
}

/// A backup that is put in place under a running process has not reached the positions that it has acknowledged.
#[tokio::test]
async fn a_log_that_went_back_under_a_running_process_is_noticed() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(5)).await;
    let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    assert_eq!(live.try_next().await.unwrap().unwrap().events.len(), 5);
    place.sqlite().execute_batch("DELETE FROM events WHERE position > 2").unwrap();
    // Whoever reads live would wait until the log gets there again.
    let told = tokio::time::timeout(Duration::from_secs(10), live.try_next()).await.expect("it is told");
    assert_eq!(*told.unwrap_err().kind(), ErrorKind::Corrupt);
    let commit = Commit::new(stream("a/2"), Expected::NoStream, events(1));
    let error = store.append(commit.clone()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("the log went back"), "{error}");
    // Not only once.
    assert_eq!(*store.append(commit).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_file_that_became_another_store_under_a_running_process_is_noticed() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(1)).await;
    place.sqlite().execute_batch("UPDATE meta SET store_id = randomblob(16)").unwrap();
    let commit = Commit::new(stream("a/1"), Expected::Any, events(1));
    let error = store.append(commit.clone()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("open it again"), "{error}");
    place.open().await.append(commit).await.unwrap();
}
