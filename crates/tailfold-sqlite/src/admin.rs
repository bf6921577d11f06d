//! Looking after a store: backup, restore, reindex, check.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tailfold::{Error, EventId, Outcome, Result};

use crate::config::SqliteConfig;
use crate::diagnosis::{self, Diagnosis};
use crate::error::{self, Failure};
use crate::path;
use crate::queue::Urgency;
use crate::schema::{self, Role};
use crate::store::SqliteStore;
use crate::vacuum::vacuum;

impl SqliteStore {
    /// Writes a copy of the store to a new file while it goes on being used: one consistent state, compacted, on disk
    /// when this returns. Appends do not wait for it. The copy is a store of the same name; [`SqliteStore::restore`] gives
    /// it a new one. Whoever may read the store's file may read the copy. Dropped before it is done, it stops and leaves nothing.
    ///
    /// # Errors
    /// `Invalid` if the target exists or cannot be written, or if a `-wal`, `-shm` or `-journal` of another file lies where the
    /// target's would; `Unavailable` if the disk is full. No partial file is left under the target's name.
    pub async fn backup_to(&self, target: impl AsRef<Path>) -> Result<()> {
        let (source, target) = (self.path().to_owned(), target.as_ref().to_owned());
        let operation = format!("back up store `{}` to `{}`", source.display(), target.display());
        self.readers().check_file().map_err(|error| error.during(&operation))?;
        reading(operation, source, move |work, source| {
            let mut connection = schema::connect(&SqliteConfig::new(source).read_only(true), Role::Reader)?;
            work.stops(&mut connection)?;
            copy_to(work, &connection, source, &target, |_| Ok(()))
        })
        .await
    }

    /// Makes a new store of a backup, or of any store's file. It gets a new store id, so that what was anchored in the
    /// positions of the original, and may lie in the future of the copy, does not match it. A backup of an earlier format
    /// becomes a store of this one; the backup itself stays as it is. Whoever may read the backup may read the store. Dropped
    /// before it is done, it stops and leaves nothing.
    ///
    /// # Errors
    /// `Invalid` if the target exists, if a `-wal`, `-shm` or `-journal` of another file lies where the target's would, or if the
    /// backup is not a store; `Corrupt` if the backup is damaged, `Unsupported` if a newer version wrote it.
    pub async fn restore(backup: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        let (backup, target) = (backup.as_ref().to_owned(), target.as_ref().to_owned());
        let operation = format!("restore backup `{}` to `{}`", backup.display(), target.display());
        reading(operation, backup, move |work, backup| {
            path::check(backup, true)?;
            let config = SqliteConfig::new(backup).read_only(true);
            let opened = || {
                let mut connection = schema::connect(&config, Role::Reader)?;
                schema::prepare(&mut connection, &config)?;
                Ok(connection)
            };
            let mut connection =
                opened().map_err(|failure| error::of_file(failure).during(error::opening(backup)))?;
            work.stops(&mut connection)?;
            check_pages(&connection)?;
            copy_to(work, &connection, backup, &target, |copy| {
                schema::migrate(copy)?;
                schema::renew_store_id(copy)
            })
        })
        .await
    }

    /// Builds the indexes of tags and of kinds anew from the events, and then writes the whole file anew, without what SQLite may
    /// have left of [erased](tailfold::EventStore::remove) events in unused parts of pages; the log is emptied after it.
    ///
    /// Appends wait; those of other processes fail as unavailable after their busy timeout. It takes about twice the file's size
    /// of free disk meanwhile.
    ///
    /// # Errors
    /// `Unavailable` if the disk is full or another process keeps the file locked. Calling it again is safe.
    pub async fn reindex(&self) -> Result<()> {
        let operation = format!("reindex store `{}`", self.path().display());
        self.ask(|| operation.clone(), Urgency::Command, usize::MAX / 2, |ledger| ledger.rebuild_indexes())
            .await?;
        self.between(vacuum).await.map_err(|error| error.during(operation))?;
        self.clear_log().await;
        Ok(())
    }

    /// Has SQLite check every page, row and index of the file, and that no position was given out twice. Reads all of it; does not
    /// check chains.
    ///
    /// # Errors
    /// `Corrupt`, with the first thing that is wrong; `Unavailable` if the system cannot read the file.
    pub async fn check(&self) -> Result<()> {
        let path = self.path().to_owned();
        let operation = format!("check store `{}`", path.display());
        self.readers().check_file().map_err(|error| error.during(&operation))?;
        reading(operation, path, move |work, path| {
            let mut connection = schema::connect(&SqliteConfig::new(path).read_only(true), Role::Reader)?;
            work.stops(&mut connection)?;
            check_pages(&connection)?;
            schema::check_positions(&connection)
        })
        .await
    }
}

