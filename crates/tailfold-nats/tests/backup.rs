//! A store on its way to a file, and back to a store.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets something else than it expects is to panic there"
)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tailfold::{
    Commit, Day, ErrorKind, EventData, EventStore as _, EventStoreExt as _, EventType, Expected, Filter,
    Head, Keep, NewEvent, Position, RecordedEvent, Removal, Save, Slot, SlotFilter, SnapshotInfo,
    SnapshotStore as _, StreamId, Tag, Timestamp, verify_chains,
};
use tailfold_nats::{NatsConfig, NatsStore, Storage};
use tailfold_testkit::servers::{NatsVersion, nats_url};

use support::fresh_name;

const ON: [NatsVersion; 3] = [NatsVersion::V2_15_1, NatsVersion::V2_12_8, NatsVersion::V2_9_10];

/// The settings of a new store on a server that others use too.
fn settings(version: NatsVersion) -> NatsConfig {
    let url = tokio::task::block_in_place(|| nats_url(version));
    NatsConfig::new([url]).name(fresh_name())
}

fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

fn event(payload: impl Into<Bytes>, origin: bool) -> NewEvent {
    let mut data = EventData::new(EventType::new("thing.happened").unwrap(), payload);
    data.recorded_at = Timestamp::from_micros(1_700_000_000_123_456);
    data.tags = vec![Tag::new("thing:\u{e9} 7").unwrap()];
    data.origin = origin;
    NewEvent::new(data).unwrap()
}

async fn append(store: &NatsStore, name: &str, events: Vec<NewEvent>) -> Head {
    let committed = store.append(Commit::new(stream(name), Expected::Any, events)).await.unwrap();
    committed.writes[0].head
}

fn slot(name: &str) -> Slot {
    Slot::new("fold", "0000000000000007".parse().unwrap(), name).unwrap()
}

async fn save(store: &NatsStore, name: &str, head: Head, size: usize) {
    let bytes: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
    let save = Save { head, bytes: bytes.into(), keep: Keep::All, day: Day(20_000) };
    store.save(&slot(name), save).await.unwrap();
}

