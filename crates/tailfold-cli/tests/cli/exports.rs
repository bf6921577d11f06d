//! Files that hold exports: whole ones, cut ones, and what is no export.

use std::fs;
use std::io::Write as _;

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, Repository, State};
use tailfold_testkit::servers::{NatsVersion, nats_url};

use crate::moving::{append, log, with_store};
use crate::support::{Desk, on_every_kind_of_store};

on_every_kind_of_store!(what_is_no_export_makes_no_store, keys_of_truncated_commands_are_said_to_stay_behind);

/// A store of six events, exported: its lines.
fn exported(desk: &Desk) -> Vec<String> {
    with_store(desk, "tailfold", async |store| append(store, "thing/1", 0..6).await);
    desk.run(&["export", "all.jsonl"]).succeeded();
    fs::read_to_string(desk.path("all.jsonl")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn an_export_that_was_cut_is_recorded_and_refused() {
    let desk = Desk::new();
    let lines = exported(&desk);
    assert_eq!(lines.len(), 7);
    assert!(lines[6].starts_with(r#"{"end":{"events":6"#), "{}", lines[6]);
    let import = |file: &str, more: &[&str]| {
        desk.run(&[&["--store", &desk.store("copy"), "import", file, "--json"], more].concat())
    };
    desk.write("cut.jsonl", &lines[..4].join("\n"));
    let message = import("cut.jsonl", &[]).failed(1);
    for part in ["import from `cut.jsonl`: ", "end mark is missing after line 4", "4 events", "--partial"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(log(&desk, "copy").len(), 4);
    assert_eq!(import("cut.jsonl", &["--partial"]).succeeded().object()["found"], 4);
    // Lines that somebody left out.
    desk.write("picked.jsonl", &[&lines[..3], &lines[6..]].concat().join("\n"));
    let message = import("picked.jsonl", &[]).failed(1);
    assert!(message.contains("line 4: the end mark counts 6 events") && message.contains('3'), "{message}");
    assert_eq!(import("picked.jsonl", &["--partial"]).succeeded().object()["found"], 3);
    assert_eq!(import("all.jsonl", &[]).succeeded().object()["events"], 2);
}

/// Most cuts are somewhere in a line.
#[test]
fn an_export_that_was_cut_in_a_line_is_told_as_cut() {
    let desk = Desk::new();
    let lines = exported(&desk);
    let import = |file: &str| desk.run(&["--store", &desk.store("copy"), "import", file, "--json"]);
    desk.write("cut.jsonl", &format!("{}\n{}", lines[..4].join("\n"), &lines[4][..40]));
    let message = import("cut.jsonl").failed(1);
    for part in ["line 5: it ends in the middle: the export was cut", "the 4 events before it are recorded"] {
        assert!(message.contains(part), "{message}");
    }
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    zipped.write_all(format!("{}\n", lines.join("\n")).as_bytes()).unwrap();
    let zipped = zipped.finish().unwrap();
    fs::write(desk.path("cut.gz"), &zipped[..zipped.len() - 20]).unwrap();
    let message = import("cut.gz").failed(1);
    assert!(
        message.contains("the file was cut, or is damaged; the 6 events before it are recorded"),
        "{message}"
    );
    assert_eq!(log(&desk, "copy").len(), 6);
}

#[test]
fn exports_one_after_the_other_are_each_checked() {
    let desk = Desk::new();
    let lines = exported(&desk);
    with_store(&desk, "other", async |store| append(store, "thing/2", 0..2).await);
    desk.run(&["--store", &desk.store("other"), "export", "other.jsonl"]).succeeded();
    let other = fs::read_to_string(desk.path("other.jsonl")).unwrap();
    let import = || desk.run(&["--store", &desk.store("copy"), "import", "both.jsonl", "--json"]);
    desk.write("both.jsonl", &format!("{other}{}", lines[..6].join("\n")));
    assert!(import().failed(1).contains("end mark is missing after line 9"));
    desk.write("both.jsonl", &format!("{other}{}", lines.join("\n")));
    let counted = import().succeeded().object();
    assert_eq!((&counted["events"], &counted["found"]), (&0.into(), &8.into()));
    // An editor has put a mark before one of them.
    desk.write("both.jsonl", &format!("{other}\u{feff}{}", lines.join("\n")));
    let message = import().failed(1);
    assert!(message.contains("line 4: it begins with a byte order mark"), "{message}");
}

#[test]
fn an_empty_store_is_exported_and_imported() {
    let desk = Desk::new();
    with_store(&desk, "tailfold", async |_| {});
    desk.run(&["export", "none.jsonl"]).succeeded();
    assert!(fs::read_to_string(desk.path("none.jsonl")).unwrap().starts_with(r#"{"end":{"events":0"#));
    let copy = desk.store("copy");
    assert_eq!(
        desk.run(&["--store", &copy, "import", "none.jsonl", "--json"]).succeeded().object()["events"],
        0
    );
    assert_eq!(desk.run(&["--store", &copy, "stats", "--json"]).succeeded().object()["events"], 0);
}

fn what_is_no_export_makes_no_store(desk: &Desk) {
    desk.write("empty.jsonl", "");
    desk.write("notes.jsonl", "dear diary\n");
    let event = r#"{"stream":"a/1","version":18446744073709551615,"chain":"00000000000000000000000000000000",
        "id":"0199d6a4-7a3c-7000-8000-000000000000","type":"a.b","schema_version":1,
        "recorded_at":"2026-01-31T12:00:00Z","origin":true,"payload":"{}"}"#;
    desk.write("wrapping.jsonl", &event.replace('\n', ""));
    fs::write(desk.path("mark.jsonl"), "\u{feff}{\"end\":{\"events\":0}}\n").unwrap();
    let wide: Vec<u8> = "\u{feff}{}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(desk.path("wide.jsonl"), wide).unwrap();
    let before = desk.files();
    for (file, parts) in [
        ("missing.jsonl", &["missing.jsonl", "No such file"][..]),
        ("-", &["import from stdin", "nothing"]),
        ("empty.jsonl", &["empty.jsonl", "nothing"]),
        ("notes.jsonl", &["line 1: not a line of an export: ", "column 1"]),
        ("wrapping.jsonl", &["line 1: ", "version 18446744073709551615"]),
        ("mark.jsonl", &["byte order mark", "UTF-8"]),
        ("wide.jsonl", &["UTF-16", "UTF-8"]),
    ] {
        let message = desk.run(&["--store", &desk.store("copy"), "import", file]).failed(1);
        assert!(parts.iter().all(|part| message.contains(part)), "{file}: {message}");
        let message = desk.run(&["--store", &desk.store("copy"), "stats"]).failed(1);
        assert!(message.contains("there is no such"), "{file}: {message}");
    }
    assert_eq!(desk.files(), before);
}

#[test]
fn a_line_that_can_be_the_first_of_no_stream_makes_no_store() {
    let desk = Desk::new();
    let lines = exported(&desk);
    desk.write("later.jsonl", &lines[3]);
    desk.write("altered.jsonl", &lines[0].replacen("thing.happened", "thing.hoppened", 1));
    let before = desk.files();
    for (file, reason) in [
        ("later.jsonl", "line 1: stream `thing/1` begins at version 4, and that event is no origin"),
        ("altered.jsonl", "line 1: stream `thing/1` version 1: its chain does not follow"),
    ] {
        let message = desk.run(&["--store", "copy.db", "import", file, "--partial"]).failed(1);
        assert!(message.contains(reason), "{message}");
    }
    assert_eq!(desk.files(), before);
}

#[test]
fn a_file_of_another_kind_is_told_with_the_command_for_it() {
    let desk = Desk::new();
    exported(&desk);
    desk.run(&["backup", "whole.backup"]).succeeded();
    fs::write(desk.path("nats.backup"), b"TFNB...").unwrap();
    let nats = format!("{}/copy", nats_url(NatsVersion::V2_15_1));
    let before = desk.files();
    for (args, hint) in [
        (&["import", "whole.backup"][..], "`restore`"),
        (&["import", "nats.backup"], "`restore`"),
        (&["restore", "all.jsonl"], "`import`"),
        (&["restore", "nats.backup"], "restore it there"),
        (&["restore", "whole.backup"], "restore it as a file"),
        (&["export", "all.jsonl"], "or `-` for stdout"),
    ] {
        let store = match args {
            ["export", _] => "tailfold.db",
            ["restore", "whole.backup"] => &nats,
            _ => "copy.db",
        };
        let message = desk.run(&[&["--store", store], args].concat()).failed(1);
        assert!(message.contains(hint), "{message}");
    }
    assert_eq!(desk.files(), before);
}

#[test]
fn a_wrong_line_is_numbered_once() {
    let desk = Desk::new();
    let lines = exported(&desk);
    for (wrong, reason) in [
        (r#"{"stream":7}"#, "invalid type: integer `7`"),
        (r#"{"stream":"thing/1""#, "EOF"),
        (r#"{"end":{"events":"6"}}"#, "invalid type: string \"6\""),
    ] {
        desk.write("wrong.jsonl", &format!("{}\n{wrong}\n{}", lines[0], lines[1]));
        let message = desk.run(&["--store", &desk.store("copy"), "import", "wrong.jsonl"]).failed(1);
        assert!(
            message.contains("line 2: not a line of an export: ") && message.contains(reason),
            "{message}"
        );
        assert_eq!(message.matches("line ").count(), 2, "{message}");
    }
    assert_eq!(log(&desk, "copy").len(), 1);
}

#[test]
fn a_version_that_cannot_follow_is_refused() {
    let desk = Desk::new();
    let lines = exported(&desk);
    let last = lines[1].replacen(r#""version":2,"#, &format!(r#""version":{},"#, u64::MAX), 1);
    assert_ne!(last, lines[1]);
    desk.write("wrapping.jsonl", &[&lines[0], &last, &lines[2]].map(String::as_str).join("\n"));
    let message = desk.run(&["--store", &desk.store("copy"), "import", "wrapping.jsonl"]).failed(1);
    assert!(message.contains("line 2: ") && message.contains(&format!("version {}", u64::MAX)), "{message}");
}

/// A file that cannot grow any more is like a disk that is full.
#[cfg(unix)]
#[test]
fn an_export_that_fails_leaves_no_file() {
    let desk = Desk::with_flights(400);
    let limited = r#"trap '' XFSZ; ulimit -f 128; exec "$0" export all.jsonl"#;
    let output = std::process::Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_tailfold")])
        .current_dir(desk.path(""))
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: export to `all.jsonl`: "), "{message}");
    let left = desk.files();
    assert!(left.iter().all(|file| !file.starts_with("all.jsonl")), "{left:?}");
}

#[cfg(unix)]
#[test]
fn copies_are_as_private_as_the_store() {
    use std::os::unix::fs::PermissionsExt as _;

    let desk = Desk::with_flights(20);
    let mode = |file: &str| fs::metadata(desk.path(file)).unwrap().permissions().mode() & 0o777;
    for (private, name) in [(0o600, "private"), (0o640, "shared")] {
        fs::set_permissions(desk.path("tailfold.db"), fs::Permissions::from_mode(private)).unwrap();
        let (export, backup, restored) =
            (format!("{name}.jsonl"), format!("{name}.backup"), format!("{name}.db"));
        desk.run(&["export", &export]).succeeded();
        desk.run(&["backup", &backup]).succeeded();
        desk.run(&["--store", &restored, "restore", &backup]).succeeded();
        assert_eq!([&*export, &*backup, &*restored].map(mode), [private; 3]);
    }
    // A store of its own can be written to, even if its backup must not.
    fs::set_permissions(desk.path("private.backup"), fs::Permissions::from_mode(0o400)).unwrap();
    desk.run(&["--store", "again.db", "restore", "private.backup"]).succeeded();
    assert_eq!(mode("again.db"), 0o600);
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "meter")]
enum MeterEvent {
    Read(u32),
    #[event(origin)]
    Reset(u32),
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "meter")]
struct Meter(u32);

impl Fold for Meter {
    type Event = MeterEvent;

    fn apply(&mut self, event: MeterEvent, _meta: &EventMeta<'_>) {
        let (MeterEvent::Read(value) | MeterEvent::Reset(value)) = event;
        self.0 = value;
    }
}

fn keys_of_truncated_commands_are_said_to_stay_behind(desk: &Desk) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let meters = Repository::<Meter>::builder(desk.open("tailfold").await).build().unwrap();
        for (key, event) in
            [("one", MeterEvent::Read(1)), ("two", MeterEvent::Read(2)), ("three", MeterEvent::Reset(0))]
        {
            let decide = move |_: &_| Ok::<_, String>(event.clone());
            meters.execute("1", decide).idempotency_key(key).await.unwrap().unwrap();
        }
        meters.truncate("1", 3).await.unwrap();
    });
    let counted = desk.run(&["export", "all.jsonl", "--json"]).succeeded().object();
    assert_eq!((&counted["markers_left_out"], &counted["keys_left_out"]), (&1.into(), &2.into()));
    let import = ["--store", &desk.store("copy"), "import", "all.jsonl"];
    let text = desk.run(&import).succeeded().stdout;
    assert!(text.contains("2 idempotency keys"), "{text}");
    let counted = desk.run(&[&import[..], &["--json"]].concat()).succeeded().object();
    assert_eq!((&counted["renumbered_streams"], &counted["keys_left_out"]), (&1.into(), &2.into()));
}
