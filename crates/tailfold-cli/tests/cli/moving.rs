use std::fs;
use std::process::Stdio;

use tailfold::{
    Commit, EventData, EventStore as _, EventStoreExt as _, EventType, Expected, Filter, Metadata, NewEvent,
    Position, RecordedEvent, Removal, StreamId, Tag, Timestamp, Version,
};
use tailfold_sqlite::SqliteStore;

use crate::support::Desk;

fn event(number: usize) -> NewEvent {
    let payload = match number % 3 {
        0 => b"{\"n\": 1.0,\n \"b\":2}".to_vec(),
        1 => vec![0xff, 0x00, number as u8],
        _ => format!("\u{1F6EB} {number}").into_bytes(),
    };
    let mut data = EventData::new(EventType::new("thing.happened").unwrap(), payload);
    data.recorded_at = Timestamp::from_micros(1_356_998_400_123_456 + number as i64);
    data.origin = number % 3 == 2;
    data.tags = vec![Tag::new("thing:1").unwrap(), Tag::new("number \"7\"").unwrap()];
    let metadata = Metadata { correlation_id: Some("c".to_owned()), ..Metadata::default() };
    data.metadata = metadata.to_bytes().unwrap();
    NewEvent::new(data).unwrap()
}

async fn append(store: &SqliteStore, stream: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let commit = Commit::new(stream.parse().unwrap(), Expected::Any, vec![event(number)]);
        store.append(commit).await.unwrap();
    }
}

