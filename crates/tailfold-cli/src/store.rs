//! Which store, and how it is opened.

use std::ffi::OsStr;
use std::fmt;
use std::fs::Permissions;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind as UsageError;
use clap::{Arg, Command};
use tailfold::{ErrorKind, Store, StoreId};
use tailfold_nats::{NatsConfig, NatsStore};
use tailfold_postgres::{PostgresConfig, PostgresStore};
use tailfold_sqlite::{SqliteConfig, SqliteStore};

use crate::error::{Error, Result};
use crate::secret::with_password;

/// How long a server may take that is asked for the first time.
const SERVER_PATIENCE: Duration = Duration::from_secs(3);

/// Where a store is: a path, `sqlite:PATH`, or the URL of a store on PostgreSQL or NATS. Other schemes are refused by name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// A schema of a PostgreSQL database.
    Postgres(Box<PostgresConfig>),
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
    Postgres(PostgresStore),
    Nats(NatsStore),
}

impl Location {
    /// `tailfold.db` in the working directory.
    pub(crate) fn standard() -> Self {
        Self::Sqlite("tailfold.db".into())
    }

    pub(crate) async fn open(&self, access: Access) -> Result<Open> {
        match self.connect(access).await {
            Err(Error::Store(error)) if *error.kind() == ErrorKind::Invalid => {
                Err(self.not_a_store(error).await)
            }
            opened => opened,
        }
    }

    async fn connect(&self, access: Access) -> Result<Open> {
        let create = access == Access::Create;
        Ok(match self {
            Self::Sqlite(path) => {
                let config =
                    SqliteConfig::new(path).read_only(access == Access::Read).create_if_missing(create);
                Open::Sqlite(config.open().await?)
            }
            Self::Postgres(config) => {
                find_server(config).await?;
                Open::Postgres(config.as_ref().clone().create_if_missing(create).connect().await?)
            }
            Self::Nats(config) => {
                Open::Nats(config.as_ref().clone().create_if_missing(create).connect().await?)
            }
        })
    }

    /// Says of a place that is no store what it is, where that can be told: read models are in places of their own, and easily
    /// taken for the store that they follow.
    async fn not_a_store(&self, error: tailfold::Error) -> Error {
        let read_models = match self {
            Self::Sqlite(path) => tailfold_sqlite::checkpoints(path),
            Self::Postgres(config) => tailfold_postgres::checkpoints(config.as_ref().clone()).await,
            Self::Nats(_) => Ok(Vec::new()),
        };
        match read_models {
            Ok(found) if !found.is_empty() => Error::Store(tailfold::Error::invalid(format!(
                "{error}. It holds read models; to see them, name the store that they follow: \
                 `tailfold --store STORE projections --read-models {self}`"
            ))),
            // Nothing that helps.
            Ok(_) | Err(_) => error.into(),
        }
    }

    /// Makes a new store here of a backup.
    pub(crate) async fn restore(&self, backup: &Path) -> Result<Open> {
        match self {
            Self::Sqlite(path) => {
                SqliteStore::restore(backup, path).await?;
                self.open(Access::Write).await
            }
            Self::Postgres(_) => Err(server_copies("restore", "pg_restore")),
            Self::Nats(config) => Ok(Open::Nats(config.as_ref().clone().restore(backup).await?)),
        }
    }
}

impl Open {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
            Self::Nats(store) => Arc::new(store.clone()),
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.close().await?,
            Self::Postgres(store) => store.close().await?,
            Self::Nats(store) => store.close().await?,
        }
        Ok(())
    }

    pub(crate) async fn backup_to(&self, target: &Path) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.backup_to(target).await?,
            Self::Postgres(_) => return Err(server_copies("backup", "pg_dump")),
            Self::Nats(store) => store.backup_to(target).await?,
        }
        Ok(())
    }

    pub(crate) async fn reindex(&self) -> Result<()> {
        match self {
            Self::Sqlite(store) => Ok(store.reindex().await?),
            Self::Postgres(store) => Ok(store.reindex().await?),
            Self::Nats(_) => {
                let reason = "a store on NATS has no index of tags: a filter by tag reads the log";
                Err(tailfold::Error::unsupported(reason).during("reindex").into())
            }
        }
    }

    pub(crate) async fn reset_snapshots(&self) -> Result<()> {
        match self {
            Self::Sqlite(store) => Ok(store.reset_snapshots().await?),
            Self::Postgres(_) | Self::Nats(_) => {
                let reason = "the server looks after its own pages; `sweep --unused-for 0` removes all snapshots that were not used today";
                Err(tailfold::Error::unsupported(reason).during("reset the snapshots").into())
            }
        }
    }

    pub(crate) async fn renew_id(&self) -> Result<StoreId> {
        match self {
            Self::Postgres(store) => Ok(store.renew_id().await?),
            Self::Sqlite(_) | Self::Nats(_) => {
                let reason = "`restore` makes a store with an id of its own, of a backup or of a file";
                Err(tailfold::Error::unsupported(reason).during("renew the store's id").into())
            }
        }
    }

    /// How many appends can be under way, one sent after the other, that end up in the log in the order in which they were
    /// sent.
    pub(crate) fn appends_in_order(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1024,
            // On connections of their own, or looking for a stream's end first, they overtake each other.
            Self::Postgres(_) | Self::Nats(_) => 1,
        }
    }

    /// How many streams a commit of an import may have. More than one is worth it where commits go one after the other.
    pub(crate) fn streams_in_a_commit(&self) -> usize {
        match self {
            Self::Postgres(_) => 128,
            // Of NATS, older servers take one only.
            Self::Sqlite(_) | Self::Nats(_) => 1,
        }
    }

    /// What an append is when it returns. Servers sync when they are set up to: PostgreSQL is by default, NATS is not.
    pub(crate) fn appended(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "durable",
            Self::Postgres(_) => "committed",
            Self::Nats(_) => "acknowledged",
        }
    }

    /// Has the engine check its own file. Stores without one have nothing to check.
    pub(crate) async fn check_file(&self) -> Result<(), tailfold::Error> {
        match self {
            Self::Sqlite(store) => store.check().await,
            Self::Postgres(_) | Self::Nats(_) => Ok(()),
        }
    }

    /// Who may read and write the store's file, for copies of it; `None` for a store on a server.
    pub(crate) fn permissions(&self) -> Result<Option<Permissions>> {
        let Self::Sqlite(store) = self else { return Ok(None) };
        let looked = std::fs::metadata(store.path());
        let metadata =
            looked.map_err(|error| Error::io(format!("look at `{}`", store.path().display()), error))?;
        Ok(Some(metadata.permissions()))
    }

    /// Bytes on disk, the log that is not yet in the file included; on a server, the bytes that it tells.
    pub(crate) async fn bytes(&self) -> Result<u64> {
        let store = match self {
            Self::Sqlite(store) => store,
            Self::Postgres(store) => return Ok(store.bytes().await?),
            Self::Nats(store) => return Ok(store.bytes().await?),
        };
        let mut total = size(store.path())?.unwrap_or(0);
        let mut log = store.path().as_os_str().to_owned();
        log.push("-wal");
        total += size(Path::new(&log))?.unwrap_or(0);
        Ok(total)
    }
}

