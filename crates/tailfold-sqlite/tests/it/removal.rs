use std::num::NonZero;
use std::time::Duration;

use tailfold::{
    Chain, ErrorKind, EventStore as _, EventStoreExt as _, Expected, Filter, Keep, Position, Removal,
    Removed, SlotFilter, SnapshotStore as _, SnapshotStoreExt as _, Timestamp, Tombstone, Version,
};

use tailfold_sqlite::{SqliteStore, Synchronous};

use crate::support::*;

fn erase() -> Removal {
    Removal::erase(Timestamp::from_micros(17))
}

#[tokio::test]
async fn an_erased_stream_is_empty_and_its_next_life_has_another_genesis() {
    let place = Place::new();
    let store = place.open().await;
    let id = stream("a/1");
    let mut genesis = Chain::genesis(&id);
    for life in 0..3 {
        let receipt =
            append(&store, "a/1", Expected::NoStream, vec![tagged("secret", &["t"]), event("2")]).await;
        let ended = receipt.writes[0].head;
        assert_eq!(receipt.writes[0].first, Version(1));
        assert_eq!(verify(&read(&store, "a/1").await, genesis), ended, "life {life}");
        store.save(&slot("f", "a/1"), save(ended, "state")).await.unwrap();
        store.save(&slot("f", "a/2"), save(ended, "other")).await.unwrap();
        let removed = store.remove(&id, erase()).await.unwrap();
        let tombstone = removed.tombstone.unwrap();
        assert_eq!(removed, Removed { events: 2, snapshots: 1, tombstone: Some(tombstone), marker: None });
        assert!(tombstone > receipt.position);
        assert!(read(&store, "a/1").await.is_empty());
        assert_eq!(store.head(&id).await.unwrap(), None);

        let log = store.read_all_to_vec(receipt.position, Filter::category("a")).await.unwrap();
        assert_eq!(positions(&log), [tombstone.0]);
        assert_eq!(Tombstone::from_event(&log[0]).unwrap().erased, ended);
        assert_eq!((log[0].version, log[0].data.recorded_at), (Version(3), Timestamp::from_micros(17)));
        assert_eq!(log[0].chain, ended.chain.link(tailfold::Digest::of(&log[0].data)));
        genesis = Chain::genesis_after(&id, log[0].chain);
    }
    assert_eq!(store.remove(&id, erase()).await.unwrap(), Removed::default());
    assert_eq!(store.remove(&stream("a/never"), erase()).await.unwrap(), Removed::default());
    assert_eq!(store.count(SlotFilter::all()).await.unwrap().snapshots, 1);
    let tags: i64 = place
        .sqlite()
        .query_row(
            "SELECT (SELECT count(*) FROM event_tags) + (SELECT count(*) FROM tags_behind)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(tags, 0);
}

/// How often a secret is found in the file, and in the log beside it.
fn copies(place: &Place, secret: &str) -> (usize, usize) {
    let count = |path: std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(secret.len()).filter(|window| *window == secret.as_bytes()).count()
    };
    let mut log = place.path.clone().into_os_string();
    log.push("-wal");
    (count(place.path.clone()), count(log.into()))
}

