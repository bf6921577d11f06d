//! Servers for tests: started on private ports of the loopback interface, or in networks of their own, in directories of
//! their own, and never left behind.
//!
//! A server ends with its handle, and at the latest with the process that started it, even if that is killed or keeps the
//! handle in a `static`. What is started here is a server to test against: nothing about it is fit for production.
//!
//! Every call here blocks, for milliseconds to seconds; in an asynchronous test that is harmless before the first task. Only a
//! [`Proxy`], which loses what servers and clients say to each other, is asynchronous itself.
//! Unix only: servers are watched over by `sh`.

mod daemon;
mod loopback;
mod memcached;
mod nats;
mod network;
mod pgbouncer;
mod postgres;
mod process;
mod proxy;
mod redis;
mod shared;
mod user;

pub use memcached::MemcachedServer;
pub use nats::{NatsBuilder, NatsCluster, NatsServer, NatsVersion, nats_cluster_urls, nats_url};
pub use pgbouncer::PgBouncer;
pub use postgres::{PostgresBuilder, PostgresServer};
pub use proxy::Proxy;
pub use redis::{RedisBuilder, RedisCluster, RedisServer};
pub use shared::{memcached_address, postgres_url, redis_cluster_urls, redis_url};
