//! A server of a workload's own with a store of the defaults, and tokio-postgres alone beside it, in the same database.

mod bare;

use tailfold_postgres::{PostgresConfig, PostgresStore};
use tailfold_testkit::servers::PostgresServer;

pub(crate) use bare::{BareEvents, BarePostgres, BareQuery, EVENT_COLUMNS};

use crate::harness::{Result, Scratch};

#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) store: PostgresStore,
    server: PostgresServer,
}

impl Postgres {
    /// A server that waits for the disk at each commit, as it does by default, and has 300 connections.
    pub(crate) async fn start() -> Result<Self> {
        let server = PostgresServer::builder()
            .temporary_in(Scratch::place()?)
            .fsync(true)
            .config_line("synchronous_commit = on");
        let server = tokio::task::spawn_blocking(|| server.start()).await??;
        let store = connect(&server.url()).await?;
        Ok(Self { store, server })
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// A connection of tokio-postgres.
    pub(crate) async fn bare(&self) -> Result<BarePostgres> {
        BarePostgres::connect(&self.url()).await
    }
}

/// A store with all its settings at their defaults.
pub(crate) async fn connect(url: &str) -> Result<PostgresStore> {
    Ok(url.parse::<PostgresConfig>()?.connect().await?)
}

/// Fails, with what to do about it, if the server's programs are missing.
pub(crate) fn check_server() -> Result<()> {
    PostgresServer::programs()
        .map(drop)
        .map_err(|error| format!("the workloads on PostgreSQL: {error}").into())
}
