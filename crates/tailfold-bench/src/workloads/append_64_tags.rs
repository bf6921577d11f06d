//! What two tags an event cost.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Context, Workload};
use crate::appending::{self, SLICES};
use crate::harness::{Bar, Figure, Result, Scratch, Throughput, interleave};

const NAME: &str = "append-64-tags";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "append-64 with two tags an event, against append-64",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(0.6);

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let mut sides = vec![appending::with_tailfold(scratch.path("plain.tailfold"), 64, false).await?];
    if !context.settings.limit_only {
        sides.push(appending::with_tailfold(scratch.path("tagged.tailfold"), 64, true).await?);
    }
    let mut samples = interleave(context.settings.pairs(9), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let Some(plain) = next() else { return Ok(Vec::new()) };
    Ok(vec![match next() {
        Some(tagged) => Figure::of_pairs(NAME, UNIT, BAR, tagged, plain),
        None => Figure::of_limit(NAME, UNIT, BAR, plain),
    }])
}
