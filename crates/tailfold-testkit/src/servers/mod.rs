//! Servers for tests: started on private ports of the loopback interface, or in networks of their own, in directories of
//! their own, and never left behind.
//!
//! A server ends with its handle, and at the latest with the process that started it, even if that is killed or keeps the
//! handle in a `static`. What is started here is a server to test against: nothing about it is fit for production.
//!
//! Every call here blocks, for milliseconds to seconds; in an asynchronous test that is harmless before the first task.
//! Unix only: servers are watched over by `sh`.

mod loopback;
mod nats;
mod network;
mod process;

pub use nats::{NatsBuilder, NatsCluster, NatsServer, NatsVersion, nats_cluster_urls, nats_url};
