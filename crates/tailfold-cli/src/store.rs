//! Which store, and how it is opened.

mod location;

use std::fs::Permissions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::time::Duration;

use tailfold::{CheckpointInfo, ErrorKind, Store, StoreId};
#[cfg(feature = "nats")]
use tailfold_nats::{NatsConfig, NatsStore};
#[cfg(feature = "postgres")]
use tailfold_postgres::{PostgresConfig, PostgresStore};
#[cfg(feature = "sqlite")]
use tailfold_sqlite::{SqliteConfig, SqliteStore};

#[cfg(not(feature = "redis"))]
pub(crate) use self::location::absent;
use self::location::sqlite;
pub(crate) use self::location::{LocationParser, refused};
use crate::error::{Error, Result};

const STANDARD: &str = "tailfold.db";

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "nats")))]
compile_error!("`tailfold-cli` needs a kind of store: one of the features `sqlite`, `postgres` and `nats`");

/// How long a server may take that is asked for the first time.
#[cfg(feature = "postgres")]
const SERVER_PATIENCE: Duration = Duration::from_secs(3);

/// Where a store is: a path, `sqlite:PATH`, or the URL of a store on PostgreSQL or NATS. Other schemes are refused by name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Location {
    /// A file.
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf),
    /// A schema of a PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresConfig>),
    /// Streams of NATS JetStream.
    #[cfg(feature = "nats")]
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
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteStore),
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
    #[cfg(feature = "nats")]
    Nats(NatsStore),
}

impl Location {
    /// `tailfold.db` in the working directory, for a command that `creates` it or needs it to be there.
    pub(crate) fn standard(creates: bool) -> Result<Self> {
        if cfg!(feature = "sqlite") && !creates && !Path::new(STANDARD).exists() {
            let reason = "there is no such file; name a store with --store, or make one with `tailfold demo --store tailfold.db`";
            return Err(tailfold::Error::invalid(reason).during(format!("open store `{STANDARD}`")).into());
        }
        Self::file(STANDARD.into())
    }

    /// A store in a file, if this program knows such.
    pub(crate) fn file(path: PathBuf) -> Result<Self> {
        sqlite(path)
            .map_err(|reason| Error::Refused(format!("open store: {reason}; name a store with --store")))
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
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                let config =
                    SqliteConfig::new(path).read_only(access == Access::Read).create_if_missing(create);
                Open::Sqlite(config.open().await?)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => {
                find_server(config).await?;
                Open::Postgres(config.as_ref().clone().create_if_missing(create).connect().await?)
            }
            #[cfg(feature = "nats")]
            Self::Nats(config) => {
                Open::Nats(config.as_ref().clone().create_if_missing(create).connect().await?)
            }
        })
    }

    /// Says of a place that is no store what it is, where that can be told: read models are in places of their own, and easily
    /// taken for the store that they follow.
    async fn not_a_store(&self, error: tailfold::Error) -> Error {
        let read_models: tailfold::Result<Vec<CheckpointInfo>> = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => tailfold_sqlite::checkpoints(path),
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => tailfold_postgres::checkpoints(config.as_ref().clone()).await,
            #[cfg(feature = "nats")]
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

    /// Whether it is a file, and no store on a server.
    pub(crate) fn is_file(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => true,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => false,
            #[cfg(feature = "nats")]
            Self::Nats(_) => false,
        }
    }

    /// Makes a new store here of a backup.
    pub(crate) async fn restore(&self, backup: &Path) -> Result<Open> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                SqliteStore::restore(backup, path).await?;
                self.open(Access::Write).await
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Err(server_copies("restore", backup, "pg_restore")),
            #[cfg(feature = "nats")]
            Self::Nats(config) => Ok(Open::Nats(config.as_ref().clone().restore(backup).await?)),
        }
    }
}

