//! Durable one-event appends by one task: what tailfold costs over rusqlite, and SQLite over a file.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::appending;
use crate::harness::{Bar, Figure, Result, Scratch, interleave};

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
    let mut samples = interleave(context.settings.pairs(9), &mut sides).await?.into_iter();
    let (bare, file) = (samples.next().unwrap_or_default(), samples.next().unwrap_or_default());
    let (name, physical) = (NAME, "append-1/physical");
    Ok(match samples.next() {
        Some(tailfold) => vec![
            Figure::of_pairs(name, UNIT, BAR, tailfold.iter().copied(), bare),
            Figure::of_pairs(physical, UNIT, PHYSICAL_BAR, tailfold, file),
        ],
        None => vec![
            Figure::of_limit(name, UNIT, BAR, bare),
            Figure::of_limit(physical, UNIT, PHYSICAL_BAR, file),
        ],
    })
}