/// With messages that are gone from the beginning, the middle and the end, commits and snapshots in parts, and a second life.
async fn awkward(store: &NatsStore) {
    append(store, "gone/first", vec![event("1", false)]).await;
    for number in 0..40 {
        append(store, "thing/a.b *>", vec![event(format!("{number}"), number % 7 == 3)]).await;
        append(store, "thing/\u{e9}", vec![event(format!("{number}"), false), event("", true)]).await;
    }
    let large = || event(vec![0xa5; 1_300_000], false);
    append(store, "large/1", vec![event("small", false), large(), large()]).await;
    let head = append(store, "large/1", vec![event("a", false), event("b", true), large()]).await;
    save(store, "large/1", head, 1_500_000).await;
    let head = append(store, "thing/a.b *>", vec![event("before the snapshot", false)]).await;
    save(store, "thing/a.b *>", head, 100).await;
    let head = append(store, "thing/a.b *>", vec![event("of the newer snapshot", false)]).await;
    save(store, "thing/a.b *>", head, 200).await;
    store
        .remove(&stream("thing/\u{e9}"), Removal::before_origin(60, Timestamp::from_micros(0)))
        .await
        .unwrap();
    for name in ["gone/first", "gone/second"] {
        append(store, name, vec![event("2", false), event("3", false)]).await;
        store.remove(&stream(name), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    }
    append(store, "gone/second", vec![event("another life", false)]).await;
    if store.capabilities().several_streams {
        let commit = Commit::new(stream("many/1"), Expected::NoStream, vec![event("x", false)]);
        let commit = commit.and(stream("many/2"), Expected::NoStream, vec![event("y", false)]);
        store.append(commit).await.unwrap();
    }
}

async fn log(store: &NatsStore) -> Vec<RecordedEvent> {
    store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap()
}

async fn snapshots(store: &NatsStore) -> Vec<(SnapshotInfo, Option<Bytes>)> {
    let infos: Vec<Vec<SnapshotInfo>> = store.list(SlotFilter::all()).try_collect().await.unwrap();
    let mut snapshots = Vec::new();
    for info in infos.into_iter().flatten() {
        let stored = store.newest(&info.slot, Some(info.head.version)).await.unwrap();
        snapshots.push((info, stored.map(|stored| stored.bytes)));
    }
    snapshots
}

async fn assert_sound(store: &NatsStore) {
    let seen = verify_chains(store, Filter::all(), |_| {}).await.unwrap();
    assert!(seen.is_sound(), "{:?}", seen.damages);
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_has_all_of_the_original_at_its_positions_under_a_new_id() {
    for version in ON {
        let directory = tempfile::tempdir().unwrap();
        let backup = directory.path().join("store.backup");
        let original = settings(version).connect().await.unwrap();
        awkward(&original).await;
        original.backup_to(&backup).await.unwrap();
        assert_eq!(files(directory.path()), 1);
        let target = settings(version);
        let restored = target.clone().restore(&backup).await.unwrap();
        assert_ne!(restored.store_id().await.unwrap(), original.store_id().await.unwrap(), "{version}");
        // Also as somebody else opens it.
        let opened = target.clone().create_if_missing(false).connect().await.unwrap();
        assert_eq!(opened.store_id().await.unwrap(), restored.store_id().await.unwrap());
        for copy in [&restored, &opened] {
            assert_eq!(log(copy).await, log(&original).await, "{version}");
            assert_eq!(snapshots(copy).await, snapshots(&original).await, "{version}");
        }
        let kept = snapshots(&opened).await;
        assert_eq!(kept.iter().filter(|(_, bytes)| bytes.is_some()).count(), 3);
        assert_sound(&opened).await;

        // Writers go on, as on the original; and a backup of the copy is as good.
        let later = event("later", false);
        let head = append(&opened, "thing/a.b *>", vec![later.clone()]).await;
        assert_eq!(append(&original, "thing/a.b *>", vec![later]).await, head);
        let again = directory.path().join("again.backup");
        opened.backup_to(&again).await.unwrap();
        let third = settings(version).restore(&again).await.unwrap();
        assert_eq!(log(&third).await, log(&opened).await, "{version}");
        assert!(third.bytes().await.unwrap() > 4_000_000, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_moves_between_releases_and_kinds_of_storage() {
    let directory = tempfile::tempdir().unwrap();
    let original = settings(NatsVersion::V2_12_8).storage(Storage::Memory).connect().await.unwrap();
    awkward(&original).await;
    let backup = directory.path().join("store.backup");
    original.backup_to(&backup).await.unwrap();
    for target in [
        settings(NatsVersion::V2_9_10),
        settings(NatsVersion::V2_15_1).storage(Storage::File),
        settings(NatsVersion::V2_15_1).immutable(true),
    ] {
        let restored = target.clone().restore(&backup).await.unwrap();
        assert_eq!(log(&restored).await, log(&original).await, "{target}");
        assert_eq!(snapshots(&restored).await, snapshots(&original).await, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_store_in_use_is_one_state() {
    for version in ON {
        let directory = tempfile::tempdir().unwrap();
        let store = settings(version).connect().await.unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (store, ends) = (store.clone(), ends.clone());
                tokio::spawn(async move {
                    let name = format!("thing/{writer}");
                    for number in 0.. {
                        if ends.load(Ordering::Relaxed) {
                            return;
                        }
                        let origin = number % 50 == 0;
                        let head = append(&store, &name, vec![event(format!("{number}"), origin)]).await;
                        if number % 10 == 0 {
                            save(&store, &name, head, 300).await;
                        }
                        // Now and then, so that a backup finds the time.
                        if number % 1500 == 1499 {
                            store
                                .remove(&stream(&name), Removal::erase(Timestamp::from_micros(0)))
                                .await
                                .unwrap();
                        }
                    }
                })
            })
            .collect();
        let mut last = 0;
        for number in 0..5 {
            let backup = directory.path().join(format!("{number}.backup"));
            store.backup_to(&backup).await.unwrap();
            let restored = settings(version).restore(&backup).await.unwrap();
            assert_sound(&restored).await;
            let copied = log(&restored).await;
            // What was acknowledged before the backup began is in it.
            assert!(copied.last().unwrap().position.0 >= last, "{version}");
            let recorded = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
            // On a slow machine all writers may erase their streams while the log is read to where it ended before.
            last = recorded.last().map_or(last, |event| event.position.0);
            let erased: Vec<&str> = copied
                .iter()
                .filter(|event| event.data.event_type.is_tombstone())
                .map(|event| event.stream.as_str())
                .collect();
            for (info, _) in snapshots(&restored).await {
                // Where an erase is under way, snapshots of the life that has ended may still be there: no load accepts them.
                if erased.contains(&info.slot.key()) {
                    continue;
                }
                let name = stream(info.slot.key());
                let head = restored.head(&name).await.unwrap().unwrap();
                assert!(info.head.version <= head.version, "{version}: {info:?} beyond {head:?}");
            }
        }
        ends.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("store.backup");
    let store = settings(NatsVersion::V2_15_1).connect().await.unwrap();
    for number in 0..10 {
        append(&store, "thing/1", vec![event(format!("{number}"), false)]).await;
    }
    store.backup_to(&backup).await.unwrap();
    let bytes = fs::read(&backup).unwrap();
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    for (what, wrong, kind) in [
        ("cut off", bytes[..bytes.len() / 2].to_vec(), ErrorKind::Corrupt),
        ("without its last byte", bytes[..bytes.len() - 1].to_vec(), ErrorKind::Corrupt),
        ("flipped in the middle", flipped(bytes.len() / 2), ErrorKind::Corrupt),
        ("flipped at the end", flipped(bytes.len() - 1), ErrorKind::Corrupt),
        ("another kind of file", b"SQLite format 3\0".repeat(100), ErrorKind::Invalid),
        ("empty", Vec::new(), ErrorKind::Invalid),
    ] {
        fs::write(&backup, wrong).unwrap();
        let target = settings(NatsVersion::V2_15_1);
        let error = target.clone().restore(&backup).await.unwrap_err();
        assert_eq!(*error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains("restore backup `"), "{what}: {error}");
        let error = target.create_if_missing(false).connect().await.unwrap_err();
        assert!(error.to_string().contains("there is no such store"), "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_the_server_refuses_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("store.backup");
    let store = settings(NatsVersion::V2_15_1).connect().await.unwrap();
    append(&store, "thing/1", vec![event("small", false)]).await;
    append(&store, "thing/1", vec![event(vec![7; 900_000], false)]).await;
    store.backup_to(&backup).await.unwrap();
    let server = tokio::task::block_in_place(|| {
        let builder = tailfold_testkit::servers::NatsServer::builder(NatsVersion::V2_15_1);
        builder.max_payload(64 * 1024).start().unwrap()
    });
    let target = NatsConfig::new([server.url()]);
    let error = target.clone().restore(&backup).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_) | ErrorKind::Invalid), "{error}");
    let error = target.clone().create_if_missing(false).connect().await.unwrap_err();
    assert!(error.to_string().contains("there is no such store"), "{error}");
    // More replicas than there are servers.
    let error = settings(NatsVersion::V2_15_1).replicas(3).restore(&backup).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Invalid), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_store_nor_a_file_is_ever_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("store.backup");
    let target = settings(NatsVersion::V2_15_1);
    let store = target.clone().connect().await.unwrap();
    let head = append(&store, "thing/1", vec![event("1", false)]).await;
    store.backup_to(&backup).await.unwrap();
    let before = fs::read(&backup).unwrap();
    let error = store.backup_to(&backup).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().ends_with("exists already"), "{error}");
    assert_eq!((fs::read(&backup).unwrap(), files(directory.path())), (before, 1));
    let error = target.clone().restore(&backup).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("already"), "{error}");
    assert_eq!(store.head(&stream("thing/1")).await.unwrap(), Some(head));
    let error = store.backup_to(directory.path().join("no/such/directory")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_missing_is_only_made_where_that_is_asked_for() {
    for version in ON {
        let target = settings(version);
        for _ in 0..2 {
            let error = target.clone().create_if_missing(false).connect().await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("there is no such store"), "{error}");
        }
        let made = target.clone().connect().await.unwrap();
        let found = target.create_if_missing(false).connect().await.unwrap();
        assert_eq!(made.store_id().await.unwrap(), found.store_id().await.unwrap());
    }
}
