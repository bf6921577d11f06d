use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;

use serde_json::Value;

use crate::support::{Desk, events_of, files_in, first_rows, on_every_kind_of_store};

on_every_kind_of_store!(
    a_malformed_row_is_named_what_came_before_stays_and_a_second_run_goes_on,
    a_state_that_differs_from_the_file_ends_with_code_3,
    a_dashboard_goes_on_from_the_snapshot_of_the_run_before,
);

#[test]
fn json_is_one_object_and_nothing_else() {
    let desk = Desk::new();
    let rows = first_rows(900);
    desk.write("flights.csv", &rows);
    let run = desk.run(&["demo", "--input", "flights.csv", "--json"]).succeeded();
    assert_eq!(run.stderr, "");
    let summary = run.object();
    assert_eq!(summary["flights"], 900);
    assert_eq!(summary["events"], events_of(&rows));
    assert_eq!(summary["events"], summary["events_appended"]);
    assert_eq!(summary["airports"], 3);
    assert_eq!(summary["airports_equal"], summary["airports"]);
    assert_eq!(summary["aircraft_equal"], summary["aircraft"]);
    for (number, wanted) in
        [("loads", 4), ("equal", 4), ("tails", 3), ("tails_exact", 3), ("carriers", carriers_of(&rows))]
    {
        assert_eq!(summary[format!("dashboard_{number}")], wanted, "{number}");
    }
    let quarter = events_of(&rows) / 4;
    let replayed: Vec<_> = loads_of(&summary).into_iter().map(|(_, replayed)| replayed).collect();
    assert_eq!(replayed, [events_of(&rows) - 101 - quarter, 1, 100, quarter]);
    assert_eq!(summary["snapshots"], 3);
    assert_eq!(summary["snapshot_loads"], 3);
    assert_eq!(summary["snapshots_rejected"], 0);
    assert!(summary["average_replay_events"].as_f64().unwrap() < 100.0);
    for number in ["replay_load_us_p50", "snapshot_load_us_p50", "events_per_second"] {
        assert!(summary[number].as_f64().unwrap() > 0.0, "{number}");
    }
}

