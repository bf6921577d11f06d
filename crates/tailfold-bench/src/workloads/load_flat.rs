//! A long-lived actor loads as fast as a young one: snapshot and a tail of 50 events, after a million events and after a
//! thousand.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use tailfold::{Repository, Version};

use super::{Context, Workload};
use crate::harness::{Bar, Figure, Latencies, Result, interleave, side};
use crate::long_history::LongHistory;
use crate::trade::Account;

const NAME: &str = "load-flat";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "snapshot load with a tail of 50, at 1,000,000 events against 1,000 (p50)",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "us";
const BAR: Bar = Bar::AtMost(1.25);
const TAIL: u64 = 50;
/// Loads of a slice, and slices of a sample, of which the median is taken.
const LOADS: usize = 300;
const SLICES: usize = 10;

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let accounts = context.long_history().await?.accounts()?;
    let mut sides = Vec::new();
    for (id, events) in
        [(LongHistory::SHORT, LongHistory::SHORT_EVENTS), (LongHistory::LONG, LongHistory::LONG_EVENTS)]
    {
        let before = accounts.load(id).at(Version(events - TAIL)).without_snapshots().await?;
        accounts.save_snapshot(&before).await?;
        let accounts = accounts.clone();
        sides.push(side(move || load_often(accounts.clone(), id)));
    }
    if context.settings.limit_only {
        sides.truncate(1);
    }
    let mut samples = interleave(context.settings.pairs(10), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(|sample| sample.p50()));
    let Some(short) = next() else { return Ok(Vec::new()) };
    Ok(vec![match next() {
        Some(long) => Figure::of_pairs(NAME, UNIT, BAR, long, short),
        None => Figure::of_limit(NAME, UNIT, BAR, short),
    }])
}

async fn load_often(accounts: Repository<Account>, id: &str) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..LOADS {
        let started = Instant::now();
        let loaded = black_box(accounts.load(id).await?);
        latencies.note(started.elapsed());
        if loaded.report().replayed_events != TAIL {
            return Err(format!("a tail of {TAIL} became {}", loaded.report().replayed_events).into());
        }
    }
    Ok(latencies)
}
