use std::fs;
use std::process::Stdio;

use tailfold::{
    Commit, EventData, EventStoreExt as _, EventType, Expected, Filter, Metadata, NewEvent, Position,
    RecordedEvent, Removal, Store, StreamId, Tag, Timestamp,
};

use crate::support::{Desk, on_every_kind_of_store, on_every_kind_of_store_with_backups};

on_every_kind_of_store!(
    what_was_exported_is_imported_byte_for_byte_in_the_order_of_the_log,
    an_import_that_is_run_again_goes_on_where_it_stopped,
    a_line_that_was_altered_is_refused_with_its_number,
    a_stream_that_holds_another_history_is_never_mixed,
    a_pipe_carries_a_store_to_another,
);

on_every_kind_of_store_with_backups!(
    a_backup_is_restored_under_a_new_store_id_and_never_over_a_store,
    what_is_no_backup_becomes_no_store,
);

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

pub(crate) async fn append(store: &dyn Store, stream: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let commit = Commit::new(stream.parse().unwrap(), Expected::Any, vec![event(number)]);
        store.append(commit).await.unwrap();
    }
}

/// Does something with a store that no command has open meanwhile.
pub(crate) fn with_store<T>(desk: &Desk, name: &str, work: impl AsyncFnOnce(&dyn Store) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = desk.open(name).await;
        work(&*store).await
    })
}

