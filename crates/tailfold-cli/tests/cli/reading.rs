use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use crate::support::{Desk, events_of, first_rows, on_every_kind_of_store};

on_every_kind_of_store!(
    streams_are_listed_by_name_and_can_be_cut,
    events_are_shown_from_and_to_a_version,
    a_state_is_a_merge_patch_that_says_so_at_a_version_or_a_time,
    snapshots_are_listed_with_what_their_envelopes_say,
    stats_count_what_is_there,
    a_reader_that_has_enough_is_no_failure,
);

fn streams_are_listed_by_name_and_can_be_cut(desk: &Desk) {
    desk.record_flights(300);
    let all = desk.run(&["streams", "--json"]).succeeded().objects();
    let names: Vec<_> = all.iter().map(|stream| stream["stream"].as_str().unwrap()).collect();
    assert!(names.is_sorted());
    let airports = desk.run(&["streams", "--category", "airport", "--json"]).succeeded().objects();
    let names: Vec<_> = airports.iter().map(|stream| stream["stream"].as_str().unwrap()).collect();
    assert_eq!(names, ["airport/EWR", "airport/JFK", "airport/LGA"]);
    assert_eq!(airports.iter().map(|stream| stream["version"].as_u64().unwrap()).sum::<u64>(), 300);
    assert_eq!(desk.run(&["streams", "--limit", "2", "--json"]).succeeded().objects().len(), 2);
    let text = desk.run(&["streams", "--category", "airport"]).succeeded().stdout;
    assert_eq!(text.lines().count(), 4);
}

