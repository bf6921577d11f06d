//! Logs in files: plain, gzipped, cut off, made up.

mod support;

use std::env;
use std::fs::{self, File};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use support::{Repository, failure, summary};

const LOG: &[&str] = &[
    "log",
    "--first-parent",
    "-m",
    "--raw",
    "--no-renames",
    "--no-abbrev",
    "--reverse",
    "--format=commit %H %ct",
];

fn three_commits() -> Repository {
    let repository = Repository::new();
    for content in ["1\n", "2\n", "3\n"] {
        repository.write("a", content).commit(content);
    }
    repository
}

#[test]
fn a_log_in_a_file_is_worth_its_repository() {
    let repository = three_commits();
    let log = repository.output(LOG);
    let plain = repository.path().join("plain.log");
    fs::write(&plain, &log).unwrap();
    let zipped = repository.path().join("zipped.log.gz");
    let mut encoder = GzEncoder::new(File::create(&zipped).unwrap(), Compression::default());
    encoder.write_all(log.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let expected = summary(&["--repo", repository.text()]);
    for file in [plain, zipped] {
        assert_eq!(summary(&["--log", file.to_str().unwrap()]), expected);
    }
}

#[test]
fn a_malformed_line_is_named_and_what_came_before_it_stays() {
    let repository = three_commits();
    let log = repository.output(LOG);
    let (file, store) = (repository.path().join("bad.log"), repository.path().join("history.tailfold"));
    let (file, store) = (file.to_str().unwrap(), store.to_str().unwrap());
    let broken: Vec<_> =
        log.lines().enumerate().map(|(index, line)| if index == 8 { "broken" } else { line }).collect();
    fs::write(file, broken.join("\n") + "\n").unwrap();
    let error = failure(&["--log", file, "--store", store]);
    assert!(error.contains("read the log: line 9: neither"), "{error}");
    // Line 7 begins the third commit, which is not complete: the store holds the two before it.
    fs::write(file, &log).unwrap();
    let fed_on = summary(&["--log", file, "--store", store, "--policy", "never"]);
    assert_eq!((&fed_on["commit"], &fed_on["replayed_events"]), (&3.into(), &3.into()));
}

#[test]
fn a_log_that_leaves_a_commit_out_is_refused() {
    let repository = three_commits();
    let file = repository.path().join("gap.log");
    let kept: Vec<_> = repository.output(LOG).lines().map(str::to_owned).collect();
    fs::write(&file, [&kept[..3], &kept[6..]].concat().join("\n") + "\n").unwrap();
    let error = failure(&["--log", file.to_str().unwrap()]);
    assert!(error.contains("`a` does not hold what the log says"), "{error}");
}

#[test]
fn an_empty_or_missing_or_cut_off_log_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("some.log");
    let path = file.to_str().unwrap();
    assert!(failure(&["--log", path]).contains("open log"));
    fs::write(&file, "").unwrap();
    assert!(failure(&["--log", path]).contains("the log holds no commit"));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(three_commits().output(LOG).as_bytes()).unwrap();
    let zipped = encoder.finish().unwrap();
    fs::write(&file, &zipped[..zipped.len() - 10]).unwrap();
    assert!(failure(&["--log", path]).contains("read the log: line"));
}

/// After commit .. there are .. files, of that digest; taken from `git ls-tree` and from a program of its own.
const KNOWN: [(u64, u64, &str); 6] = [
    (1, 2, "aad88aef6b1ee2509069cf2554fde952bb6adfc7641c998a3e25dff674f194a4"),
    (1110, 1540, "6e7dd0fcb432756ae1259c43f709745a60262f271f8cb89a0d51c795c33951bb"),
    (2220, 9061, "de5a0b1552288fc1708fd1607ef1f32cd7e1371ee9843945cf08034ee64a6353"),
    (3996, 9792, "888bfc3a900fed6c3781bbab424d164a97bce9020013b6c8c0fe90e4808f5c51"),
    (4440, 9450, "7f4ad8251da708b93e2ed4175c1d55fc681f0b871a23f43684a34e0f1937459a"),
    (4441, 9450, "8917a3a16fae1d2f758765ed1dcac68fd2f350a60ef3e6ee0104cb1904f8e919"),
];

/// Too large to be kept here; the README of this example says how it is made.
#[test]
fn a_history_of_4441_commits_has_the_known_trees_with_snapshots_and_without() {
    let Ok(log) = env::var("TAILFOLD_HISTORY_LOG") else {
        eprintln!("NOT RUN: the check on 4,441 commits; TAILFOLD_HISTORY_LOG does not name their log");
        return;
    };
    for (commit, files, digest) in KNOWN {
        for policy in ["every:100", "never"] {
            let summary = summary(&["--log", &log, "--at", &commit.to_string(), "--policy", policy]);
            assert_eq!((&summary["commit"], &summary["files"]), (&commit.into(), &files.into()));
            assert_eq!(summary["digest"], digest, "commit {commit} with policy {policy}");
            let most = if policy == "never" { commit } else { 101 };
            assert!(summary["replayed_events"].as_u64().unwrap() <= most, "{summary}");
        }
    }
}