#[test]
fn the_table_names_what_was_measured_and_the_passing_store_goes() {
    let desk = Desk::new();
    desk.write("flights.csv", &first_rows(200));
    fs::create_dir(desk.path("passing")).unwrap();
    let output = desk
        .command(&["demo", "--input", "flights.csv"])
        .env("TMPDIR", desk.path("passing"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for part in ["flights", "events/s", "longest stream", "snapshots", "average replay", "by snapshot + tail"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("3 of 3 airports equal the file"), "{text}");
    assert!(text.contains("4 of 4 loads of the dashboard equal the file; 3 of 3"), "{text}");
    assert!(text.contains("no more than a quarter of the new events at a time"), "{text}");
    assert_eq!(files_in(&desk.path("passing")), Vec::<String>::new());
    assert_eq!(desk.files(), ["flights.csv", "passing"]);
}

/// Source and replayed events of each load of the dashboard.
fn loads_of(summary: &Value) -> Vec<(String, u64)> {
    let load = |load: &Value| {
        (load["source"].as_str().unwrap().to_owned(), load["replayed_events"].as_u64().unwrap())
    };
    summary["dashboard"].as_array().unwrap().iter().map(load).collect()
}

fn carriers_of(rows: &str) -> u64 {
    rows.lines().skip(1).filter_map(|row| row.split(',').nth(6)).collect::<BTreeSet<_>>().len() as u64
}

fn a_dashboard_goes_on_from_the_snapshot_of_the_run_before(desk: &Desk) {
    desk.record_flights(200);
    desk.write("flights.csv", &first_rows(300));
    let demo = ["demo", "--input", "flights.csv", "--store", &desk.store("tailfold"), "--json"];
    let summary = desk.run(&demo).succeeded().object();
    assert_eq!(
        (summary["dashboard_equal"].as_u64(), summary["dashboard_tails_exact"].as_u64()),
        (Some(4), Some(3))
    );
    let (before, new) =
        (events_of(&first_rows(200)), events_of(&first_rows(300)) - events_of(&first_rows(200)));
    let (quarter, hundred) = (new / 4, (new / 4).min(100));
    let snapshot = |replayed| ("snapshot".to_owned(), replayed);
    assert_eq!(
        loads_of(&summary),
        [snapshot(new - 1 - hundred - quarter), snapshot(1), snapshot(hundred), snapshot(quarter)]
    );
    assert_eq!(summary["events_found"], before);
    // Nothing is new any more.
    let summary = desk.run(&demo).succeeded().object();
    assert_eq!((loads_of(&summary), summary["dashboard_equal"].as_u64()), (vec![snapshot(0)], Some(1)));
}

#[test]
fn gzip_is_recognised_whatever_the_name() {
    let desk = Desk::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(first_rows(50).as_bytes()).unwrap();
    fs::write(desk.path("flights"), gzip.finish().unwrap()).unwrap();
    let summary = desk.run(&["demo", "--input", "flights", "--json"]).succeeded().object();
    assert_eq!(summary["flights"], 50);
}

fn a_malformed_row_is_named_what_came_before_stays_and_a_second_run_goes_on(desk: &Desk) {
    let rows = first_rows(600);
    let mut lines: Vec<&str> = rows.lines().collect();
    let right = lines[401];
    let wrong = right.replacen("2013,", "2013,13", 1);
    lines[401] = &wrong;
    desk.write("flights.csv", &lines.join("\n"));
    let demo = ["demo", "--input", "flights.csv", "--store", &desk.store("tailfold"), "--json"];
    let run = desk.run(&demo);
    assert_eq!(run.stdout, "");
    let message = run.failed(1);
    assert!(message.contains("read flights from `flights.csv`: line 402: `month` is \"131\""), "{message}");

    let before = events_of(&first_rows(400));
    assert_eq!(desk.run(&["stats", "--json"]).succeeded().object()["events"], before);
    desk.run(&["verify"]).succeeded();

    desk.write("flights.csv", &rows);
    let summary = desk.run(&demo).succeeded().object();
    assert_eq!(summary["events_found"], before);
    assert_eq!(summary["events"], events_of(&rows));
    assert_eq!(summary["aircraft_equal"], summary["aircraft"]);
    // The order of a stream is the file's, over both runs.
    let shown = desk.run(&["show", "airport/JFK", "--json"]).succeeded().objects();
    let flights: Vec<String> = shown.iter().map(|event| event["payload"]["flight"].to_string()).collect();
    let columns = rows.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    let in_file: Vec<String> = columns.filter(|row| row[9] == "JFK").map(|row| row[7].to_owned()).collect();
    assert_eq!(flights, in_file);
}

#[test]
fn every_kind_of_malformed_row_is_told_with_its_line() {
    let desk = Desk::new();
    let rows = first_rows(3);
    for (from, to, reason) in [
        (",UA,1545,", ",UA,many,", "`flight` is \"many\""),
        (",EWR,IAH,227,", ",EWR,IAH,NA,", "contradict each other"),
        (",EWR,", ",NA,", "`origin` is missing"),
        (",515,", ",565,", "there is no time 2013-1-1 565"),
        ("2013,1,1,515,2,", "2013,1,1,515,", "12 fields where the head has 13"),
    ] {
        desk.write("flights.csv", &rows.replacen(from, to, 1));
        let message = desk.run(&["demo", "--input", "flights.csv"]).failed(1);
        assert!(message.contains("line 2: ") && message.contains(reason), "{reason}: {message}");
    }
    fs::write(desk.path("flights.csv"), rows.replacen(",UA,", ",\u{fffd},", 1).replace('\u{fffd}', "@"))
        .unwrap();
    let mut bytes = fs::read(desk.path("flights.csv")).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'@').unwrap();
    bytes[at] = 0xff;
    fs::write(desk.path("flights.csv"), bytes).unwrap();
    let message = desk.run(&["demo", "--input", "flights.csv"]).failed(1);
    assert!(message.contains("line 2: not UTF-8"), "{message}");
}

#[test]
fn a_file_without_the_columns_is_refused_before_a_store_is_made() {
    let desk = Desk::new();
    desk.write("flights.csv", &first_rows(3).replacen("tailnum", "tail", 1));
    let message = desk.run(&["demo", "--input", "flights.csv", "--store", "new.db"]).failed(1);
    assert!(message.contains("line 1: the head does not name `tailnum`"), "{message}");
    desk.write("flights.csv", "");
    desk.run(&["demo", "--input", "flights.csv", "--store", "new.db"]).failed(1);
    let message = desk.run(&["demo", "--input", "nothing.csv", "--store", "new.db"]).failed(1);
    assert!(message.contains("read flights from `nothing.csv`"), "{message}");
    assert_eq!(desk.files(), ["flights.csv"]);
}

fn a_state_that_differs_from_the_file_ends_with_code_3(desk: &Desk) {
    desk.record_flights(300);
    desk.write("flights.csv", &first_rows(200));
    let run = desk.run(&["demo", "--input", "flights.csv", "--store", &desk.store("tailfold"), "--json"]);
    let summary = run.object();
    assert_eq!(summary["airports_equal"], 0);
    assert_eq!(
        (summary["dashboard_loads"].as_u64(), summary["dashboard_equal"].as_u64()),
        (Some(1), Some(0))
    );
    assert!(summary["differences"][0].as_str().unwrap().contains("but the file says"));
    assert!(run.failed(3).contains("states differ from the file"));
}
