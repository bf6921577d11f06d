//! The contracts, on a server that all cases use at the same time: each store has a schema of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use tailfold::EventId;
use tailfold_postgres::{PostgresConfig, PostgresStore};
use tailfold_testkit::Fixture;
use tailfold_testkit::servers::postgres_url;

async fn store() -> Fixture<PostgresStore> {
    let (_, own) = EventId::fresh().as_uuid().as_u64_pair();
    let config: PostgresConfig = postgres_url().parse().unwrap();
    let config = config.schema(format!("t_{own:016x}")).max_connections(6);
    let open = move || {
        let config = config.clone();
        async move { config.connect().await.unwrap() }
    };
    Fixture::new(open().await).reopening(open)
}

tailfold_testkit::store_conformance!(store);

mod repository {
    use super::store;

    tailfold_testkit::repository_conformance!(store);
}
