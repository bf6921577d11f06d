//! NATS servers with JetStream.

mod builder;
mod cluster;
mod server;
mod shared;
mod version;

pub use builder::NatsBuilder;
pub use cluster::NatsCluster;
pub use server::NatsServer;
pub use shared::{nats_cluster_urls, nats_url};
pub use version::NatsVersion;