/// A store with awkward bytes, a second life and a truncated stream.
fn awkward(desk: &Desk) {
    with_store(desk, "tailfold", async |store| {
        let stream = |name: &str| -> StreamId { name.parse().unwrap() };
        append(store, "thing/1", 0..6).await;
        append(store, "thing/2", 0..6).await;
        append(store, "thing/3", 0..2).await;
        append(store, "thing/1", 6..8).await;
        store.remove(&stream("thing/2"), Removal::before_origin(3, Timestamp::from_micros(0))).await.unwrap();
        store.remove(&stream("thing/3"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
        append(store, "thing/3", 2..5).await;
    });
}

pub(crate) fn log(desk: &Desk, name: &str) -> Vec<RecordedEvent> {
    let events = with_store(desk, name, async |store| {
        store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap()
    });
    events.into_iter().filter(|event| !event.data.event_type.tells_of_removal()).collect()
}

fn what_was_exported_is_imported_byte_for_byte_in_the_order_of_the_log(desk: &Desk) {
    awkward(desk);
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

    let counted =
        desk.run(&["--store", &desk.store("copy"), "import", "all.jsonl", "--json"]).succeeded().object();
    assert_eq!((counted["events"].as_u64(), counted["found"].as_u64()), (Some(15), Some(0)));
    assert_eq!(
        (counted["renumbered_streams"].as_u64(), counted["rechained_streams"].as_u64()),
        (Some(1), Some(1))
    );
    let (original, copy) = (log(desk, "tailfold"), log(desk, "copy"));
    assert_eq!(original.len(), copy.len());
    for (left, right) in original.iter().zip(&copy) {
        assert_eq!((&left.stream, &left.data), (&right.stream, &right.data));
        let shift = if left.stream.id() == "2" { 2 } else { 0 };
        assert_eq!(left.version.0 - shift, right.version.0);
        assert_eq!(left.chain == right.chain, left.stream.id() == "1", "{}", left.stream);
    }
    desk.run(&["--store", &desk.store("copy"), "verify"]).succeeded();
    // An export never replaces a file.
    desk.run(&["export", "all.jsonl"]).failed(1);
}

fn an_import_that_is_run_again_goes_on_where_it_stopped(desk: &Desk) {
    awkward(desk);
    desk.run(&["export", "all.jsonl"]).succeeded();
    let text = fs::read_to_string(desk.path("all.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    desk.write(
        "wrong.jsonl",
        &format!("{}\n{{\"stream\":7}}\n{}", lines[..9].join("\n"), lines[9..].join("\n")),
    );
    let import = |file| desk.run(&["--store", &desk.store("copy"), "import", file, "--json"]);
    let message = import("wrong.jsonl").failed(1);
    assert!(message.contains("import from `wrong.jsonl`: line 10: not a line of an export"), "{message}");
    assert_eq!(log(desk, "copy").len(), 9);

    let counted = import("all.jsonl").succeeded().object();
    assert_eq!((counted["events"].as_u64(), counted["found"].as_u64()), (Some(6), Some(9)));
    let counted = import("all.jsonl").succeeded().object();
    assert_eq!((counted["events"].as_u64(), counted["found"].as_u64()), (Some(0), Some(15)));
    // A beginning of what is there is no contradiction either.
    desk.write("less.jsonl", &lines[..5].join("\n"));
    let less = ["--store", &desk.store("copy"), "import", "less.jsonl", "--partial", "--json"];
    assert_eq!(desk.run(&less).succeeded().object()["found"], 5);
}

fn a_line_that_was_altered_is_refused_with_its_number(desk: &Desk) {
    awkward(desk);
    desk.run(&["export", "all.jsonl"]).succeeded();
    let text = fs::read_to_string(desk.path("all.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let import = |name: &str, lines: &[&str]| {
        desk.write("altered.jsonl", &lines.join("\n"));
        desk.run(&["--store", &desk.store(name), "import", "altered.jsonl"]).failed(1)
    };
    let altered = lines[3].replacen(r#"{\"n\": 1.0"#, r#"{\"n\": 1.1"#, 1);
    assert_ne!(altered, lines[3]);
    let message = import("a", &[&lines[..3], &[&altered]].concat());
    assert!(message.contains("line 4: stream `thing/1` version 4: its chain does not follow"), "{message}");
    assert_eq!(log(desk, "a").len(), 3);
    let message = import("b", &[&lines[..2], &lines[3..]].concat());
    assert!(message.contains("line 3: stream `thing/1`: version 4 after version 2"), "{message}");
    let message = import("c", &lines[1..]);
    assert!(
        message.contains("line 1: stream `thing/1` begins at version 2, and that event is no origin"),
        "{message}"
    );
}

fn a_stream_that_holds_another_history_is_never_mixed(desk: &Desk) {
    awkward(desk);
    desk.run(&["export", "all.jsonl"]).succeeded();
    for (name, events) in [("shorter", 2), ("longer", 20)] {
        with_store(desk, name, async |store| append(store, "thing/1", 100..100 + events).await);
        let message = desk.run(&["--store", &desk.store(name), "import", "all.jsonl"]).failed(1);
        assert!(message.contains("stream `thing/1`") && message.contains("another history"), "{message}");
        let of_stream = log(desk, name).into_iter().filter(|event| event.stream.id() == "1");
        assert_eq!(of_stream.count(), events);
    }
}

fn a_pipe_carries_a_store_to_another(desk: &Desk) {
    desk.record_flights(300);
    let mut export = desk.command(&["export"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let import = desk
        .command(&["--store", &desk.store("copy"), "import", "--json"])
        .stdin(export.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(export.wait().unwrap().success() && import.status.success());
    let heads =
        |store: &str| desk.run(&["--store", &desk.store(store), "streams", "--json"]).succeeded().stdout;
    assert_eq!(heads("tailfold"), heads("copy"));
    let order = |store: &str| -> Vec<_> {
        log(desk, store).into_iter().map(|event| (event.stream, event.version)).collect()
    };
    assert_eq!(order("tailfold"), order("copy"));
}

fn a_backup_is_restored_under_a_new_store_id_and_never_over_a_store(desk: &Desk) {
    desk.record_flights(200);
    let store_id = |store: &str| {
        let stats = desk.run(&["--store", &desk.store(store), "stats", "--json"]).succeeded().object();
        stats["store_id"].as_str().unwrap().to_owned()
    };
    let backup = desk.run(&["backup", "flights.backup", "--json"]).succeeded().object();
    assert_eq!(backup["store_id"], store_id("tailfold"));
    assert!(desk.run(&["backup", "flights.backup"]).failed(1).contains("`flights.backup` exists already"));
    let restore = ["--store", &desk.store("new"), "restore", "flights.backup", "--json"];
    let restored = desk.run(&restore).succeeded().object();
    assert_eq!(
        (&restored["store"], &restored["store_id"]),
        (&desk.store("new").into(), &store_id("new").into())
    );
    assert_ne!(store_id("new"), store_id("tailfold"));
    assert!(desk.run(&["restore", "flights.backup"]).failed(1).contains("already"));
    desk.run(&["--store", &desk.store("new"), "verify"]).succeeded();
    for command in ["export", "streams", "snapshots"] {
        let said =
            |store: &str| desk.run(&["--store", &desk.store(store), command, "--json"]).succeeded().stdout;
        assert_eq!(said("new"), said("tailfold"), "{command}");
    }
}

fn what_is_no_backup_becomes_no_store(desk: &Desk) {
    desk.record_flights(100);
    desk.run(&["backup", "flights.backup"]).succeeded();
    let whole = fs::read(desk.path("flights.backup")).unwrap();
    fs::write(desk.path("half.backup"), &whole[..whole.len() / 2]).unwrap();
    let other = if desk.files().contains(&"tailfold.db".to_owned()) { Desk::on_nats() } else { Desk::new() };
    fs::write(other.path("flights.backup"), whole).unwrap();
    desk.write("notes.txt", &"no store ".repeat(1000));
    for (desk, file) in [(desk, "half.backup"), (desk, "notes.txt"), (&other, "flights.backup")] {
        let message = desk.run(&["--store", &desk.store("other"), "restore", file]).failed(1);
        // As it was given, or by its path from the root.
        assert!(message.contains(&format!("{file}`")), "{message}");
        let message = desk.run(&["--store", &desk.store("other"), "stats"]).failed(1);
        assert!(message.contains("there is no such"), "{message}");
    }
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
        3
    );
    assert_eq!(sweep(&["--fold", "aircraft"]), 0);
    assert_eq!(sweep(&["--fold", "delays-by-carrier"]), 1);
    assert_eq!(sweep(&[]), 2);
    assert_eq!(desk.run(&["snapshots", "--json"]).succeeded().objects().len(), 1);
    desk.run(&["verify"]).succeeded();
}

#[test]
fn a_lost_index_of_tags_is_built_anew() {
    let desk = Desk::new();
    awkward(&desk);
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
