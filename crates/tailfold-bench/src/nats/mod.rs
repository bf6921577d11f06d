//! A server of a workload's own, with a store, and with async-nats alone beside it: both sides on the same JetStream streams,
//! each with one connection.

mod bare;
mod history;
mod sample;

use tailfold_nats::NatsStore;
use tailfold_testkit::servers::{NatsServer, NatsVersion};

pub(crate) use bare::{BareNats, Shape};
pub(crate) use history::NatsHistory;
pub(crate) use sample::{append_singly, foreign_event, sample_event};

use crate::harness::{Result, Scratch};

const VERSION: NatsVersion = NatsVersion::V2_15_1;

/// One server with its defaults: one replica, files, no sync before an acknowledgement.
#[derive(Debug)]
pub(crate) struct Nats {
    pub(crate) store: NatsStore,
    pub(crate) bare: BareNats,
    server: NatsServer,
    /// Goes last: the server lives in it.
    _scratch: Scratch,
}

impl Nats {
    pub(crate) async fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let directory = scratch.path("nats");
        let start = move || NatsServer::builder(VERSION).directory(directory).start();
        let server = tokio::task::spawn_blocking(start).await??;
        let (store, bare) =
            (NatsStore::connect(&server.url()).await?, BareNats::connect(&server.url()).await?);
        Ok(Self { store, bare, server, _scratch: scratch })
    }

    /// Another connection of async-nats to the same server.
    pub(crate) async fn another_bare(&self) -> Result<BareNats> {
        BareNats::connect(&self.server.url()).await
    }

    /// Another store on the same server, which remembers nothing of the first one.
    pub(crate) async fn fresh_store(&self) -> Result<NatsStore> {
        Ok(NatsStore::connect(&self.server.url()).await?)
    }
}

/// Fails, with what to do about it, if the server's binary is missing.
pub(crate) fn check_server() -> Result<()> {
    VERSION.program().map(drop).map_err(|error| format!("the workloads on NATS: {error}").into())
}