/// A store waits for its server, which may be starting again; whoever waits at a terminal wants to know.
async fn find_server(config: &PostgresConfig) -> Result<()> {
    let config = config.clone().create_if_missing(false).deadline(SERVER_PATIENCE);
    match config.connect().await {
        Ok(store) => Ok(store.close().await?),
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) => Err(error.into()),
        // What is missing may be to be created.
        Err(_) => Ok(()),
    }
}

/// What this command leaves to the tools of PostgreSQL.
fn server_copies(operation: &str, tool: &str) -> Error {
    let reason = format!(
        "a store on PostgreSQL is a schema of a database: use `{tool}` or a base backup, and `renew-id` on the copy; `export` \
         and `import` copy the events of any store"
    );
    tailfold::Error::unsupported(reason).during(operation).into()
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

    /// A URL may say where its password is: `password_file=PATH` or `password_env=VARIABLE`. The error never
    /// tells the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let path = match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                let config =
                    with_password(text)?.parse::<PostgresConfig>().map_err(|error| error.to_string())?;
                return Ok(Self::Postgres(Box::new(config)));
            }
            Some(("nats" | "tls", _)) => {
                let config = with_password(text)?.parse::<NatsConfig>().map_err(|error| error.to_string())?;
                return Ok(Self::Nats(Box::new(config)));
            }
            Some((scheme, _)) => {
                return Err(format!(
                    "no stores of scheme `{scheme}://` in this release: name a file, as a path or as `sqlite:PATH`, or a \
                     store on a server, as `postgres://HOST[:PORT][/DATABASE]` or `nats://HOST[:PORT][/NAME]`"
                ));
            }
            // Taken for a path, it would be told.
            None if is_nearly_a_url(text) => {
                return Err(
                    "a URL has `//` after the colon; write `./` in front of a path like this".to_owned()
                );
            }
            None => text.strip_prefix("sqlite:").unwrap_or(text),
        };
        if path.is_empty() {
            return Err("the path is empty".to_owned());
        }
        Ok(Self::Sqlite(path.into()))
    }
}

/// Whether a path begins as a URL does.
fn is_nearly_a_url(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    matches!(scheme, Some("postgres" | "postgresql" | "nats" | "tls" | "redis" | "rediss"))
}

/// Without what must stay secret.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(config) => config.fmt(f),
            Self::Nats(config) => config.fmt(f),
        }
    }
}

/// Reads a location from the command line. A message of clap's own would tell the whole value, password and all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocationParser(
    /// As the usage names the argument.
    pub(crate) &'static str,
);

impl TypedValueParser for LocationParser {
    type Value = Location;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Location, clap::Error> {
        let parsed = match value.to_str() {
            Some(text) => text.parse(),
            None => Ok(Location::Sqlite(value.into())),
        };
        parsed.map_err(|reason: String| refused(command, self.0, &reason))
    }
}

/// A value that is wrong, without the value.
pub(crate) fn refused(command: &Command, argument: &str, reason: &str) -> clap::Error {
    let message = format!("invalid value for '{argument}': {reason}\n");
    clap::Error::raw(UsageError::ValueValidation, message).with_cmd(command)
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
            ("mysql://ada:geheim@h/db", "`mysql://`"),
            ("postgres://ada:geheim@h/db?color=red", "color"),
            ("nats://ada:geheim@h/a.b", "store name"),
            ("sqlite:", "the path is empty"),
        ] {
            let error = location(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("geheim"), "{error}");
        }
    }
}
