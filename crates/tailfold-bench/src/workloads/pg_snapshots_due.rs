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
    if context.settings.limit_only {
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for (size, lines) in snapshots_due::SIZES {
        let postgres = Postgres::start().await?;
        let store = postgres.store.clone();
        figures.push(snapshots_due::stored(&format!("{NAME}{size}"), lines, store).await?);
    }
    Ok(figures)
}
