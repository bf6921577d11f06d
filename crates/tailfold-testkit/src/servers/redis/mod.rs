//! Redis servers.

mod builder;
mod client;
mod cluster;
mod server;

pub use builder::RedisBuilder;
pub use cluster::RedisCluster;
pub use server::RedisServer;
