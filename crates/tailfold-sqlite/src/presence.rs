//! Whether the file is still where it was opened. What is written into a file that was removed or replaced is seen by nobody else,
//! and gone when it is closed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use tailfold::{Error, Outcome};

use crate::error::Failure;
use crate::path;

pub(crate) struct Presence {
    path: PathBuf,
    identity: Option<Identity>,
    gone: AtomicBool,
}

/// The log and its index. As long as a connection has them open, nobody who keeps to SQLite's rules removes them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Companions([Option<Identity>; 2]);

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
    /// `Unavailable` if it was removed or replaced while it was opened, or the system cannot tell.
    pub(crate) fn of(connection: &Connection, path: &Path) -> Result<Self, Error> {
        let identity = Identity::of(path).map_err(|error| unseen(path, Outcome::NotDone, error))?;
        let presence = Self { path: path.to_owned(), identity, gone: AtomicBool::new(false) };
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
        let found = Identity::of(&self.path);
        if self.identity.is_some() && found.as_ref().is_ok_and(|found| *found != self.identity) {
            self.gone.store(true, Ordering::Relaxed);
        }
        if self.gone.load(Ordering::Relaxed) {
            return Err(self.error(outcome));
        }
        // A disk that fails for a moment takes no file away.
        found.map(drop).map_err(|error| unseen(&self.path, outcome, error))
    }

    /// A connection that was opened later: to this file, and not to another one of its name.
    pub(crate) fn connected<C>(&self, connected: Result<C, Failure>) -> Result<C, Error> {
        // First, since a file that is gone cannot be opened either.
        self.look(Outcome::NotDone)?;
        connected
            .map_err(|failure| Error::from(failure).during(format!("open `{}` again", self.path.display())))
    }

    /// What lies beside the file now, for a connection that has just been opened and has read.
    pub(crate) fn companions(&self) -> Result<Companions, Error> {
        self.beside(Outcome::NotDone)
    }

    fn beside(&self, outcome: Outcome) -> Result<Companions, Error> {
        let of = |suffix| Identity::of(&path::companion(&self.path, suffix));
        let all = || Ok(Companions([of("-wal")?, of("-shm")?]));
        all().map_err(|error| unseen(&self.path, outcome, error))
    }

    /// As [`look`](Self::look), for what lies beside the file too.
    pub(crate) fn look_around(&self, companions: &Companions, outcome: Outcome) -> Result<(), Error> {
        self.look(outcome)?;
        if self.beside(outcome)? != *companions {
            self.gone.store(true, Ordering::Relaxed);
            return Err(self.error(outcome));
        }
        Ok(())
    }

    fn error(&self, outcome: Outcome) -> Error {
        Error::unavailable(
            outcome,
            format!(
                "`{}`, or its `-wal` or `-shm`, was removed or replaced while it was open: what is recorded now would be lost; \
                 close it, put the right files there, and open it again",
                self.path.display()
            ),
        )
    }
}

impl Identity {
    /// `None` where there is no file, and on systems that keep an open file from being removed.
    #[cfg(unix)]
    fn of(path: &Path) -> io::Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt as _;
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self { device: metadata.dev(), inode: metadata.ino() })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(not(unix))]
    fn of(_: &Path) -> io::Result<Option<Self>> {
        Ok(None)
    }
}

fn unseen(path: &Path, outcome: Outcome, error: io::Error) -> Error {
    let message = format!("the system cannot tell whether `{}` is still where it was", path.display());
    Error::unavailable(outcome, message).caused_by(error)
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
