//! What goes wrong in here, before it becomes the public error.

use std::path::Path;

use rusqlite::ErrorCode;
use tailfold::{Error, Outcome};

/// SQLite's failure, or a refusal that is already what the caller is to see.
#[derive(Debug)]
pub(crate) enum Failure {
    Sqlite(rusqlite::Error),
    Refused(Error),
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Sqlite(error) => from_sqlite(error, Outcome::NotDone),
        }
    }
}

/// The public error for a COMMIT that failed: what could not be synced may still come back after a crash.
pub(crate) fn of_commit(error: rusqlite::Error) -> Error {
    let outcome = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => Outcome::NotDone,
        _ => Outcome::Unknown,
    };
    from_sqlite(error, outcome)
}

/// The public error for a failure to open the file of a store.
pub(crate) fn of_file(failure: Failure) -> Error {
    of_opening(failure, "the file is not a tailfold store")
}

/// As [`of_file`], with what is said of a file that is no database.
pub(crate) fn of_opening(failure: Failure, no_database: &str) -> Error {
    let error = match failure {
        Failure::Refused(error) => return error,
        Failure::Sqlite(error) => error,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::invalid(no_database).caused_by(error),
        Some(ErrorCode::CannotOpen) => {
            Error::invalid("the file or its directory cannot be opened or written").caused_by(error)
        }
        _ => from_sqlite(error, Outcome::NotDone),
    }
}

pub(crate) fn opening(path: &Path) -> String {
    format!("open store `{}`", path.display())
}

pub(crate) fn closed() -> Error {
    Error::unavailable(Outcome::NotDone, "the store is closed")
}

fn from_sqlite(error: rusqlite::Error, outcome: Outcome) -> Error {
    let unavailable = |message: &str| Error::unavailable(outcome, message);
    let public = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            unavailable("another process kept the file locked for longer than the busy timeout")
        }
        Some(ErrorCode::DiskFull) => unavailable("the disk is full"),
        Some(ErrorCode::SystemIoFailure) => unavailable("the file could not be read or written"),
        Some(ErrorCode::CannotOpen) => unavailable("the file could not be opened"),
        Some(ErrorCode::OutOfMemory) => unavailable("out of memory"),
        Some(ErrorCode::OperationInterrupted) => unavailable("interrupted"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Error::invalid("the file or its directory is read-only")
        }
        Some(ErrorCode::TooBig) => Error::invalid("larger than SQLite can hold in one row"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) if outcome == Outcome::NotDone => {
            Error::corrupt(
                "the file is damaged; restore a backup, or, where only snapshots are damaged, use `tailfold reset-snapshots`",
            )
        }
        // A constraint, a missing table, a value of the wrong type: the file is not what this program wrote.
        _ if outcome == Outcome::NotDone => Error::corrupt("the file contradicts its format"),
        _ => unavailable("the commit failed"),
    };
    public.caused_by(error)
}
