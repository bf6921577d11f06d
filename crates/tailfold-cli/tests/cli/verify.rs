use std::process::Stdio;

use crate::support::{Desk, on_every_kind_of_store};

on_every_kind_of_store!(an_untouched_store_is_sound);

fn an_untouched_store_is_sound(desk: &Desk) {
    desk.record_flights(400);
    let seen = desk.run(&["verify", "--json"]).succeeded().object();
    assert_eq!(seen["sound"], true);
    assert_eq!((seen["damaged"].as_u64(), seen["snapshots"].as_u64()), (Some(0), Some(4)));
    assert_eq!(seen["snapshots_of_projections"], 1);
    assert!(desk.run(&["verify"]).succeeded().stdout.contains("4 snapshots, 1 of a projection"));
}

#[test]
fn a_flipped_bit_of_a_payload_is_found_and_named() {
    let desk = Desk::with_flights(400);
    let sql = "UPDATE events SET payload = CAST(replace(CAST(payload AS TEXT), '\"flight\":', '\"fligit\":') AS BLOB)
               WHERE version = 17 AND stream = (SELECT ref FROM streams WHERE stream = 'airport/JFK')";
    assert_eq!(desk.sql("tailfold.db", sql), 1);
    let run = desk.run(&["verify", "--json"]);
    let seen = run.object();
    assert_eq!((seen["sound"].as_bool(), seen["damaged"].as_u64()), (Some(false), Some(1)));
    let damage = &seen["damages"][0];
    assert_eq!(damage["stream"], "airport/JFK");
    assert_eq!((damage["version"].as_u64(), damage["fault"].as_str()), (Some(17), Some("chain")));
    assert!(run.failed(3).contains("verify: 1 of"));
    let text = desk.run(&["verify"]);
    assert!(text.stdout.contains("damage: stream `airport/JFK` version 17 (position "), "{}", text.stdout);
}

/// `verify | head -1` must not pass for sound.
#[test]
fn damage_that_nobody_reads_to_its_end_is_found_all_the_same() {
    let desk = Desk::with_flights(100);
    assert!(desk.sql("tailfold.db", "UPDATE events SET payload = x'7b7d'") > 100);
    for args in [&["verify"][..], &["verify", "--json"]] {
        let mut child = desk.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains("verify: "), "{message}");
    }
}

#[test]
fn a_missing_event_is_a_gap() {
    let desk = Desk::with_flights(100);
    let sql = "DELETE FROM events WHERE version = 5 AND stream = (SELECT ref FROM streams WHERE stream = 'airport/EWR')";
    assert_eq!(desk.sql("tailfold.db", sql), 1);
    let run = desk.run(&["verify", "--json"]);
    assert_eq!(run.object()["damages"][0]["fault"], "gap");
    run.failed(3);
}

#[test]
fn a_snapshot_that_was_altered_or_stands_for_another_history_is_found() {
    let desk = Desk::with_flights(400);
    let sql = "UPDATE snapshot_payloads SET envelope = CAST('x' || substr(envelope, 2) AS BLOB)
               WHERE snapshot = (SELECT ref FROM snapshots WHERE key = 'airport/JFK')";
    assert_eq!(desk.sql("tailfold.db", sql), 1);
    // That of the dashboard may lie behind the end as well.
    assert_eq!(desk.sql("tailfold.db", "UPDATE snapshots SET used = used - 91 WHERE key = '*'"), 1);
    desk.run(&["sweep", "--unused-for", "90"]).succeeded();
    // The backup that was restored ends before the snapshot.
    let sql = "DELETE FROM events WHERE version >= 100
               AND stream = (SELECT ref FROM streams WHERE stream = 'airport/EWR')";
    assert!(desk.sql("tailfold.db", sql) > 0);
    let run = desk.run(&["verify", "--json"]);
    let seen = run.object();
    assert_eq!((seen["damaged"].as_u64(), seen["snapshots_wrong"].as_u64()), (Some(0), Some(2)));
    let reason = |index: usize| {
        let wrong = &seen["snapshots_rejected"][index];
        (wrong["slot"]["key"].as_str().unwrap(), wrong["reason"].as_str().unwrap())
    };
    assert_eq!([reason(0), reason(1)], [("airport/EWR", "ahead"), ("airport/JFK", "corrupt")]);
    run.failed(3);
}
