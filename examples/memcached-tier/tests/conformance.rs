//! The whole contract of snapshot stores, on a real memcached.

use std::future::ready;
use std::sync::OnceLock;

use memcached_tier::MemcachedTier;
use tailfold::EventId;
use tailfold_testkit::Fixture;
use tailfold_testkit::servers::MemcachedServer;

/// A store of its own, on a server that all tests of this process use.
async fn fixture() -> Fixture<MemcachedTier> {
    static SERVER: OnceLock<MemcachedServer> = OnceLock::new();
    let start = || MemcachedServer::with_items_up_to(64).expect("memcached starts");
    // Starting a server blocks.
    let address = tokio::task::block_in_place(|| SERVER.get_or_init(start).address());
    let name = EventId::fresh().to_string();
    let open = move || ready(MemcachedTier::new(&address, &name));
    Fixture::new(open().await).reopening(open)
}

tailfold_testkit::snapshot_store_conformance!(fixture);
