//! Told to behave, the faulty store is as good as the one beneath.

use tailfold::MemoryStore;
use tailfold_testkit::{FaultySnapshots, Fixture};

async fn fixture() -> Fixture<FaultySnapshots<MemoryStore>> {
    Fixture::new(FaultySnapshots::new(MemoryStore::new()))
}

tailfold_testkit::snapshot_store_conformance!(fixture);