/// Does something with a file, and again if the system could not read it; what is damaged stays so.
async fn reading(
    operation: String,
    path: PathBuf,
    work: impl Fn(&Arc<Work>, &Path) -> Result<(), Failure> + Send + 'static,
) -> Result<()> {
    let waiting = Waiting(Arc::default());
    let shared = waiting.0.clone();
    let attempts = move || {
        let path = path::absolute(&path)?;
        let mut attempt = 1;
        loop {
            match work(&shared, &path).map_err(Error::from) {
                Err(error) if diagnosis::is_about_the_file(&error) => {
                    if attempt == diagnosis::ATTEMPTS {
                        return Err(Diagnosis::default().of(&path, error));
                    }
                }
                other => return other,
            }
            attempt += 1;
        }
    };
    let result = match tokio::task::spawn_blocking(attempts).await {
        Ok(result) => result,
        Err(stopped) => Err(Error::unavailable(Outcome::Unknown, "stopped").caused_by(stopped)),
    };
    result.map_err(|error| error.during(operation))
}

/// Steps of SQLite's machine between two looks at whether the work is still wanted: some thousandths of a second.
const STEPS: i32 = 100_000;

/// What is done on a thread for a future that waits for it.
#[derive(Default)]
struct Work {
    given_up: AtomicBool,
    /// The file that is being written.
    partial: Mutex<Option<PathBuf>>,
}

impl Work {
    /// Lets a connection's statements fail once nobody waits for them.
    fn stops(self: &Arc<Self>, connection: &mut Connection) -> Result<(), Failure> {
        let work = self.clone();
        Ok(connection.progress_handler(STEPS, Some(move || work.given_up.load(Ordering::Relaxed)))?)
    }

    fn partial(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the last step, unless nobody waits any more: the file may be gone by then, and another in its place.
    fn last_step<T>(&self, step: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut partial = self.partial();
        if self.given_up.load(Ordering::Relaxed) {
            return Err(Error::unavailable(Outcome::NotDone, "nobody waits for it any more").into());
        }
        let done = step()?;
        *partial = None;
        Ok(done)
    }
}

/// Gives the work up when it is dropped: a process that ends does not wait for the thread, which may hang in a sync.
struct Waiting(Arc<Work>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.given_up.store(true, Ordering::Relaxed);
        let partial = self.0.partial().take();
        drop(partial.map(Partial));
    }
}

/// A verdict is as suspect as an error: SQLite counts a page that could not be read as damage.
fn check_pages(connection: &Connection) -> Result<(), Failure> {
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    let cause = rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some(verdict),
    );
    Err(Error::corrupt("the file is damaged").caused_by(cause).into())
}

/// Copies under a passing name and gives the file its own only when all of it is on disk.
fn copy_to(
    work: &Work,
    source: &Connection,
    source_path: &Path,
    target: &Path,
    finish: impl FnOnce(&Connection) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if fs::exists(target).map_err(|error| unwritable(target, error))? {
        return Err(occupied(target).into());
    }
    path::check_alone(target)?;
    let mut name = path::absolute(target)?.into_os_string();
    name.push(format!(".{}.part", EventId::fresh()));
    let partial = Partial(PathBuf::from(name));
    let path = partial.0.to_str().ok_or_else(|| Error::invalid("the target's path is not UTF-8"))?;
    *work.partial() = Some(partial.0.clone());
    // Claims the name, and says clearly if the directory is the problem. What is written before the permissions are set is
    // nobody else's to read.
    private().write(true).create_new(true).open(&partial.0).map_err(|error| unwritable(target, error))?;
    source.execute("VACUUM INTO ?1", [path])?;
    let copy = Connection::open(&partial.0)?;
    finish(&copy)?;
    copy.close().map_err(|(_, error)| error)?;
    let permissions = fs::metadata(source_path).map(|metadata| of_copy(metadata.permissions()));
    let synced = File::options().write(true).open(&partial.0).and_then(|file| {
        file.set_permissions(permissions?)?;
        file.sync_all()
    });
    synced.map_err(|error| unwritable(target, error))?;
    // A link does not replace what is there; not every file system has links.
    work.last_step(|| match fs::hard_link(&partial.0, target) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(occupied(target).into()),
        Err(_) if matches!(fs::exists(target), Ok(true)) => Err(occupied(target).into()),
        Err(_) => fs::rename(&partial.0, target).map_err(|error| unwritable(target, error).into()),
    })?;
    drop(partial);
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Directories cannot be opened, or synced, everywhere.
    if let Ok(directory) = File::open(directory) {
        directory.sync_all().map_err(|error| unwritable(target, error))?;
    }
    Ok(())
}

/// A file that is removed unless it was renamed before.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "a partial copy of a store is left");
            }
            _ => {}
        }
    }
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}

/// Those of the original; its owner may write a copy of what may not be written.
#[cfg(unix)]
fn of_copy(original: Permissions) -> Permissions {
    use std::os::unix::fs::PermissionsExt as _;

    Permissions::from_mode(original.mode() & 0o777 | 0o600)
}

#[cfg(not(unix))]
#[allow(
    clippy::permissions_set_readonly_false,
    reason = "where this is compiled, it makes nothing writable for others"
)]
fn of_copy(mut original: Permissions) -> Permissions {
    original.set_readonly(false);
    original
}

fn occupied(target: &Path) -> Error {
    Error::invalid(format!("`{}` exists already", target.display()))
}

fn unwritable(target: &Path, error: std::io::Error) -> Error {
    Error::invalid(format!("`{}` cannot be written", target.display())).caused_by(error)
}
