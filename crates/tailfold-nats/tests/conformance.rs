//! The whole contract of stores on every kind of server that is supported, and what a repository promises on the oldest and on
//! the newest: the store uses nothing that came after 2.12.

mod support;

use tailfold_testkit::servers::{NatsVersion, nats_cluster_urls, nats_url};

macro_rules! conformance_on {
    ($name:ident, $servers:expr, $replicas:expr $(, $repository:ident)?) => {
        mod $name {
            use super::*;
            use tailfold_nats::NatsStore;
            use tailfold_testkit::Fixture;

            async fn fixture() -> Fixture<NatsStore> {
                // Starting servers blocks.
                let urls = tokio::task::block_in_place($servers);
                super::support::fixture(urls, $replicas).await
            }

            tailfold_testkit::store_conformance!(fixture);

            $(
                /// What a repository promises.
                mod $repository {
                    use super::fixture;

                    tailfold_testkit::repository_conformance!(fixture);
                }
            )?
        }
    };
}

conformance_on!(one_server_of_2_15, || vec![nats_url(NatsVersion::V2_15_1)], 1, repository);
conformance_on!(one_server_of_2_12, || vec![nats_url(NatsVersion::V2_12_8)], 1);
conformance_on!(one_server_of_2_9, || vec![nats_url(NatsVersion::V2_9_10)], 1, repository);
conformance_on!(three_servers_of_2_15, nats_cluster_urls, 3, repository);
