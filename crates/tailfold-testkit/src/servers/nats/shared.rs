//! Servers that all tests of a process, or of a whole run, have in common.

use std::sync::OnceLock;

use super::{NatsCluster, NatsServer, NatsVersion};
use crate::servers::shared::named_by;

/// The URL of a server that many tests use at the same time; work in names of your own.
///
/// It is the one that the environment variable [`NatsVersion::environment`] names; without it, one that is started at the
/// first call and ends with this process. `cargo xtask test` sets the variables, so that a whole run shares its servers.
///
/// # Panics
///
/// If the server does not start, with what to do about it where it is known.
pub fn nats_url(version: NatsVersion) -> String {
    static V2_15_1: OnceLock<NatsServer> = OnceLock::new();
    static V2_12_8: OnceLock<NatsServer> = OnceLock::new();
    static V2_9_10: OnceLock<NatsServer> = OnceLock::new();
    if let Some(url) = named_by(&version.environment()) {
        return url;
    }
    let server = match version {
        NatsVersion::V2_15_1 => &V2_15_1,
        NatsVersion::V2_12_8 => &V2_12_8,
        NatsVersion::V2_9_10 => &V2_9_10,
    };
    server
        .get_or_init(|| {
            NatsServer::start(version).unwrap_or_else(|error| panic!("the shared server: {error}"))
        })
        .url()
}

/// The URLs of a cluster of three 2.15.1 servers that many tests use at the same time, as [`nats_url`] does for one server.
/// The environment variable is `TAILFOLD_NATS_CLUSTER`: URLs with commas between them.
///
/// # Panics
///
/// If the cluster does not start, with what to do about it where it is known.
pub fn nats_cluster_urls() -> Vec<String> {
    static CLUSTER: OnceLock<NatsCluster> = OnceLock::new();
    if let Some(urls) = named_by("TAILFOLD_NATS_CLUSTER") {
        return urls.split(',').map(|url| url.trim().to_owned()).collect();
    }
    CLUSTER
        .get_or_init(|| {
            NatsCluster::start(NatsVersion::V2_15_1, 3)
                .unwrap_or_else(|error| panic!("the shared cluster: {error}"))
        })
        .urls()
}
