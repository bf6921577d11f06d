//! Durable one-event appends by 64 tasks, each to a stream of its own: what tailfold costs over rusqlite, and SQLite over a file.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::appending;
use crate::harness::{Bar, Figure, Result};

const NAME: &str = "append-64";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "the same by 64 tasks to 64 streams, group commit",
    run: |context| run(context).boxed(),
};

const BAR: Bar = Bar::AtLeast(0.85);
const PHYSICAL_BAR: Bar = Bar::AtLeast(0.40);

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let bars = [(NAME, BAR), ("append-64/physical", PHYSICAL_BAR)];
    appending::against_rusqlite_and_file(&context.settings, 64, bars).await
}
