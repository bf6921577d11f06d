//! The program itself.

use std::fs;
use std::process::{Command, Output};

fn shop(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shop")).args(arguments).output().unwrap()
}

#[test]
fn the_day_runs_and_says_what_happens() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("new");
    for arguments in [&[][..], &["--directory", place.to_str().unwrap()]] {
        let output = shop(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty());
        let text = String::from_utf8(output.stdout).unwrap();
        for expected in [
            "grace, once; 15 others wanted the name",
            "5 of 5 cups; 11 orders",
            "CHECK constraint failed",
            "the snapshot at position",
            "another ada",
            "28 placed, 21 paid, 1 cancelled",
            "dashboard, stock and read model are what the log says",
        ] {
            assert!(text.contains(expected), "{expected:?} in:\n{text}");
        }
    }
    assert!(place.join("shop.tailfold").is_file() && place.join("orders-v2.sqlite").is_file());
}

#[test]
fn a_directory_that_is_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("something"), "").unwrap();
    let output = shop(&["--directory", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not empty"));
}
