//! What the command says when something is wrong: to people, and to programs.

use crate::support::Desk;

#[test]
fn with_json_an_error_is_an_object_on_stderr() {
    let desk = Desk::with_flights(5);
    desk.write("wrong.jsonl", "nothing\n");
    for (args, code, kind, message) in [
        (&["--store", "missing.db", "stats"][..], 1, "invalid", "open store `missing.db`: "),
        (&["reindex", "--store", "nats://127.0.0.1:1"], 1, "unavailable", "connect to nats://127.0.0.1:1"),
        (&["renew-id"], 1, "unsupported", "renew the store's id: "),
        (&["show", "airport/XXX"], 1, "refused", "show stream `airport/XXX`: "),
        (&["import", "wrong.jsonl"], 1, "line", "line 1: not a line of an export: "),
        (&["import", "missing.jsonl"], 1, "io", "missing.jsonl"),
        (&["state", "airport/JFK", "--at", "yesterday"], 2, "usage", "--at"),
        (&["stroll"], 2, "usage", "stroll"),
        (&["--store", "mysql://ada:geheim@h/db", "stats"], 2, "usage", "mysql://"),
    ] {
        let run = desk.run(&[args, &["--json"]].concat());
        let error = run.error();
        assert_eq!((run.code, error["kind"].as_str()), (Some(code), Some(kind)), "{}", run.stderr);
        let said = error["message"].as_str().unwrap();
        assert!(said.contains(message) && !said.starts_with("error"), "{said}");
        assert!(!run.stderr.contains("geheim") && run.stdout.is_empty(), "{} {}", run.stderr, run.stdout);
    }
    desk.sql("tailfold.db", "DELETE FROM events WHERE position = 2");
    let run = desk.run(&["verify", "--json"]);
    assert_eq!((run.code, run.error()["kind"].as_str()), (Some(3), Some("found")), "{}", run.stderr);
    // What was asked for is no error.
    let help = desk.run(&["stats", "--json", "--help"]).succeeded();
    assert!(help.stdout.contains("Usage: tailfold stats"), "{}", help.stdout);
}

#[test]
fn an_argument_that_is_wrong_is_told_what_is_wanted_with_an_example() {
    let desk = Desk::new();
    for (args, parts) in [
        (&["state", "a/1", "--at", "yesterday"][..], &["version", "--at 1000", "--as-of 2026-01-31"][..]),
        (&["state", "a/1", "--at", "-1"], &["version", "--at 1000"]),
        (&["state", "a/1", "--as-of", "yesterday"], &["2026-01-31T12:00:00Z", "2026-01-31`"]),
        (&["show", "a/1", "--from", "first"], &["version", "--from 1000"]),
        (&["show", "a/1", "--to", "1e3"], &["version", "--to 1000"]),
        (&["show", "airport"], &["\"airport\"", "category/id", "airport/JFK"]),
        (&["streams", "--limit", "ten"], &["number", "--limit 10"]),
        (&["sweep", "--unused-for", "3weeks"], &["days", "--unused-for 21"]),
        (&["sweep", "--unused-for", "99999999999"], &["days", "--unused-for 21"]),
        (&["sweep"], &["--unused-for <DAYS>"]),
        (&["parked", "drop", "mailed", "--position", "last"], &["position", "--position 1787"]),
        (&["demo", "--lanes", "many"], &["1 to 1024", "--lanes 32"]),
        (&["demo", "--lanes", "0"], &["1 to 1024", "--lanes 32"]),
    ] {
        let message = desk.run(args).failed(2);
        assert!(parts.iter().all(|part| message.contains(part)), "{args:?}: {message}");
        assert!(!message.contains("digit"), "{message}");
    }
    assert_eq!(desk.files(), Vec::<String>::new());
}