fn events_are_shown_from_and_to_a_version(desk: &Desk) {
    desk.record_flights(100);
    let events =
        desk.run(&["show", "airport/EWR", "--from", "3", "--to", "5", "--json"]).succeeded().objects();
    let versions: Vec<_> = events.iter().map(|event| event["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, [3, 4, 5]);
    assert_eq!(events[0]["type"], "airport.departed");
    assert!(events[0]["payload"]["destination"].is_string());
    let text = desk.run(&["show", "airport/EWR", "--to", "1"]).succeeded().stdout;
    assert!(text.starts_with("1  2013-01-01T05:15:00Z  airport.departed v1\n"), "{text}");
    assert!(text.contains(r#""tail":"N14228""#), "{text}");
    let message = desk.run(&["show", "airport/XXX"]).failed(1);
    assert!(message.contains("show stream `airport/XXX`: there is no such stream"), "{message}");
}

fn a_state_is_a_merge_patch_that_says_so_at_a_version_or_a_time(desk: &Desk) {
    desk.record_flights(400);
    let events = desk.run(&["show", "airport/JFK", "--json"]).succeeded().objects();
    let state = |args: &[&str]| {
        let mut all = vec!["state", "airport/JFK", "--json"];
        all.extend(args);
        desk.run(&all).succeeded().object()
    };
    let seventh = state(&["--at", "7"]);
    assert_eq!(seventh["version"], 7);
    assert_eq!(seventh["chain"], events[6]["chain"]);
    assert_eq!(seventh["state"], events[6]["payload"]);
    assert_eq!(seventh["snapshotted"], false);
    assert!(seventh["fold"].as_str().unwrap().contains("RFC 7396"));

    let time = "2013-01-01T08:00:00Z";
    let later = events.iter().position(|event| event["recorded_at"].as_str().unwrap() > time).unwrap();
    assert!(later > 0);
    assert_eq!(state(&["--as-of", time])["version"], later);
    assert_eq!(state(&["--as-of", "2012-12-31"])["version"], 0);
    assert_eq!(state(&["--as-of", "2014-01-01"])["version"], events.len());
    assert_eq!(state(&[])["version"], events.len());

    let text = desk.run(&["state", "airport/JFK"]).succeeded().stdout;
    assert!(text.lines().next().unwrap().contains("not the state of your fold"), "{text}");
    desk.run(&["state", "airport/JFK", "--at", "9999"]).failed(1);
    assert_eq!(desk.run(&["state", "airport/JFK", "--at", "1", "--as-of", "2013-01-01"]).code, Some(2));
}

fn snapshots_are_listed_with_what_their_envelopes_say(desk: &Desk) {
    desk.record_flights(400);
    let all = desk.run(&["snapshots", "--json"]).succeeded().objects();
    assert_eq!(all.len(), 4);
    assert_eq!((&all[3]["key"], &all[3]["kind"]), (&"*".into(), &"projection".into()));
    let one = desk.run(&["snapshots", "airport/JFK", "--json"]).succeeded().objects();
    assert_eq!(one.len(), 1);
    assert_eq!((&one[0]["fold"], &one[0]["kind"]), (&"airport".into(), &"stream".into()));
    let fold = desk.run(&["snapshots", "--fold", "delays-by-carrier", "--json"]).succeeded().objects();
    assert_eq!(fold, all[3..]);
    assert_eq!(one[0]["codec"], "msgpack");
    assert_eq!(one[0]["rejected"], serde_json::Value::Null);
    assert!(desk.run(&["snapshots"]).succeeded().stdout.contains("sound"));
}

#[test]
fn a_snapshot_whose_envelope_is_none_is_listed_as_such() {
    let desk = Desk::with_flights(400);
    desk.sql("tailfold.db", "UPDATE snapshot_payloads SET envelope = CAST('foreign' AS BLOB)");
    assert_eq!(desk.run(&["snapshots", "--json"]).succeeded().objects()[0]["rejected"], "corrupt");
}

fn stats_count_what_is_there(desk: &Desk) {
    desk.record_flights(400);
    let stats = desk.run(&["stats", "--json"]).succeeded().object();
    assert_eq!(stats["events"], events_of(&first_rows(400)));
    assert_eq!(stats["categories"]["airport"]["events"], 400);
    assert_eq!(stats["categories"]["airport"]["streams"], 3);
    assert_eq!((stats["snapshots"].as_u64(), stats["cursors"].as_u64()), (Some(4), Some(0)));
    let folds = stats["folds"]["airport"].as_object().unwrap();
    assert_eq!(folds.values().next().unwrap()["snapshots"], 3);
    assert!(stats["store_bytes"].as_u64().unwrap() > 100_000);
    let text = desk.run(&["stats"]).succeeded().stdout;
    assert!(text.contains("airport.cancelled") || text.contains("airport.departed"), "{text}");
}

#[test]
fn what_is_not_a_store_is_refused_by_name_and_left_alone() {
    let desk = Desk::new();
    for command in [&["streams"][..], &["stats"], &["verify"], &["reindex"], &["sweep", "--unused-for", "1"]]
    {
        let message = desk.run(command).failed(1);
        assert!(message.contains("open store `tailfold.db`: there is no such file"), "{message}");
        // Nobody has named it, so that it may not be what was meant.
        assert!(message.contains("--store") && message.contains("tailfold demo"), "{message}");
    }
    assert_eq!(desk.files(), Vec::<String>::new());

    desk.write("notes.txt", &"not a database, and long enough to be looked at\n".repeat(100));
    let before = fs::read(desk.path("notes.txt")).unwrap();
    for command in [&["--store", "notes.txt", "stats"][..], &["demo", "--store", "notes.txt"]] {
        let message = desk.run(command).failed(1);
        assert!(message.contains("`notes.txt`") && message.contains("not a tailfold store"), "{message}");
    }
    assert_eq!(fs::read(desk.path("notes.txt")).unwrap(), before);

    let message = desk.run(&["--store", "mysql://ada:geheim@localhost/db", "stats"]);
    assert_eq!(message.code, Some(2));
    assert!(message.stderr.contains("no stores of scheme `mysql://`"), "{}", message.stderr);
    assert!(!message.stderr.contains("geheim"), "{}", message.stderr);
}

#[test]
fn an_empty_file_is_no_store_for_a_command_that_needs_one() {
    let desk = Desk::new();
    desk.write("tailfold.db", "");
    for command in [&["streams"][..], &["stats"], &["verify"], &["reindex"], &["sweep", "--unused-for", "1"]]
    {
        let message = desk.run(command).failed(1);
        assert!(message.contains("open store `tailfold.db`: the file is empty"), "{message}");
    }
    assert_eq!(
        (desk.files(), fs::read(desk.path("tailfold.db")).unwrap()),
        (vec!["tailfold.db".into()], vec![])
    );
}

#[test]
fn a_name_that_sqlite_takes_for_a_url_is_a_files_name() {
    let desk = Desk::with_flights(50);
    desk.run(&["backup", "file:bk.db"]).succeeded();
    let events =
        |store: &str| desk.run(&["--store", store, "stats", "--json"]).succeeded().object()["events"].clone();
    assert_eq!(events("file:bk.db"), events("tailfold.db"));
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let desk = Desk::with_flights(10);
    let connection = rusqlite::Connection::open(desk.path("tailfold.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let message = desk.run(&["streams"]).failed(1);
    assert!(message.contains("format version 99"), "{message}");
}

fn a_reader_that_has_enough_is_no_failure(desk: &Desk) {
    desk.record_flights(900);
    for command in [&["show", "airport/JFK", "--json"][..], &["export"]] {
        let mut child = desk.command(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    }
}

#[test]
fn help_teaches_by_examples() {
    let desk = Desk::new();
    assert!(desk.run(&["--help"]).succeeded().stdout.contains("Exit codes:"));
    for command in [
        "demo",
        "streams",
        "show",
        "state",
        "snapshots",
        "projections",
        "project",
        "parked",
        "stats",
        "verify",
        "sweep",
        "backup",
        "restore",
        "reindex",
        "renew-id",
        "reset-snapshots",
        "export",
        "import",
    ] {
        let help = desk.run(&[command, "--help"]).succeeded().stdout;
        assert!(help.contains("Example") && help.to_lowercase().contains("json"), "{command}: {help}");
    }
}

/// Paragraphs of help are filled to the width of the terminal: none is broken where its source is.
#[test]
fn help_is_filled_to_the_terminal() {
    const WIDTH: usize = 70;
    let desk = Desk::new();
    let commands = desk.run(&["--help"]).succeeded().stdout;
    let commands =
        commands.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let named = commands.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let named: Vec<String> = named.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert!(named.len() > 15, "{named:?}");
    for command in named.iter().map(String::as_str).chain([""]).filter(|command| *command != "help") {
        let mut run = desk.command(&[command, "--help"][usize::from(command.is_empty())..]);
        let output = run.env("COLUMNS", WIDTH.to_string()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for pair in
            lines.windows(2).filter(|pair| pair.iter().all(|line| line.starts_with(char::is_alphanumeric)))
        {
            let next = pair[1].split(' ').next().unwrap();
            let filled = pair[0].chars().count() + 1 + next.chars().count() > WIDTH;
            assert!(filled, "`{command}`: {}\n{}", pair[0], pair[1]);
        }
    }
}
