//! Where the history is kept: in a file, or on NATS JetStream. Nothing else in this program knows which.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use tailfold::{Result, Store};
use tailfold_nats::{NatsConfig, NatsStore};
use tailfold_sqlite::SqliteStore;

/// What `--store` names.
pub(crate) enum Place {
    File(PathBuf),
    Nats(Box<NatsConfig>),
}

/// A store that is open.
pub(crate) enum Open {
    Sqlite(SqliteStore),
    Nats(NatsStore),
}

impl Place {
    pub(crate) fn named(name: &OsStr) -> Result<Self> {
        Ok(match name.to_str() {
            Some(url) if url.starts_with("nats://") || url.starts_with("tls://") => {
                Self::Nats(Box::new(url.parse()?))
            }
            _ => Self::File(name.into()),
        })
    }

    pub(crate) async fn open(&self) -> Result<Open> {
        Ok(match self {
            Self::File(path) => Open::Sqlite(SqliteStore::open(path).await?),
            Self::Nats(config) => Open::Nats(config.as_ref().clone().connect().await?),
        })
    }
}

impl Open {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Nats(store) => Arc::new(store.clone()),
        }
    }

    pub(crate) async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Nats(store) => store.close().await,
        }
    }
}
