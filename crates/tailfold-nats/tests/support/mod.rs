//! Stores for tests, on real servers.
#![allow(dead_code, reason = "each test file uses a part")]

use tailfold::EventId;
use tailfold_nats::{NatsConfig, NatsStore};
use tailfold_testkit::Fixture;

#[allow(dead_code, reason = "the other test binary takes only the name")]
/// A store of its own on a server that others use too.
pub(crate) async fn fixture(servers: Vec<String>, replicas: usize) -> Fixture<NatsStore> {
    let config = NatsConfig::new(servers).name(fresh_name()).replicas(replicas);
    let open = move || {
        let config = config.clone();
        async move { config.connect().await.expect("a store that is there or can be made") }
    };
    Fixture::new(open().await).reopening(open)
}

/// The name of a store that nobody else has.
pub(crate) fn fresh_name() -> String {
    EventId::fresh().to_string().replace('-', "")
}