/// Pages that are split, snapshots that are replaced again and again: what SQLite moves about leaves traces behind.
async fn lead_a_busy_life(store: &SqliteStore) {
    let mut random = 7_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..600_u64 {
        let name = if round % 6 == 0 { "a/victim".to_owned() } else { format!("a/{}", draw(80)) };
        let is_victim = name == "a/victim";
        let text = if is_victim { "TOP-SECRET-FACT " } else { "harmless " };
        let payload = text.repeat(1 + [0, 3, 40, 400][draw(4) as usize]);
        let tag = if is_victim { "secret-tag".to_owned() } else { format!("tag-{}", draw(40)) };
        let receipt = append(store, &name, Expected::Any, vec![tagged(&payload, &[&tag])]).await;
        let state = if is_victim { "SECRET-STATE " } else { "harmless " };
        let state = state.repeat(1 + [2, 50, 300, 2000][draw(4) as usize]);
        store.save(&slot("f", &name), save(receipt.writes[0].head, state)).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_erased_is_in_neither_file_nor_log_when_erase_returns() {
    let place = Place::new();
    let store = place.open().await;
    lead_a_busy_life(&store).await;
    let secrets = ["TOP-SECRET-FACT", "SECRET-STATE", "secret-tag"];
    assert!(secrets.iter().all(|secret| copies(&place, secret) != (0, 0)));
    store.remove(&stream("a/victim"), erase()).await.unwrap();
    for secret in secrets {
        assert_eq!(copies(&place, secret), (0, 0), "{secret}");
    }
    store.check().await.unwrap();
}

/// Where others are erased as well, SQLite merges pages, and leaves copies of what it moves in between.
#[tokio::test]
async fn tags_that_were_moved_before_are_gone_when_erase_returns() {
    let mut random = fastrand::Rng::with_seed(8);
    let place = Place::new();
    let store = place.config().synchronous(Synchronous::Normal).open().await.unwrap();
    for _ in 0..700 {
        let is_victim = random.u8(..) < 40;
        let name = if is_victim { "a/victim".to_owned() } else { format!("a/{}", random.u8(..60)) };
        let mut added = Vec::new();
        for _ in 0..1 + random.usize(..2) {
            let text = if is_victim { "TOP-SECRET " } else { "harmless " };
            let payload = text.repeat(1 + random.usize(..300));
            let tag = match is_victim {
                true => format!("secret-tag-{}", random.u8(..)),
                false => format!("s{}-tag-{}", char::from(random.u8(b'a'..=b'z')), random.u16(..400)),
            };
            added.push(tagged(&payload, &[&tag]));
        }
        let receipt = append(&store, &name, Expected::Any, added).await;
        let state = if is_victim { "SECRET-STATE " } else { "harmless " };
        let state = state.repeat(1 + random.usize(..300));
        if random.bool() {
            let mut save = save(receipt.writes[0].head, state);
            if random.bool() {
                save.keep = Keep::Last(NonZero::new(2).unwrap());
            }
            store.save(&slot(["f", "g"][random.usize(..2)], &name), save).await.unwrap();
        }
        if random.u8(..) < 8 {
            store.remove(&stream(&format!("a/{}", random.u8(..60))), erase()).await.unwrap();
        }
    }
    assert_ne!(copies(&place, "secret-tag"), (0, 0));
    store.remove(&stream("a/victim"), erase()).await.unwrap();
    assert_eq!(copies(&place, "secret-tag"), (0, 0));
    store.check().await.unwrap();
}

/// Writes a text where SQLite leaves copies of what it moves: between the list of a page's rows and the rows themselves. Says in
/// how many pages of tables (<https://www.sqlite.org/fileformat2.html#b_tree_pages>).
fn leave_copies(place: &Place, text: &[u8]) -> usize {
    const LEAF_OF_A_TABLE: u8 = 13;
    const HEADER: usize = 8;
    let mut file = std::fs::read(&place.path).unwrap();
    let number = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let page_bytes = number(&file[16..]);
    let mut left = 0;
    // The first page begins with the header of the file.
    for page in file.chunks_mut(page_bytes).skip(1) {
        let (begin, end) = (HEADER + 2 * number(&page[3..]), number(&page[5..]));
        if page[0] == LEAF_OF_A_TABLE && begin + text.len() <= end && end <= page_bytes {
            page[begin..begin + text.len()].copy_from_slice(text);
            left += 1;
        }
    }
    std::fs::write(&place.path, file).unwrap();
    left
}

#[tokio::test]
async fn copies_in_unused_parts_of_pages_are_gone_after_a_reindex() {
    let place = Place::new();
    let store = place.open().await;
    for number in 0..50 {
        append(&store, &format!("a/{number}"), Expected::NoStream, vec![event("kept"); 7]).await;
    }
    store.close().await.unwrap();
    let left = leave_copies(&place, b"left-over-secret");
    assert!(left > 2 && copies(&place, "left-over-secret") == (left, 0), "{left}");
    let store = place.open().await;
    let before = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    store.reindex().await.unwrap();
    assert_eq!(copies(&place, "left-over-secret"), (0, 0));
    store.check().await.unwrap();
    assert_eq!(store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap(), before);
}

#[tokio::test]
async fn what_was_cut_off_or_forgotten_is_in_neither_file_nor_log() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, vec![event("TOP-SECRET-FACT"), origin("harmless")]).await;
    store.remove(&stream("a/1"), Removal::before_origin(2, Timestamp::from_micros(0))).await.unwrap();
    assert_eq!(copies(&place, "TOP-SECRET-FACT"), (0, 0));
    // As a tier beside the events of another store.
    store.save(&slot("f", "b/1"), save(head(1, 1), "SECRET-STATE")).await.unwrap();
    store.forget("b/1").await.unwrap();
    assert_eq!(copies(&place, "SECRET-STATE"), (0, 0));
}

