//! Stores for tests, on real servers.

use tailfold::EventId;
use tailfold_nats::{NatsConfig, NatsStore};
use tailfold_testkit::Fixture;

/// A store of its own on a server that others use too.
pub async fn fixture(servers: Vec<String>, replicas: usize) -> Fixture<NatsStore> {
    let name = format!("t{}", EventId::fresh()).replace('-', "").chars().take(32).collect::<String>();
    let store = NatsConfig::new(servers).name(name).replicas(replicas).connect().await.expect("a new store");
    Fixture::new(store)
}
