//! Loads from NATS JetStream against two bare direct gets in parallel: of the newest snapshot, and of the stream's last
//! message.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join;
use tailfold::Repository;

use crate::harness::{Bar, Figure, Latencies, Result, Settings, interleave, side};
use crate::nats::{BareNats, NatsHistory};
use crate::trade::Account;

const UNIT: &str = "us";
/// Loads of a slice, and slices of a sample, of which the median is taken.
const LOADS: usize = 200;
const SLICES: usize = 10;

pub(crate) async fn against_two_gets(
    name: &'static str,
    bar: Bar,
    settings: &Settings,
    history: &NatsHistory,
    id: &'static str,
    tail: u64,
) -> Result<Vec<Figure>> {
    let (bare, subjects) = (history.nats.bare.clone(), Arc::new(history.subjects(id)?));
    let mut sides = vec![side(move || two_gets(bare.clone(), subjects.clone()))];
    if !settings.limit_only {
        let accounts = history.accounts.clone();
        sides.push(side(move || loads(accounts.clone(), id, tail)));
    }
    let mut samples = interleave(settings.pairs(9), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(|sample| sample.p50()));
    let Some(bare) = next() else { return Ok(Vec::new()) };
    Ok(vec![match next() {
        Some(loads) => Figure::of_pairs(name, UNIT, bar, loads, bare),
        None => Figure::of_limit(name, UNIT, bar, bare),
    }])
}

async fn loads(accounts: Repository<Account>, id: &str, tail: u64) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..LOADS {
        let started = Instant::now();
        let loaded = black_box(accounts.load(id).await?);
        latencies.note(started.elapsed());
        if loaded.report().replayed_events != tail {
            return Err(format!("a tail of {tail} became {}", loaded.report().replayed_events).into());
        }
    }
    Ok(latencies)
}

async fn two_gets(bare: BareNats, subjects: Arc<[(&'static str, String); 2]>) -> Result<Latencies> {
    let [(snapshots, newest), (events, commits)] = &*subjects;
    let mut latencies = Latencies::default();
    for _ in 0..LOADS {
        let started = Instant::now();
        black_box(try_join(bare.last(snapshots, newest), bare.last(events, commits)).await?);
        latencies.note(started.elapsed());
    }
    Ok(latencies)
}
