//! Durable one-event appends by one task: what tailfold costs over rusqlite, and SQLite over a file.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::appending::{self, SLICES};
use crate::harness::{Bar, Figure, Result, Scratch, Throughput, interleave};

const NAME: &str = "append-1";

pub(crate) const WORKLOAD: Workload =
    Workload { name: NAME, what: "durable 1-event appends, one task", run: |context| run(context).boxed() };

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(0.85);
const PHYSICAL_BAR: Bar = Bar::AtLeast(0.65);

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let limit_only = context.settings.limit_only;
    let mut sides = appending::all_sides(&scratch, 1, limit_only).await?;
    let mut samples = interleave(context.settings.pairs(9), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let (Some(bare), Some(file)) = (next(), next()) else { return Ok(Vec::new()) };
    let (name, physical) = (NAME, "append-1/physical");
    Ok(match next() {
        Some(tailfold) => vec![
            Figure::of_pairs(name, UNIT, BAR, tailfold.clone(), bare),
            Figure::of_pairs(physical, UNIT, PHYSICAL_BAR, tailfold, file),
        ],
        None => vec![
            Figure::of_limit(name, UNIT, BAR, bare),
            Figure::of_limit(physical, UNIT, PHYSICAL_BAR, file),
        ],
    })
}
