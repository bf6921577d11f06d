//! Servers that all tests of a process, or of a whole run, have in common.
//!
//! Each is the one that an environment variable names; without it, one that is started at the first call and ends with this
//! process. `cargo xtask test` sets the variables, so that a whole run shares its servers.

use std::env;
use std::io;
use std::sync::OnceLock;

use super::{MemcachedServer, PostgresServer, RedisCluster, RedisServer};

/// The URL of a PostgreSQL server that many tests use at the same time; work in a schema or database of your own. Its user may
/// do everything.
///
/// It is the one that the environment variable `TAILFOLD_POSTGRES` names; without it, one that is started at the first call and
/// ends with this process. `cargo xtask test` sets the variable, so that a whole run shares its servers.
///
/// # Panics
///
/// If the server does not start, with what to install if it is missing.
pub fn postgres_url() -> String {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    named_by("TAILFOLD_POSTGRES")
        .unwrap_or_else(|| SERVER.get_or_init(|| started(PostgresServer::start())).url())
}

/// The URL of a Redis server that many tests use at the same time, as [`postgres_url`] does for PostgreSQL; work with keys of
/// your own. The environment variable is `TAILFOLD_REDIS`.
///
/// # Panics
///
/// If the server does not start, with what to install if it is missing.
pub fn redis_url() -> String {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    named_by("TAILFOLD_REDIS").unwrap_or_else(|| SERVER.get_or_init(|| started(RedisServer::start())).url())
}

/// The URLs of the nodes of a Redis Cluster that many tests use at the same time, as [`redis_url`] does for one server. The
/// environment variable is `TAILFOLD_REDIS_CLUSTER`: URLs with commas between them.
///
/// # Panics
///
/// If the cluster does not start, with what to install if it is missing.
pub fn redis_cluster_urls() -> Vec<String> {
    static CLUSTER: OnceLock<RedisCluster> = OnceLock::new();
    match named_by("TAILFOLD_REDIS_CLUSTER") {
        Some(urls) => urls.split(',').map(|url| url.trim().to_owned()).collect(),
        None => CLUSTER.get_or_init(|| started(RedisCluster::start())).urls(),
    }
}

/// The address of a memcached that many tests use at the same time, `HOST:PORT`, as [`postgres_url`] does for PostgreSQL; work
/// with keys of your own. The environment variable is `TAILFOLD_MEMCACHED`.
///
/// # Panics
///
/// If the server does not start, with what to install if it is missing.
pub fn memcached_address() -> String {
    static SERVER: OnceLock<MemcachedServer> = OnceLock::new();
    named_by("TAILFOLD_MEMCACHED")
        .unwrap_or_else(|| SERVER.get_or_init(|| started(MemcachedServer::start())).address())
}

pub(super) fn named_by(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.trim().is_empty())
}

fn started<S>(server: io::Result<S>) -> S {
    server.unwrap_or_else(|error| panic!("the shared server: {error}"))
}