#[tokio::test]
async fn a_reader_in_the_way_delays_what_is_erased_and_does_not_keep_it() {
    let place = Place::new();
    let store = place.config().busy_timeout(Duration::from_millis(200)).open().await.unwrap();
    append(&store, "a/1", Expected::NoStream, vec![event("TOP-SECRET-FACT")]).await;
    let reader = place.sqlite();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    // Neither the erase nor whoever appends waits for it for long.
    let removed = store.remove(&stream("a/1"), erase()).await.unwrap();
    assert_eq!(removed.events, 1);
    append(&store, "a/2", Expected::NoStream, events(1)).await;
    reader.execute_batch("COMMIT").unwrap();
    let gone = async {
        while copies(&place, "TOP-SECRET-FACT") != (0, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it goes once the reader has ended");
}

#[tokio::test]
async fn whoever_stops_waiting_for_an_erase_leaves_nothing_in_the_log() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, vec![event("TOP-SECRET-FACT")]).await;
    let reader = place.sqlite();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let erased =
        tokio::time::timeout(Duration::from_millis(100), store.remove(&stream("a/1"), erase())).await;
    assert!(erased.is_err(), "it waits for the reader");
    // Whatever was under way then has ended.
    tokio::time::sleep(Duration::from_millis(300)).await;
    reader.execute_batch("COMMIT").unwrap();
    let gone = async {
        while copies(&place, "TOP-SECRET-FACT") != (0, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it goes once the reader has ended");
}

#[tokio::test]
async fn positions_are_never_given_out_again() {
    let place = Place::new();
    let mut last = Position::ZERO;
    for round in 0..4 {
        let store = place.open().await;
        let other = place.open().await;
        for handle in [&store, &other, &store] {
            let position = append(handle, "a/newest", Expected::Any, events(3)).await.position;
            assert!(position.0 >= last.0 + 3, "round {round}: {position} after {last}");
            last = handle.remove(&stream("a/newest"), erase()).await.unwrap().tombstone.unwrap();
            assert!(last > position);
        }
        // Not even if the tombstone itself is cleared away by hand.
        if round == 2 {
            place.sqlite().execute_batch("DELETE FROM events").unwrap();
        }
        store.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_is_cut_before_an_origin_only_and_keeps_its_versions() {
    let place = Place::new();
    let store = place.open().await;
    let id = stream("a/1");
    append(&store, "a/1", Expected::NoStream, vec![tagged("1", &["t"]), event("2"), origin("3"), event("4")])
        .await;
    let all = read(&store, "a/1").await;
    for (version, key) in [(2, "a/1"), (3, "a/1"), (2, "a/2")] {
        store
            .save(&slot(if version == 2 { "f" } else { "g" }, key), save(head(version, 1), "s"))
            .await
            .unwrap();
    }
    for version in [2, 4, 5, 0] {
        let error =
            store.remove(&id, Removal::before_origin(version, Timestamp::from_micros(0))).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().starts_with("truncate stream `a/1` before version"), "{error}");
    }
    assert_eq!(read(&store, "a/1").await, all);
    let removed = store.remove(&id, Removal::before_origin(3, Timestamp::from_micros(0))).await.unwrap();
    assert_eq!((removed.events, removed.snapshots, removed.tombstone), (2, 1, None));
    assert_eq!(read(&store, "a/1").await, all[2..]);
    let mut backward: Vec<_> = {
        use futures_util::TryStreamExt as _;
        let range = tailfold::VersionRange::ALL;
        store.read(&id, range, tailfold::Direction::Backward).try_concat().await.unwrap()
    };
    backward.reverse();
    assert_eq!(backward, all[2..]);
    let next = append(&store, "a/1", Expected::Head(all[3].head()), events(1)).await;
    assert_eq!(next.writes[0].first, Version(5));
    assert_eq!(store.count(SlotFilter::all()).await.unwrap().snapshots, 2);
    assert_eq!(
        store.remove(&id, Removal::before_origin(3, Timestamp::from_micros(0))).await.unwrap(),
        Removed::default()
    );
}

#[tokio::test]
async fn a_read_that_is_overtaken_by_an_erase_is_an_error_not_a_short_answer() {
    use futures_util::TryStreamExt as _;
    for direction in [tailfold::Direction::Forward, tailfold::Direction::Backward] {
        for length in [3500, 3000] {
            let place = Place::new();
            let store = place.open().await;
            append(&store, "a/1", Expected::NoStream, events(length)).await;
            let mut pages = store.read(&stream("a/1"), tailfold::VersionRange::ALL, direction);
            assert_eq!(pages.try_next().await.unwrap().unwrap().len(), 1000);
            store.remove(&stream("a/1"), erase()).await.unwrap();
            append(&store, "a/1", Expected::NoStream, events(length)).await;
            let rest: Result<Vec<_>, _> = pages.try_concat().await;
            assert!(matches!(rest.unwrap_err().kind(), ErrorKind::Unavailable(_)));
        }
    }
}
