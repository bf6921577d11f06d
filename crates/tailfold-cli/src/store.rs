//! Which store, and how it is opened.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};
use tailfold::Store;
use tailfold_nats::{NatsConfig, NatsStore};
use tailfold_sqlite::{SqliteConfig, SqliteStore};

use crate::error::{Error, Result};

/// Where a store is: a path, `sqlite:PATH`, or the URL of a store on NATS. Other schemes are refused by name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// Streams of NATS JetStream.
    Nats(Box<NatsConfig>),
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
    Nats(NatsStore),
}

impl Location {
    /// `tailfold.db` in the working directory.
    pub(crate) fn standard() -> Self {
        Self::Sqlite("tailfold.db".into())
    }

    pub(crate) async fn open(&self, access: Access) -> Result<Open> {
        let create = access == Access::Create;
        Ok(match self {
            Self::Sqlite(path) => {
                let config =
                    SqliteConfig::new(path).read_only(access == Access::Read).create_if_missing(create);
                Open::Sqlite(config.open().await?)
            }
            Self::Nats(config) => {
                Open::Nats(config.as_ref().clone().create_if_missing(create).connect().await?)
            }
        })
    }

    /// Makes a new store here of a backup.
    pub(crate) async fn restore(&self, backup: &Path) -> Result<Open> {
        match self {
            Self::Sqlite(path) => {
                SqliteStore::restore(backup, path).await?;
                self.open(Access::Write).await
            }
            Self::Nats(config) => Ok(Open::Nats(config.as_ref().clone().restore(backup).await?)),
        }
    }
}

impl Open {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Nats(store) => Arc::new(store.clone()),
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.close().await?,
            Self::Nats(store) => store.close().await?,
        }
        Ok(())
    }

    pub(crate) async fn backup_to(&self, target: &Path) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.backup_to(target).await?,
            Self::Nats(store) => store.backup_to(target).await?,
        }
        Ok(())
    }

    pub(crate) async fn reindex(&self) -> Result<()> {
        match self {
            Self::Sqlite(store) => Ok(store.reindex().await?),
            Self::Nats(_) => {
                let reason = "a store on NATS has no index of tags: a filter by tag reads the log";
                Err(tailfold::Error::unsupported(reason).during("reindex").into())
            }
        }
    }

    /// How many appends can be under way, one sent after the other, that end up in the log in the order in which they were
    /// sent.
    pub(crate) fn appends_in_order(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1024,
            // One that must look for its stream's end first is overtaken.
            Self::Nats(_) => 1,
        }
    }

    /// What an append is when it returns. NATS servers sync when they are set up to.
    pub(crate) fn appended(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "durable",
            Self::Nats(_) => "acknowledged",
        }
    }

    /// Has the engine check its own file. Stores without one have nothing to check.
    pub(crate) async fn check_file(&self) -> Result<(), tailfold::Error> {
        match self {
            Self::Sqlite(store) => store.check().await,
            Self::Nats(_) => Ok(()),
        }
    }

    /// Bytes on disk, the log that is not yet in the file included; of streams, the bytes that the server tells.
    pub(crate) async fn bytes(&self) -> Result<u64> {
        let store = match self {
            Self::Sqlite(store) => store,
            Self::Nats(store) => return Ok(store.bytes().await?),
        };
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

    /// The error never tells the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let path = match text.split_once("://") {
            Some(("nats" | "tls", _)) => {
                let config = text.parse::<NatsConfig>().map_err(|error| error.to_string())?;
                return Ok(Self::Nats(Box::new(config)));
            }
            Some((scheme, _)) => {
                return Err(format!(
                    "no stores of scheme `{scheme}://` in this release: name a file, as a path or as `sqlite:PATH`, or a \
                     store on NATS as `nats://HOST[:PORT][/NAME]`"
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

/// Without what must stay secret.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Nats(config) => config.fmt(f),
        }
    }
}

/// Reads a location from the command line. A message of clap's own would tell the whole value, password and all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocationParser;

impl TypedValueParser for LocationParser {
    type Value = Location;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Location, clap::Error> {
        let parsed = match value.to_str() {
            Some(text) => text.parse(),
            None => Ok(Location::Sqlite(value.into())),
        };
        parsed.map_err(|reason: String| {
            let message = format!("invalid value for '--store <STORE>': {reason}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_path_or_a_url_of_a_scheme_that_is_known() {
        let location = |text: &str| text.parse::<Location>();
        for text in ["sqlite:a/b.db", "a/b.db"] {
            assert!(matches!(location(text), Ok(Location::Sqlite(path)) if path == Path::new("a/b.db")));
        }
        for (text, shown) in [
            ("nats://ada:geheim@h1,h2:4333/bank?replicas=3", "nats://h1,h2:4333/bank"),
            ("tls://h", "tls://h/tf"),
        ] {
            assert_eq!(location(text).unwrap().to_string(), shown);
        }
        for (text, reason) in [
            ("postgres://ada:geheim@h/db", "`postgres://`"),
            ("nats://ada:geheim@h/a.b", "store name"),
            ("sqlite:", "the path is empty"),
        ] {
            let error = location(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("geheim"), "{error}");
        }
    }
}
