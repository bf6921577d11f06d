//! The reference store keeps every promise.

use tailfold::MemoryStore;
use tailfold_testkit::Fixture;

async fn fixture() -> Fixture<MemoryStore> {
    Fixture::new(MemoryStore::new())
}

tailfold_testkit::store_conformance!(fixture);