/// A store with awkward bytes, a second life and a truncated stream.
async fn awkward(desk: &Desk) {
    let store = SqliteStore::open(desk.path("tailfold.db")).await.unwrap();
    let stream = |name: &str| -> StreamId { name.parse().unwrap() };
    append(&store, "thing/1", 0..6).await;
    append(&store, "thing/2", 0..6).await;
    append(&store, "thing/3", 0..2).await;
    append(&store, "thing/1", 6..8).await;
    store.remove(&stream("thing/2"), Removal::BeforeOrigin(Version(3))).await.unwrap();
    store.remove(&stream("thing/3"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    append(&store, "thing/3", 2..5).await;
    store.close().await.unwrap();
}

async fn log(desk: &Desk, store: &str) -> Vec<RecordedEvent> {
    let store = SqliteStore::open(desk.path(store)).await.unwrap();
    let events = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    store.close().await.unwrap();
    events.into_iter().filter(|event| !event.data.event_type.is_tombstone()).collect()
}

#[tokio::test]
async fn what_was_exported_is_imported_byte_for_byte_in_the_order_of_the_log() {
    let desk = Desk::new();
    awkward(&desk).await;
    let counted = desk.run(&["export", "all.jsonl", "--json"]).succeeded().object();
    assert_eq!(counted["events"], 15);
    assert_eq!(
        (counted["tombstones_left_out"].as_u64(), counted["truncated_streams"].as_u64()),
        (Some(1), Some(1))
    );
    let text = fs::read_to_string(desk.path("all.jsonl")).unwrap();
    assert!(
        text.contains(r#""payload_encoding":"base64""#) && text.contains(r#""payload":"{\"n\": 1.0,\n"#),
        "{text}"
    );

    let counted = desk.run(&["--store", "copy.db", "import", "all.jsonl", "--json"]).succeeded().object();
    assert_eq!((counted["events"].as_u64(), counted["found"].as_u64()), (Some(15), Some(0)));
    assert_eq!(
        (counted["renumbered_streams"].as_u64(), counted["rechained_streams"].as_u64()),
        (Some(1), Some(1))
    );
    let (original, copy) = (log(&desk, "tailfold.db").await, log(&desk, "copy.db").await);
    assert_eq!(original.len(), copy.len());
    for (left, right) in original.iter().zip(&copy) {
        assert_eq!((&left.stream, &left.data), (&right.stream, &right.data));
        let shift = if left.stream.id() == "2" { 2 } else { 0 };
        assert_eq!(left.version.0 - shift, right.version.0);
        assert_eq!(left.chain == right.chain, left.stream.id() == "1", "{}", left.stream);
    }
    desk.run(&["--store", "copy.db", "verify"]).succeeded();
    // An export never replaces a file.
    desk.run(&["export", "all.jsonl"]).failed(1);
}

#[tokio::test]
async fn an_import_that_is_run_again_goes_on_where_it_stopped() {
    let desk = Desk::new();
    awkward(&desk).await;
    desk.run(&["export", "all.jsonl"]).succeeded();
    let text = fs::read_to_string(desk.path("all.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    desk.write(
        "wrong.jsonl",
        &format!("{}\n{{\"stream\":7}}\n{}", lines[..9].join("\n"), lines[9..].join("\n")),
    );
    let import = |file| desk.run(&["--store", "copy.db", "import", file, "--json"]);
    let message = import("wrong.jsonl").failed(1);
    assert!(message.contains("import from `wrong.jsonl`: line 10: not a line of an export"), "{message}");
    assert_eq!(log(&desk, "copy.db").await.len(), 9);

    let counted = import("all.jsonl").succeeded().object();
    assert_eq!((counted["events"].as_u64(), counted["found"].as_u64()), (Some(6), Some(9)));
    let counted = import("all.jsonl").succeeded().object();
    assert_eq!((counted["events"].as_u64(), counted["found"].as_u64()), (Some(0), Some(15)));
    // A beginning of what is there is no contradiction either.
    desk.write("less.jsonl", &lines[..5].join("\n"));
    assert_eq!(import("less.jsonl").succeeded().object()["found"], 5);
}

#[tokio::test]
async fn a_line_that_was_altered_is_refused_with_its_number() {
    let desk = Desk::new();
    awkward(&desk).await;
    desk.run(&["export", "all.jsonl"]).succeeded();
    let text = fs::read_to_string(desk.path("all.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let import = |name: &str, lines: &[&str]| {
        desk.write("altered.jsonl", &lines.join("\n"));
        desk.run(&["--store", name, "import", "altered.jsonl"]).failed(1)
    };
    let altered = lines[3].replacen(r#"{\"n\": 1.0"#, r#"{\"n\": 1.1"#, 1);
    assert_ne!(altered, lines[3]);
    let message = import("a.db", &[&lines[..3], &[&altered]].concat());
    assert!(message.contains("line 4: stream `thing/1` version 4: its chain does not follow"), "{message}");
    assert_eq!(log(&desk, "a.db").await.len(), 3);
    let message = import("b.db", &[&lines[..2], &lines[3..]].concat());
    assert!(message.contains("line 3: stream `thing/1`: version 4 after version 2"), "{message}");
    let message = import("c.db", &lines[1..]);
    assert!(
        message.contains("line 1: stream `thing/1` begins at version 2, and that event is no origin"),
        "{message}"
    );
}

#[tokio::test]
async fn a_stream_that_holds_another_history_is_never_mixed() {
    let desk = Desk::new();
    awkward(&desk).await;
    desk.run(&["export", "all.jsonl"]).succeeded();
    for (name, events) in [("shorter.db", 2), ("longer.db", 20)] {
        let store = SqliteStore::open(desk.path(name)).await.unwrap();
        append(&store, "thing/1", 100..100 + events).await;
        store.close().await.unwrap();
        let message = desk.run(&["--store", name, "import", "all.jsonl"]).failed(1);
        assert!(message.contains("stream `thing/1`") && message.contains("another history"), "{message}");
        let of_stream = log(&desk, name).await.into_iter().filter(|event| event.stream.id() == "1");
        assert_eq!(of_stream.count(), events);
    }
}

#[test]
fn a_pipe_carries_a_store_to_another() {
    let desk = Desk::with_flights(300);
    let mut export = desk.command(&["export"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let import = desk
        .command(&["--store", "copy.db", "import", "--json"])
        .stdin(export.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(export.wait().unwrap().success() && import.status.success());
    let heads = |store: &str| desk.run(&["--store", store, "streams", "--json"]).succeeded().stdout;
    assert_eq!(heads("tailfold.db"), heads("copy.db"));
}

#[test]
fn a_backup_is_restored_under_a_new_store_id_and_never_over_a_file() {
    let desk = Desk::with_flights(200);
    let store_id = |store: &str| {
        let stats = desk.run(&["--store", store, "stats", "--json"]).succeeded().object();
        stats["store_id"].as_str().unwrap().to_owned()
    };
    let backup = desk.run(&["backup", "backup.db", "--json"]).succeeded().object();
    assert_eq!(backup["store_id"], store_id("tailfold.db"));
    assert!(desk.run(&["backup", "backup.db"]).failed(1).contains("`backup.db` exists already"));
    let restored = desk.run(&["--store", "new.db", "restore", "backup.db", "--json"]).succeeded().object();
    assert_eq!(restored["store_id"], store_id("new.db"));
    assert_ne!(store_id("new.db"), store_id("tailfold.db"));
    assert!(desk.run(&["restore", "backup.db"]).failed(1).contains("exists already"));
    desk.run(&["--store", "new.db", "verify"]).succeeded();
    let heads = |store: &str| desk.run(&["--store", store, "streams", "--json"]).succeeded().stdout;
    assert_eq!(heads("new.db"), heads("tailfold.db"));
    desk.write("notes.txt", &"no store ".repeat(1000));
    desk.run(&["--store", "other.db", "restore", "notes.txt"]).failed(1);
    assert!(!desk.path("other.db").exists());
}

#[test]
fn a_sweep_removes_what_was_not_used_and_nothing_else() {
    let desk = Desk::with_flights(400);
    let sweep = |args: &[&str]| {
        let mut all = vec!["sweep", "--unused-for", "90", "--json"];
        all.extend(args);
        desk.run(&all).succeeded().object()["snapshots"].as_u64().unwrap()
    };
    assert_eq!(sweep(&[]), 0);
    assert_eq!(
        desk.sql("tailfold.db", "UPDATE snapshots SET used = used - 91 WHERE key <> 'airport/JFK'"),
        2
    );
    assert_eq!(sweep(&["--fold", "aircraft"]), 0);
    assert_eq!(sweep(&[]), 2);
    assert_eq!(desk.run(&["snapshots", "--json"]).succeeded().objects().len(), 1);
    desk.run(&["verify"]).succeeded();
}

#[tokio::test]
async fn a_lost_index_of_tags_is_built_anew() {
    let desk = Desk::new();
    awkward(&desk).await;
    let tags = || desk.number("tailfold.db", "SELECT count(*) FROM event_tags");
    let borne = desk.number(
        "tailfold.db",
        "SELECT count(*) FROM (SELECT DISTINCT e.position, t.value FROM events e, json_each(e.tags) t)",
    );
    assert!(borne > 0);
    desk.sql("tailfold.db", "DELETE FROM event_tags");
    desk.sql("tailfold.db", "DELETE FROM tags_behind");
    assert_eq!(desk.run(&["reindex", "--json"]).succeeded().object()["reindexed"], true);
    assert_eq!(tags(), borne);
}
