//! One-event appends to NATS JetStream by one task: what tailfold costs over async-nats.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::harness::{Figure, Result};
use crate::nats_appending;

const NAME: &str = "nats-append-1";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "1-event appends of 200 bytes to JetStream, one task, against async-nats",
    run: |context| run(context).boxed(),
};

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    nats_appending::against_async_nats(NAME, &context.settings, 1).await
}
