//! A load of a snapshot and a tail of ten events that lie far apart, from NATS JetStream: what others have written in between
//! must cost nothing.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::harness::{Bar, Figure, Result};
use crate::nats::NatsHistory;
use crate::nats_loading;

const NAME: &str = "nats-load-tail-10";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "nats-load with a tail of 10, 10,000 foreign messages apart, against the same two gets (p50)",
    run: |context| run(context).boxed(),
};

const BAR: Bar = Bar::AtMost(4.0);

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let (history, tail) = (context.nats_history().await?, NatsHistory::TAIL);
    nats_loading::against_two_gets(NAME, BAR, &context.settings, history, NatsHistory::SCATTERED, tail).await
}
