//! The file of a read model, which is as well looked after as that of a store: opened by one name, missed
//! where it is taken away, and not called damaged because the system could not read it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tailfold::{Error, ErrorKind, Outcome, Result};

use crate::diagnosis::{self, Diagnosis};
use crate::error::{self, Failure};
use crate::path;
use crate::presence::{Companions, Presence};
use crate::schema::{APPLICATION_ID, set_up_log, switch_to_wal};

const SCHEMA: &str = include_str!("../read_model.sql");
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A file that is open for writing.
pub(super) struct ModelFile {
    path: PathBuf,
    /// `None` after one that the file could not be read by.
    connection: RefCell<Option<Open>>,
    presence: Presence,
    diagnosis: Diagnosis,
}

/// A connection, and what it found beside the file.
struct Open {
    connection: Connection,
    companions: Companions,
}

impl ModelFile {
    /// Opens a file, and makes it and the tables for checkpoints where they are missing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let path = path::absolute(path)?;
        let diagnosis = Diagnosis::default();
        let opened = diagnosis.insist(&path, "opening a read model", || {
            path::check(&path, false)?;
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
            let made =
                connect(&path, flags).and_then(|connection| make_tables(&connection).map(|()| connection));
            let connection = made.map_err(of_opening)?;
            let presence = Presence::of(&connection, &path)?;
            let companions = presence.companions()?;
            Ok((Open { connection, companions }, presence))
        });
        let (open, presence) = opened.map_err(of_damage)?;
        Ok(Self { path, connection: RefCell::new(Some(open)), presence, diagnosis })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something on the connection; once more, on another one, where the file could not be read by that.
    /// `outcome` is what is told of it where it turns out that the file is not where it was.
    pub(super) fn work<T>(
        &self,
        outcome: Outcome,
        mut work: impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T> {
        let worked = self.diagnosis.insist(&self.path, "the work on a read model's file", || {
            self.presence.check()?;
            let mut place = self.connection.borrow_mut();
            let mut open = place.take().map_or_else(|| self.connect_again(), Ok)?;
            let done = work(&mut open.connection).map_err(Error::from);
            // What was committed to a file that nobody finds any more is not told as done.
            let around = self.presence.look_around(&open.companions, outcome);
            if !done.as_ref().is_err_and(diagnosis::is_about_the_file) {
                *place = Some(open);
            }
            around.and(done)
        });
        worked.map_err(of_damage)
    }

    fn connect_again(&self) -> Result<Open> {
        let connection = self.presence.connected(connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE))?;
        Ok(Open { connection, companions: self.presence.companions()? })
    }
}

/// The error for a failure to open the file of a read model.
pub(super) fn of_opening(failure: Failure) -> Error {
    error::of_opening(failure, "the file is not an SQLite database")
}

/// What helps against damage is not what helps a store: a read model can be made again.
pub(super) fn of_damage(error: Error) -> Error {
    if *error.kind() != ErrorKind::Corrupt || !diagnosis::is_about_the_file(&error) {
        return error;
    }
    let cause = error.cause().map(ToString::to_string).unwrap_or_default();
    Error::corrupt(
        "the file of the read model is damaged: stop its subscriptions, remove it with its `-wal` and `-shm`, and start them \
         again, which builds it anew",
    )
    .caused_by(cause)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Failure> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_no_store(&connection)?;
    switch_to_wal(&connection, BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "full")?;
    set_up_log(&connection)?;
    Ok(connection)
}

fn make_tables(connection: &Connection) -> Result<(), Failure> {
    // Making them takes a lock, which a worker may have for as long as its batch takes.
    if !has_tables(connection)? {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT"))?;
    }
    add_retries(connection)
}

/// Files of before have parked events that nobody could ask to try again.
pub(super) fn add_retries(connection: &Connection) -> Result<(), Failure> {
    if has_retries(connection)? {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let added = has_retries(connection).and_then(|is_there| match is_there {
        // Another process was first.
        true => Ok(()),
        false => connection.execute_batch(
            "ALTER TABLE tailfold_parked_events ADD COLUMN retry_requested INTEGER NOT NULL DEFAULT 0",
        ),
    });
    match added {
        Ok(()) => Ok(connection.execute_batch("COMMIT")?),
        Err(error) => {
            connection.execute_batch("ROLLBACK")?;
            Err(error.into())
        }
    }
}

pub(super) fn has_retries(connection: &Connection) -> rusqlite::Result<bool> {
    let sql =
        "SELECT count(*) FROM pragma_table_info('tailfold_parked_events') WHERE name = 'retry_requested'";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Whether the tables of checkpoints and parked events are there.
pub(super) fn has_tables(connection: &Connection) -> Result<bool, Failure> {
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('tailfold_checkpoints', 'tailfold_parked_events')";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))? == 2)
}

pub(super) fn check_no_store(connection: &Connection) -> Result<(), Failure> {
    let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if application_id == APPLICATION_ID {
        return Err(
            Error::invalid("the file is a tailfold store: a read model needs a file of its own").into()
        );
    }
    Ok(())
}
