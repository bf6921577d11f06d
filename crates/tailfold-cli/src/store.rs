//! Which store, and how it is opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tailfold::Store;
use tailfold_sqlite::{SqliteConfig, SqliteStore};

use crate::error::{Error, Result};

/// Where a store is: a path, or `sqlite:PATH`. Other schemes are refused by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
}

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It must exist; nothing is written.
    Read,
    /// It must exist.
    Write,
    /// It is created if it is missing.
    Create,
}

/// A store that is open.
#[derive(Clone, Debug)]
pub(crate) enum Open {
    Sqlite(SqliteStore),
}

impl Location {
    /// `tailfold.db` in the working directory.
    pub(crate) fn standard() -> Self {
        Self::Sqlite("tailfold.db".into())
    }

    pub(crate) async fn open(&self, access: Access) -> Result<Open> {
        let Self::Sqlite(path) = self;
        let config = SqliteConfig::new(path)
            .read_only(access == Access::Read)
            .create_if_missing(access == Access::Create);
        Ok(Open::Sqlite(config.open().await?))
    }

    /// Makes a new store here of a backup.
    pub(crate) async fn restore(&self, backup: &Path) -> Result<()> {
        let Self::Sqlite(path) = self;
        Ok(SqliteStore::restore(backup, path).await?)
    }
}

impl Open {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        let Self::Sqlite(store) = self;
        Arc::new(store.clone())
    }

    pub(crate) async fn close(&self) -> Result<()> {
        let Self::Sqlite(store) = self;
        Ok(store.close().await?)
    }

    pub(crate) async fn backup_to(&self, target: &Path) -> Result<()> {
        let Self::Sqlite(store) = self;
        Ok(store.backup_to(target).await?)
    }

    pub(crate) async fn reindex(&self) -> Result<()> {
        let Self::Sqlite(store) = self;
        Ok(store.reindex().await?)
    }

    /// Has the engine check its own file.
    pub(crate) async fn check_file(&self) -> Result<(), tailfold::Error> {
        let Self::Sqlite(store) = self;
        store.check().await
    }

    /// Bytes on disk, the log that is not yet in the file included.
    pub(crate) fn file_bytes(&self) -> Result<u64> {
        let Self::Sqlite(store) = self;
        let mut total = size(store.path())?.unwrap_or(0);
        let mut log = store.path().as_os_str().to_owned();
        log.push("-wal");
        total += size(Path::new(&log))?.unwrap_or(0);
        Ok(total)
    }
}

fn size(path: &Path) -> Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("look at `{}`", path.display()), error)),
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = match text.split_once("://") {
            Some((scheme, _)) => {
                return Err(format!(
                    "no stores of scheme `{scheme}://` in this release: name a file, as a path or as `sqlite:PATH`"
                ));
            }
            None => text.strip_prefix("sqlite:").unwrap_or(text),
        };
        if path.is_empty() {
            return Err("the path is empty".to_owned());
        }
        Ok(Self::Sqlite(path.into()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Sqlite(path) = self;
        path.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_path_with_or_without_its_scheme() {
        let location = |text: &str| text.parse::<Location>();
        assert_eq!(location("sqlite:a/b.db"), Ok(Location::Sqlite("a/b.db".into())));
        assert_eq!(location("a/b.db"), Ok(Location::Sqlite("a/b.db".into())));
        assert!(location("nats://localhost").unwrap_err().contains("`nats://`"));
        assert!(location("sqlite:").is_err());
    }
}