impl Open {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
            #[cfg(feature = "nats")]
            Self::Nats(store) => Arc::new(store.clone()),
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => store.close().await?,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.close().await?,
            #[cfg(feature = "nats")]
            Self::Nats(store) => store.close().await?,
        }
        Ok(())
    }

    pub(crate) async fn backup_to(&self, target: &Path) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Ok(store.backup_to(target).await?),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Err(server_copies("back up to", target, "pg_dump")),
            #[cfg(feature = "nats")]
            Self::Nats(store) => Ok(store.backup_to(target).await?),
        }
    }

    pub(crate) async fn reindex(&self) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Ok(store.reindex().await?),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Ok(store.reindex().await?),
            #[cfg(feature = "nats")]
            Self::Nats(_) => {
                let reason = "a store on NATS has no index of tags: a filter by tag reads the log";
                Err(tailfold::Error::unsupported(reason).during("reindex").into())
            }
        }
    }

    pub(crate) async fn reset_snapshots(&self) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Ok(store.reset_snapshots().await?),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Err(pages_are_the_servers()),
            #[cfg(feature = "nats")]
            Self::Nats(_) => Err(pages_are_the_servers()),
        }
    }

    pub(crate) async fn renew_id(&self) -> Result<StoreId> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Ok(store.renew_id().await?),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Err(id_stays()),
            #[cfg(feature = "nats")]
            Self::Nats(_) => Err(id_stays()),
        }
    }

    /// How many appends can be under way, one sent after the other, that end up in the log in the order in which they were
    /// sent.
    pub(crate) fn appends_in_order(&self) -> usize {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => 1024,
            // On connections of their own, or looking for a stream's end first, they overtake each other.
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => 1,
            #[cfg(feature = "nats")]
            Self::Nats(_) => 1,
        }
    }

    /// How many streams a commit of an import may have. More than one is worth it where commits go one after the other.
    pub(crate) fn streams_in_a_commit(&self) -> usize {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => 128,
            // Of NATS, older servers take one only.
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => 1,
            #[cfg(feature = "nats")]
            Self::Nats(_) => 1,
        }
    }

    /// What an append is when it returns. Servers sync when they are set up to: PostgreSQL is by default, NATS is not.
    pub(crate) fn appended(&self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "durable",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "committed",
            #[cfg(feature = "nats")]
            Self::Nats(_) => "acknowledged",
        }
    }

    /// Has the engine check its own file. Stores without one have nothing to check.
    pub(crate) async fn check_file(&self) -> Result<(), tailfold::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => store.check().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(()),
            #[cfg(feature = "nats")]
            Self::Nats(_) => Ok(()),
        }
    }

    /// Who may read and write the store's file, for copies of it; `None` for a store on a server.
    pub(crate) fn permissions(&self) -> Result<Option<Permissions>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => {
                let looked = std::fs::metadata(store.path());
                let failed = |error| Error::io(format!("look at `{}`", store.path().display()), error);
                Ok(Some(looked.map_err(failed)?.permissions()))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(None),
            #[cfg(feature = "nats")]
            Self::Nats(_) => Ok(None),
        }
    }

    /// Bytes on disk, the log that is not yet in the file included; on a server, the bytes that it tells.
    pub(crate) async fn bytes(&self) -> Result<u64> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => {
                let mut log = store.path().as_os_str().to_owned();
                log.push("-wal");
                Ok(size(store.path())?.unwrap_or(0) + size(Path::new(&log))?.unwrap_or(0))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Ok(store.bytes().await?),
            #[cfg(feature = "nats")]
            Self::Nats(store) => Ok(store.bytes().await?),
        }
    }
}

/// Of stores that `restore` copies.
#[cfg(any(feature = "sqlite", feature = "nats"))]
fn id_stays() -> Error {
    let reason = "`restore` makes a store with an id of its own, of a backup or of a file";
    tailfold::Error::unsupported(reason).during("renew the store's id").into()
}

/// Of stores on servers, where snapshots are not in pages of ours.
#[cfg(any(feature = "postgres", feature = "nats"))]
fn pages_are_the_servers() -> Error {
    let reason = "the server looks after its own pages; `sweep --unused-for 0` removes all snapshots that were not used today";
    tailfold::Error::unsupported(reason).during("reset the snapshots").into()
}

/// A store waits for its server, which may be starting again; whoever waits at a terminal wants to know.
#[cfg(feature = "postgres")]
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
#[cfg(feature = "postgres")]
fn server_copies(operation: &str, file: &Path, tool: &str) -> Error {
    let reason = format!(
        "a store on PostgreSQL is a schema of a database: use `{tool}` or a base backup, and `renew-id` on the copy; `export` \
         and `import` copy the events of any store"
    );
    tailfold::Error::unsupported(reason).during(format!("{operation} `{}`", file.display())).into()
}

#[cfg(feature = "sqlite")]
fn size(path: &Path) -> Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("look at `{}`", path.display()), error)),
    }
}
