//! Told to behave, the faulty store is as good as the one beneath.

use std::future::ready;

use tailfold::MemoryStore;
use tailfold_testkit::{FaultySnapshots, Fixture};

async fn fixture() -> Fixture<FaultySnapshots<MemoryStore>> {
    let store = FaultySnapshots::new(MemoryStore::new());
    Fixture::new(store.clone()).reopening(move || ready(store.clone()))
}

tailfold_testkit::snapshot_store_conformance!(fixture);
