//! Where the history is kept: in a file, on PostgreSQL or on NATS JetStream, with snapshots on Redis besides or not. Nothing else
//! in this program knows which.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tailfold::{Result, SnapshotStore as _, Store, Tier};
use tailfold_nats::{NatsConfig, NatsStore};
use tailfold_postgres::{PostgresConfig, PostgresStore};
use tailfold_redis::{RedisConfig, RedisSnapshots};
use tailfold_sqlite::SqliteStore;

/// What `--store` names.
pub(crate) enum Place {
    File(PathBuf),
    Postgres(Box<PostgresConfig>),
    Nats(Box<NatsConfig>),
}

/// A store that is open.
pub(crate) enum Open {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
    Nats(NatsStore),
}

impl Place {
    pub(crate) fn named(name: &OsStr) -> Result<Self> {
        Ok(match name.to_str() {
            Some(url) if url.starts_with("nats://") || url.starts_with("tls://") => {
                Self::Nats(Box::new(url.parse()?))
            }
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Self::Postgres(Box::new(url.parse()?))
            }
            _ => Self::File(name.into()),
        })
    }

    pub(crate) async fn open(&self) -> Result<Open> {
        Ok(match self {
            Self::File(path) => Open::Sqlite(SqliteStore::open(path).await?),
            Self::Postgres(config) => Open::Postgres(config.as_ref().clone().connect().await?),
            Self::Nats(config) => Open::Nats(config.as_ref().clone().connect().await?),
        })
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

    pub(crate) async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
            Self::Nats(store) => store.close().await,
        }
    }
}

/// What `--snapshots` names: snapshots that are asked for before the store's own.
pub(crate) struct Nearer(Option<RedisSnapshots>);

impl Nearer {
    pub(crate) async fn named(url: Option<&str>) -> Result<Self> {
        Ok(Self(match url {
            Some(url) => Some(url.parse::<RedisConfig>()?.connect().await?),
            None => None,
        }))
    }

    /// Nearest first.
    pub(crate) fn tiers(&self) -> Vec<Tier> {
        // More patient than a service would be: one load is all that this program does.
        let near =
            self.0.iter().map(|redis| Tier::new("redis", redis.clone()).timeout(Duration::from_secs(1)));
        near.chain([Tier::own()]).collect()
    }

    pub(crate) async fn forget(&self, stream: &str) -> Result<()> {
        match &self.0 {
            Some(redis) => redis.forget(stream).await.map(drop),
            None => Ok(()),
        }
    }
}
