//! Reading a file where nothing may be written: a read-only mount, a directory or a file of somebody else's.

use std::path::Path;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tailfold::{Error, Outcome};

use crate::error::Result;
use crate::path;

/// What a path must not hold in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A file that is read as if it never changed, and how it was when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Immutable {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Immutable {
    fn of(path: &Path) -> Result<Self, Error> {
        if path::log_bytes(path)? > 0 {
            return Err(Error::unavailable(Outcome::NotDone, "somebody writes to the file: open it again"));
        }
        let metadata = std::fs::metadata(path)
            .map_err(|error| Error::invalid("the file cannot be looked at").caused_by(error))?;
        Ok(Self { modified: metadata.modified().ok(), bytes: metadata.len() })
    }

    /// Fails if somebody has written since: nothing that was read then is to be believed.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        if Self::of(path)? == *self {
            return Ok(());
        }
        Err(Error::unavailable(
            Outcome::NotDone,
            "the file was written to while it was read as one that nobody writes to: open it again",
        ))
    }
}

/// Opens a file for reading, without leave to write anything where it can be done without. SQLite needs a `-shm` file beside it,
/// which it makes if it may.
pub(crate) fn open(path: &Path) -> Result<(Connection, Option<Immutable>)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ordinary = Connection::open_with_flags(path, flags);
    match ordinary.and_then(|connection| try_to_read(&connection).map(|()| connection)) {
        Ok(connection) => Ok((connection, None)),
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
            ) =>
        {
            let bytes = path::log_bytes(path)?;
            if bytes > 0 {
                return Err(Error::invalid(format!(
                    "`{log}` holds {bytes} bytes that are not in the file yet, and reading them takes leave to write a `-shm` file \
                     beside it: let a user who may write there open and close the store, or copy the file with its `-wal` to \
                     where you may write",
                    log = path::companion(path, "-wal").display()
                ))
                .caused_by(error)
                .into());
            }
            if path::journal_bytes(path)? > 0 {
                return Err(Error::invalid(format!(
                    "`{journal}` is of a transaction that was interrupted and has to be rolled back first, which takes leave to \
                     write: let a user who may write there open and close the file, or copy both to where you may write",
                    journal = path::companion(path, "-journal").display()
                ))
                .caused_by(error)
                .into());
            }
            // A file without read permission fails here as it did before.
            let state = Immutable::of(path)?;
            let connection = Connection::open_with_flags(url(path), flags | OpenFlags::SQLITE_OPEN_URI)?;
            try_to_read(&connection)?;
            Ok((connection, Some(state)))
        }
        Err(error) => Err(error.into()),
    }
}

/// SQLite opens a file when it is read first. What is no database is told by whoever asks what it is.
fn try_to_read(connection: &Connection) -> Result<(), rusqlite::Error> {
    match connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())) {
        Err(error)
            if !matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Only by a URL is SQLite told that nobody writes to a file.
fn url(path: &Path) -> String {
    // The empty host, since a path may begin with two slashes.
    let path = path.as_os_str().as_encoded_bytes();
    let host = if path.starts_with(b"/") { "//" } else { "" };
    format!("file:{host}{}?immutable=1", percent_encode(path, ESCAPED))
}
