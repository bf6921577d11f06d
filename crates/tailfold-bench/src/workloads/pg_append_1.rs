//! One-event appends to PostgreSQL by one task: what tailfold costs over tokio-postgres.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::harness::{Figure, Result};
use crate::postgres_appending;

const NAME: &str = "pg-append-1";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "durable 1-event appends to PostgreSQL, one task, against a prepared INSERT by tokio-postgres",
    run: |context| run(context).boxed(),
};

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    postgres_appending::against_tokio_postgres(NAME, &context.settings, 1).await
}
