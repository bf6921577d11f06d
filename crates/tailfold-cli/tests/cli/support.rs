//! Running the command, and data to run it on.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tailfold::{EventId, Store};
use tailfold_nats::NatsStore;
use tailfold_postgres::PostgresStore;
use tailfold_sqlite::SqliteStore;
use tailfold_testkit::servers::{NatsVersion, nats_url, postgres_url, redis_url};
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
        if self.stderr.starts_with('{') {
            return self.error()["message"].as_str().expect(&self.stderr).to_owned();
        }
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }

    /// The one object on stderr.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        serde_json::from_str(&self.stderr).expect(&self.stderr)
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

/// Makes tests of scenarios, functions of a desk: each with stores in files, on PostgreSQL and on NATS.
macro_rules! on_every_kind_of_store {
    ($($scenario:ident),* $(,)?) => {
        mod in_files {
            $(#[test] fn $scenario() { super::$scenario(&crate::support::Desk::new()); })*
        }
        mod on_postgres {
            $(#[test] fn $scenario() { super::$scenario(&crate::support::Desk::on_postgres()); })*
        }
        mod on_nats {
            $(#[test] fn $scenario() { super::$scenario(&crate::support::Desk::on_nats()); })*
        }
    };
}
pub(crate) use on_every_kind_of_store;

/// The same for scenarios of backups, which PostgreSQL makes by itself.
macro_rules! on_every_kind_of_store_with_backups {
    ($($scenario:ident),* $(,)?) => {
        mod backups_in_files {
            $(#[test] fn $scenario() { super::$scenario(&crate::support::Desk::new()); })*
        }
        mod backups_on_nats {
            $(#[test] fn $scenario() { super::$scenario(&crate::support::Desk::on_nats()); })*
        }
    };
}
pub(crate) use on_every_kind_of_store_with_backups;

/// A directory to work in, and a place for stores.
pub(crate) struct Desk {
    directory: TempDir,
    /// Where the names of stores begin; `None`: they are files in the directory.
    stores: Option<String>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), stores: None }
    }

    /// With stores on NATS, in place of files.
    pub(crate) fn on_nats() -> Self {
        Self::on_server(&nats_url(NatsVersion::V2_15_1))
    }

    pub(crate) fn on_server(url: &str) -> Self {
        Self { stores: Some(format!("{url}/{}-", own_name())), ..Self::new() }
    }

    /// With stores on PostgreSQL, each in a schema.
    pub(crate) fn on_postgres() -> Self {
        Self { stores: Some(format!("{}?schema=t{}_", postgres_url(), own_name())), ..Self::new() }
    }

    /// A tier that nobody else uses.
    pub(crate) fn tier(&self) -> String {
        format!("{}?name={}", redis_url(), own_name())
    }

    /// What `--store` calls a store; `tailfold` is the one of runs that name none.
    pub(crate) fn store(&self, name: &str) -> String {
        match &self.stores {
            None => format!("{name}.db"),
            Some(stores) => format!("{stores}{name}"),
        }
    }

    /// A store, opened by the library.
    pub(crate) async fn open(&self, name: &str) -> Arc<dyn Store> {
        match &self.stores {
            None => Arc::new(SqliteStore::open(self.path(&self.store(name))).await.unwrap()),
            Some(stores) if stores.starts_with("postgres") => {
                Arc::new(PostgresStore::connect(&self.store(name)).await.unwrap())
            }
            Some(_) => Arc::new(NatsStore::connect(&self.store(name)).await.unwrap()),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tailfold"));
        // Without a store, the demo makes one of its own, and every other command takes the file `tailfold.db`.
        if self.stores.is_some() && !args.contains(&"--store") && !args.contains(&"demo") {
            command.args(["--store", &self.store("tailfold")]);
        }
        command.args(args).current_dir(self.directory.path()).stdin(Stdio::null());
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
        desk.record_flights(rows);
        desk
    }

    /// Fills the store with the first rows of the flights.
    pub(crate) fn record_flights(&self, rows: usize) {
        self.write("flights.csv", &first_rows(rows));
        self.run(&["demo", "--input", "flights.csv", "--store", &self.store("tailfold")]).succeeded();
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
        files_in(self.directory.path())
    }
}

/// The random half of an id: others use the servers too.
fn own_name() -> String {
    let (_, own) = EventId::fresh().as_uuid().as_u64_pair();
    format!("{own:016x}")
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
