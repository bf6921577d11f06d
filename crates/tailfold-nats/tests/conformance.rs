//! The whole contract of stores, and what a repository promises, on every server that is supported.

mod support;

mod server_2_15 {
    use super::support;
    use tailfold_testkit::Fixture;
    use tailfold_nats::NatsStore;
    async fn fixture() -> Fixture<NatsStore> {
        support::fixture(vec![std::env::var("TAILFOLD_NATS_2_15_1").unwrap()], 1).await
    }
    tailfold_testkit::store_conformance!(fixture);
    mod repository {
        use super::fixture;
        tailfold_testkit::repository_conformance!(fixture);
    }
}
