//! Looking after a store: backup, restore, reindex, check.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tailfold::{Error, EventId, Outcome, Result};

use crate::config::SqliteConfig;
use crate::error::{self, Failure};
use crate::queue::Urgency;
use crate::schema::{self, Role};
use crate::store::SqliteStore;

impl SqliteStore {
    /// Writes a copy of the store to a new file while it goes on being used: one consistent state, compacted, on disk
    /// when this returns. Appends do not wait for it. The copy is a store of the same name; [`SqliteStore::restore`] gives
    /// it a new one.
    ///
    /// # Errors
    /// `Invalid` if the target exists or cannot be written; `Unavailable` if the disk is full. No partial file is left
    /// under the target's name.
    pub async fn backup_to(&self, target: impl AsRef<Path>) -> Result<()> {
        let (source, target) = (self.path().to_owned(), target.as_ref().to_owned());
        let operation = format!("back up store `{}` to `{}`", source.display(), target.display());
        blocking(operation, move || {
            let config = SqliteConfig::new(source).read_only(true);
            let connection = schema::connect(&config, Role::Reader)?;
            copy_to(&connection, &target, |_| Ok(()))
        })
        .await
    }

    /// Makes a new store of a backup, or of any store's file. It gets a new store id, so that what was anchored in the
    /// positions of the original, and may lie in the future of the copy, does not match it. A backup of an earlier format
    /// becomes a store of this one; the backup itself stays as it is.
    ///
    /// # Errors
    /// `Invalid` if the target exists or the backup is not a store, `Corrupt` if the backup is damaged, `Unsupported` if
    /// a newer version wrote it.
    pub async fn restore(backup: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        let (backup, target) = (backup.as_ref().to_owned(), target.as_ref().to_owned());
        let operation = format!("restore backup `{}` to `{}`", backup.display(), target.display());
        blocking(operation, move || {
            let config = SqliteConfig::new(backup).read_only(true);
            schema::check_path(&config.path, true)?;
            let opened = || {
                let mut connection = schema::connect(&config, Role::Reader)?;
                schema::prepare(&mut connection, &config)?;
                Ok(connection)
            };
            let connection = opened().map_err(|failure| error::of_open(&config.path, failure))?;
            check_pages(&connection)?;
            copy_to(&connection, &target, |copy| {
                schema::migrate(copy)?;
                schema::renew_store_id(copy)
            })
        })
        .await
    }

    /// Builds the indexes of tags and of kinds anew from the events. Appends wait for it.
    ///
    /// # Errors
    /// `Unavailable` if the disk is full or another process keeps the file locked.
    pub async fn reindex(&self) -> Result<()> {
        let operation = format!("reindex store `{}`", self.path().display());
        self.ask(|| operation, Urgency::Command, usize::MAX / 2, |ledger| ledger.rebuild_indexes()).await
    }

    /// Has SQLite check every page, row and index of the file. Reads all of it; does not check chains.
    ///
    /// # Errors
    /// `Corrupt`, with the first thing that is wrong.
    pub async fn check(&self) -> Result<()> {
        let path = self.path().to_owned();
        let operation = format!("check store `{}`", path.display());
        blocking(operation, move || {
            let config = SqliteConfig::new(path).read_only(true);
            check_pages(&schema::connect(&config, Role::Reader)?)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    operation: String,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T> {
    let result = match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Error::from),
        Err(stopped) => Err(Error::unavailable(Outcome::Unknown, "stopped").caused_by(stopped)),
    };
    result.map_err(|error| error.during(operation))
}

fn check_pages(connection: &Connection) -> Result<(), Failure> {
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(Error::corrupt(format!("the file is damaged: {verdict}")).into())
    }
}

/// Copies under a passing name and gives the file its own only when all of it is on disk.
fn copy_to(
    source: &Connection,
    target: &Path,
    finish: impl FnOnce(&Connection) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if fs::exists(target).map_err(|error| unwritable(target, error))? {
        return Err(occupied(target).into());
    }
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}.part", EventId::fresh()));
    let partial = Partial(PathBuf::from(name));
    let path = partial.0.to_str().ok_or_else(|| Error::invalid("the target's path is not UTF-8"))?;
    // Claims the name, and says clearly if the directory is the problem.
    File::create_new(&partial.0).map_err(|error| unwritable(target, error))?;
    source.execute("VACUUM INTO ?1", [path])?;
    let copy = Connection::open(&partial.0)?;
    finish(&copy)?;
    copy.close().map_err(|(_, error)| error)?;
    let synced = File::options().write(true).open(&partial.0).and_then(|file| file.sync_all());
    synced.map_err(|error| unwritable(target, error))?;
    // A link does not replace what is there; not every file system has links.
    match fs::hard_link(&partial.0, target) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(occupied(target).into());
        }
        Err(_) => fs::rename(&partial.0, target).map_err(|error| unwritable(target, error))?,
    }
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
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "a partial copy of a store is left");
            }
            _ => {}
        }
    }
}

fn occupied(target: &Path) -> Error {
    Error::invalid(format!("`{}` exists already", target.display()))
}

fn unwritable(target: &Path, error: std::io::Error) -> Error {
    Error::invalid(format!("`{}` cannot be written", target.display())).caused_by(error)
}
