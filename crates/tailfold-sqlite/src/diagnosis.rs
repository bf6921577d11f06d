//! Damage, or a system that could not read. SQLite says "malformed" of a file from which a read failed (EIO, ENXIO), so the file
//! itself is read before anybody is told to restore a backup.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;
use tailfold::{Error, ErrorKind, Outcome};

use crate::path;

/// How often work is tried, each time on a new connection, before its failure is believed.
pub(crate) const ATTEMPTS: u32 = 3;
/// Reads of a small file at least, since a failure need not come each time.
const LEAST_READS: u32 = 2000;
/// Bytes of a read.
const BLOCK: usize = 32 << 10;
/// Longest time that a look at the file takes, and how long its result holds: a damaged file is met again and again.
const LOOK: Duration = Duration::from_secs(10);
const HOLDS: Duration = Duration::from_secs(600);

/// Whether an error is about the file itself, so that neither it nor the connection that met it is to be believed at once.
pub(crate) fn is_about_the_file(error: &Error) -> bool {
    let cause = error.cause().and_then(|cause| cause.downcast_ref::<rusqlite::Error>());
    cause.is_some_and(is_failure_of_the_file)
}

/// As [`is_about_the_file`], for the driver's error.
pub(crate) fn is_failure_of_the_file(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Finds out what is behind errors about one file.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    /// When the whole file could be read.
    readable: Mutex<Option<Instant>>,
}

impl Diagnosis {
    /// Does something, each time on a new connection, until the file can be read by it. The error of the last
    /// attempt is told as by [`of`](Self::of); what may have been done is not done again.
    pub(crate) fn insist<T>(
        &self,
        path: &Path,
        what: &str,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut attempts = 1;
        loop {
            let error = match attempt() {
                Err(error) if is_about_the_file(&error) => error,
                other => return other,
            };
            if attempts == ATTEMPTS || error.is_outcome_unknown() {
                return Err(self.of(path, error));
            }
            tracing::warn!(path = %path.display(), %error, attempts, "{what} failed; another connection tries it again");
            attempts += 1;
        }
    }

    /// The error that is told: `Corrupt` only if the file can be read.
    pub(crate) fn of(&self, path: &Path, error: Error) -> Error {
        if !is_about_the_file(&error) {
            return error;
        }
        let outcome = match error.kind() {
            ErrorKind::Unavailable(outcome) => *outcome,
            _ => Outcome::NotDone,
        };
        match self.read(path) {
            Ok(()) => error,
            Err(failure) => {
                Error::unavailable(outcome, "the system could not read the file").caused_by(failure)
            }
        }
    }

    fn read(&self, path: &Path) -> io::Result<()> {
        // One at a time: the others get the same result.
        let mut readable = self.readable.lock().unwrap_or_else(PoisonError::into_inner);
        if readable.is_some_and(|at| at.elapsed() < HOLDS) {
            return Ok(());
        }
        *readable = None;
        let end = Instant::now() + LOOK;
        read_whole(&*opened(path)?, end)?;
        // Nobody locks the log itself.
        match File::open(path::companion(path, "-wal")) {
            Ok(log) => read_whole(&log, end)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        *readable = Some(Instant::now());
        Ok(())
    }
}

/// Files that were looked at. None of them is ever closed: on Unix, closing a file that a process has opened twice drops all of its
/// locks on it, those of SQLite too. One stays for each file that ever was suspected.
static OPENED: Mutex<Vec<Arc<File>>> = Mutex::new(Vec::new());

fn opened(path: &Path) -> io::Result<Arc<File>> {
    let mut files = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    for file in files.iter() {
        if is_at(file, path)? {
            return Ok(file.clone());
        }
    }
    let file = Arc::new(File::open(path)?);
    files.push(file.clone());
    Ok(file)
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (opened, named) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((opened.dev(), opened.ino()) == (named.dev(), named.ino()))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Reads all of a file, as far as the time allows.
fn read_whole(mut file: &File, end: Instant) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut reads = 0;
    file.rewind()?;
    while Instant::now() < end {
        reads += 1;
        if file.read(&mut block)? == 0 {
            if reads >= LEAST_READS {
                break;
            }
            file.rewind()?;
        }
    }
    Ok(())
}
