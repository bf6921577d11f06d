//! Connections that are in no pool.

use std::fmt;

use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::Failure;

/// Opens connections that are nobody else's.
#[derive(Clone)]
pub(crate) struct Dialer {
    server: Config,
    tls: MakeRustlsConnect,
}

type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl Dialer {
    pub(crate) fn new(server: Config, tls: MakeRustlsConnect) -> Self {
        Self { server, tls }
    }

    pub(crate) fn server(&self) -> &Config {
        &self.server
    }

    pub(crate) fn tls(&self) -> &MakeRustlsConnect {
        &self.tls
    }

    pub(crate) async fn dial(&self) -> Result<(Client, Connection<Socket, Encrypted>), Failure> {
        Ok(self.server.connect(self.tls.clone()).await?)
    }

    /// The rows of one statement, on a connection that is opened for it and closed after it; `None` if it
    /// fails.
    pub(crate) async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Option<Vec<Row>> {
        let (client, connection) = self.dial().await.ok()?;
        tokio::select! {
            biased;
            found = client.query(sql, values) => found.ok(),
            _ = connection => None,
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}
