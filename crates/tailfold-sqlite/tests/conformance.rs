//! The whole contract of stores, and what a repository promises, over files on disk.

use tailfold_sqlite::SqliteStore;
use tailfold_testkit::Fixture;

async fn fixture() -> Fixture<SqliteStore> {
    let directory = tempfile::tempdir().expect("a directory for the store");
    let path = directory.path().join("store");
    let open = move || {
        let path = path.clone();
        async move { SqliteStore::open(path).await.expect("a store that is there or can be made") }
    };
    Fixture::new(open().await).reopening(open).keeping(directory)
}

tailfold_testkit::store_conformance!(fixture);

/// What a repository promises, over files on disk.
mod repository {
    use super::fixture;

    tailfold_testkit::repository_conformance!(fixture);
}
