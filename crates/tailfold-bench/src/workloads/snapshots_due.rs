//! Snapshots of 100,000 aggregates on SQLite that fall due at once.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tailfold_sqlite::SqliteStore;

use super::{Context, Workload};
use crate::harness::{Figure, Result, Scratch};
use crate::snapshots_due;

const NAME: &str = "snapshots-due";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "of 100,000 snapshots that fall due at once, how many are stored",
    run: |context| run(context).boxed(),
};

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let fresh = || async {
        let scratch = Scratch::new()?;
        Ok((SqliteStore::open(scratch.path("store.tailfold")).await?, scratch))
    };
    snapshots_due::on_stores(NAME, &context.settings, fresh).await
}
