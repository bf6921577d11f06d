//! The whole contract of snapshot stores, on one server and on a cluster.

use tailfold::EventId;
use tailfold_redis::{RedisConfig, RedisSnapshots};
use tailfold_testkit::Fixture;
use tailfold_testkit::servers::{redis_cluster_urls, redis_url};

/// A store of its own on servers that others use too.
async fn fixture(config: RedisConfig) -> Fixture<RedisSnapshots> {
    let name = EventId::fresh().to_string().replace('-', "");
    let config = config.name(name);
    let open = move || {
        let config = config.clone();
        async move { config.connect().await.expect("a server that lets us in") }
    };
    Fixture::new(open().await).reopening(open)
}

mod one_server {
    use super::*;

    async fn fixture() -> Fixture<RedisSnapshots> {
        // Starting a server blocks.
        let url = tokio::task::block_in_place(redis_url);
        super::fixture(RedisConfig::new([url])).await
    }

    tailfold_testkit::snapshot_store_conformance!(fixture);
}

mod three_primaries {
    use super::*;

    async fn fixture() -> Fixture<RedisSnapshots> {
        let urls = tokio::task::block_in_place(redis_cluster_urls);
        super::fixture(RedisConfig::new(urls).cluster(true)).await
    }

    tailfold_testkit::snapshot_store_conformance!(fixture);
}
