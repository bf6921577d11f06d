//! Running the command, and data to run it on.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const FLIGHTS: &[u8] = include_bytes!("../../data/flights-2013-q1.csv.gz");

/// What a run of the command left behind.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The message of a run that ended with that code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }

    /// The one object on stdout.
    #[track_caller]
    pub(crate) fn object(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout).expect(&self.stdout);
        assert!(value.is_object());
        assert_eq!(self.stdout.lines().count(), 1);
        value
    }

    /// One object a line.
    #[track_caller]
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// A directory to work in.
pub(crate) struct Desk(TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tailfold"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        let output = self.command(args).output().unwrap();
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A desk with a `tailfold.db` that holds the first rows of the flights.
    pub(crate) fn with_flights(rows: usize) -> Self {
        let desk = Self::new();
        desk.write("flights.csv", &first_rows(rows));
        desk.run(&["demo", "--input", "flights.csv", "--store", "tailfold.db"]).succeeded();
        desk
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn sql(&self, store: &str, sql: &str) -> usize {
        rusqlite::Connection::open(self.path(store)).unwrap().execute(sql, []).unwrap()
    }

    pub(crate) fn number(&self, store: &str, sql: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.path(store)).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn files(&self) -> Vec<String> {
        files_in(self.0.path())
    }
}

pub(crate) fn files_in(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// The head and the first rows of the demo's flights.
pub(crate) fn first_rows(rows: usize) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(FLIGHTS).read_to_string(&mut text).unwrap();
    text.lines().take(rows + 1).flat_map(|line| [line, "\n"]).collect()
}

/// Events that those rows are: one for the airport, one for the aircraft if it is known.
pub(crate) fn events_of(rows: &str) -> u64 {
    rows.lines().skip(1).map(|row| if row.split(',').nth(8) == Some("NA") { 1 } else { 2 }).sum()
}
