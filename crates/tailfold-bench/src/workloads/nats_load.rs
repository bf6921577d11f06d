//! A load of a snapshot without a tail from NATS JetStream, in a store with a million events of others: two gets, and what
//! tailfold does with them.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::harness::{Bar, Figure, Result};
use crate::nats::NatsHistory;
use crate::nats_loading;

const NAME: &str = "nats-load";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "JetStream: load of a 1 KiB snapshot, no tail, 1,000,000 foreign events, against two bare gets (p50)",
    run: |context| run(context).boxed(),
};

const BAR: Bar = Bar::AtMost(1.5);

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let history = context.nats_history().await?;
    nats_loading::against_two_gets(NAME, BAR, &context.settings, history, NatsHistory::QUIET, 0).await
}
