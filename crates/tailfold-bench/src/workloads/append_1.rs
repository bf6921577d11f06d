//! Durable one-event appends by one task: what tailfold costs over rusqlite, and SQLite over a file.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::appending;
use crate::harness::{Bar, Figure, Result};

const NAME: &str = "append-1";

pub(crate) const WORKLOAD: Workload =
    Workload { name: NAME, what: "durable 1-event appends, one task", run: |context| run(context).boxed() };

const BAR: Bar = Bar::AtLeast(0.85);
const PHYSICAL_BAR: Bar = Bar::AtLeast(0.65);

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let bars = [(NAME, BAR), ("append-1/physical", PHYSICAL_BAR)];
    appending::against_rusqlite_and_file(&context.settings, 1, bars).await
}
