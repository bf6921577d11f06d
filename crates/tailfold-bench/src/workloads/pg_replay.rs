//! Loading a long-lived actor from PostgreSQL without any snapshot: how near it comes to a `SELECT` whose rows are decoded and
//! folded as they come, and that memory does not grow with the history.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{FutureExt as _, TryStreamExt as _};
use tailfold::Repository;

use super::{Context, Workload};
use crate::harness::{self, Bar, Figure, Result, Throughput, interleave, side};
use crate::long_history::append_many;
use crate::postgres::{self, BareQuery, Postgres};
use crate::trade::{Account, LINES_OF_1_KIB};

const NAME: &str = "pg-replay";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "PostgreSQL: load of 100,000 events without snapshots, against a streamed SELECT + serde_json + fold",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(0.5);
const MEMORY_LIMIT_MIB: f64 = 32.0;
const EVENTS: u64 = 100_000;
const ID: &str = "long";

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let postgres = Postgres::start().await?;
    append_many(&postgres.store, ID, EVENTS, LINES_OF_1_KIB).await?;
    let bare = postgres.bare().await?;
    bare.client().batch_execute("VACUUM ANALYZE").await?;
    let query = bare
        .prepare("SELECT type, payload FROM tailfold.events WHERE stream = $1 AND life = 1 ORDER BY version")
        .await?;
    let mut sides = vec![side(move || select(query.clone()))];
    if !context.settings.limit_only {
        let accounts = Repository::<Account>::builder(postgres.store.clone()).build()?;
        sides.push(side(move || load(accounts.clone())));
    }
    let mut samples = interleave(context.settings.pairs(7), 1, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let Some(bare) = next() else { return Ok(Vec::new()) };
    let Some(loads) = next() else { return Ok(vec![Figure::of_limit(NAME, UNIT, BAR, bare)]) };
    let memory = harness::growth_in_child(postgres.url()).await?;
    Ok(vec![
        Figure::of_pairs(NAME, UNIT, BAR, loads, bare),
        Figure::of_value("pg-replay/memory", "MiB", memory, MEMORY_LIMIT_MIB),
    ])
}

async fn load(accounts: Repository<Account>) -> Result<Throughput> {
    let started = Instant::now();
    let loaded = black_box(accounts.load(ID).without_snapshots().await?);
    complete(loaded.version().0, started)
}

/// The limit: no more columns than the fold needs, each row dropped before the next is looked at.
async fn select(query: BareQuery) -> Result<Throughput> {
    let started = Instant::now();
    let mut rows = pin!(query.stream(&[&format!("account/{ID}")]).await?);
    let (mut events, mut account) = (0, Account::default());
    while let Some(row) = rows.try_next().await? {
        match row.try_get(0)? {
            "account.traded" => account.trade(serde_json::from_slice(row.try_get(1)?)?),
            other => return Err(format!("an event of type {other}").into()),
        }
        events += 1;
    }
    black_box(account);
    complete(events, started)
}

fn complete(events: u64, started: Instant) -> Result<Throughput> {
    let took = started.elapsed();
    match events {
        EVENTS => Ok(Throughput { events, took }),
        events => Err(format!("{events} events instead of {EVENTS}").into()),
    }
}

/// What the child does whose memory is measured.
pub(super) async fn report_memory(url: &str) -> Result<()> {
    let accounts = Repository::<Account>::builder(postgres::connect(url).await?).build()?;
    harness::print_growth(async move { load(accounts).await.map(drop) }).await
}
