//! Snapshots of 100,000 aggregates on PostgreSQL that fall due at once.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::harness::{Figure, Result};
use crate::postgres::Postgres;
use crate::snapshots_due;

const NAME: &str = "pg-snapshots-due";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "PostgreSQL: of 100,000 snapshots that fall due at once, how many are stored",
    run: |context| run(context).boxed(),
};

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let fresh = || async {
        let postgres = Postgres::start().await?;
        Ok((postgres.store.clone(), postgres))
    };
    snapshots_due::on_stores(NAME, &context.settings, fresh).await
}
