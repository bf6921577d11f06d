//! Whether the file is still where it was opened. What is written into a file that was removed or replaced is seen by nobody else,
//! and gone when it is closed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use tailfold::{Error, Outcome};

use crate::path;

pub(crate) struct Presence {
    path: PathBuf,
    identity: Option<Identity>,
    /// The log, which lies beside the file as long as it is open for writing.
    log: Option<PathBuf>,
    gone: AtomicBool,
}

/// The file itself, whatever its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Presence {
    /// The file that a connection has open.
    ///
    /// # Errors
    /// `Unavailable` if it was removed or replaced while it was opened.
    pub(crate) fn of(connection: &Connection, path: &Path, has_log: bool) -> Result<Self, Error> {
        let identity = Identity::of(path);
        let log = has_log.then(|| path::companion(path, "-wal"));
        let presence = Self { path: path.to_owned(), identity, log, gone: AtomicBool::new(false) };
        // Afterwards, so that it is the file of the connection that was looked at.
        if has_moved(connection) {
            return Err(presence.error(Outcome::NotDone));
        }
        Ok(presence)
    }

    /// Fails once the file is known to be gone. Costs nothing.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.gone.load(Ordering::Relaxed) { Err(self.error(Outcome::NotDone)) } else { Ok(()) }
    }

    /// Asks the system whether another file, or none, has the name now. `outcome` is what is told of the work since.
    pub(crate) fn look(&self, outcome: Outcome) -> Result<(), Error> {
        if self.identity.is_some() && Identity::of(&self.path) != self.identity {
            self.gone.store(true, Ordering::Relaxed);
        }
        if self.gone.load(Ordering::Relaxed) { Err(self.error(outcome)) } else { Ok(()) }
    }

    /// As [`look`](Self::look), for the log beside the file too.
    pub(crate) fn look_around(&self, outcome: Outcome) -> Result<(), Error> {
        if self.log.as_ref().is_some_and(|log| matches!(std::fs::exists(log), Ok(false))) {
            self.gone.store(true, Ordering::Relaxed);
        }
        self.look(outcome)
    }

    fn error(&self, outcome: Outcome) -> Error {
        Error::unavailable(
            outcome,
            format!(
                "`{}` or its `-wal` was removed or replaced while it was open: what is recorded now would be lost; close it, put \
                 the right files there, and open it again",
                self.path.display()
            ),
        )
    }
}

impl Identity {
    /// `None` where there is no file, and on systems that keep an open file from being removed.
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    #[cfg(not(unix))]
    fn of(_: &Path) -> Option<Self> {
        None
    }
}

#[cfg(unix)]
fn has_moved(connection: &Connection) -> bool {
    let mut moved = 0;
    let asked = connection.file_control(None::<&str>, rusqlite::FileControl::HasMoved(&mut moved));
    // A file system that cannot tell has not moved it.
    asked.is_ok() && moved != 0
}

#[cfg(not(unix))]
fn has_moved(_: &Connection) -> bool {
    false
}
