//! One-event appends to PostgreSQL by 64 tasks at the same time: what they gain or lose over as many connections of tokio-postgres.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::harness::{Figure, Result};
use crate::postgres_appending;

const NAME: &str = "pg-append-64";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "the same by 64 tasks to 64 streams, against 64 connections",
    run: |context| run(context).boxed(),
};

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    postgres_appending::against_tokio_postgres(NAME, &context.settings, 64).await
}
