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
use crate::postgres::{self, BareQuery, EVENT_COLUMNS, Postgres};
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
    let mut sides = Vec::new();
    for (columns, places) in [("type, payload", [0, 1]), (EVENT_COLUMNS, [3, 10])] {
        let select_events =
            format!("SELECT {columns} FROM tailfold.events WHERE stream = $1 AND life = 1 ORDER BY version");
        let query = bare.prepare(&select_events).await?;
        sides.push(side(move || select(query.clone(), places)));
    }
    if !context.settings.limit_only {
        let accounts = Repository::<Account>::builder(postgres.store.clone()).build()?;
        sides.push(side(move || load(accounts.clone())));
    }
    let mut samples = interleave(context.settings.pairs(7), 1, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let names = [NAME, "pg-replay/all-columns"];
    let (Some(bare), Some(whole)) = (next(), next()) else { return Ok(Vec::new()) };
    let Some(loads) = next() else {
        return Ok(vec![
            Figure::of_limit(names[0], UNIT, BAR, bare),
            Figure::of_limit(names[1], UNIT, BAR, whole),
        ]);
    };
    let memory = harness::growth_in_child(postgres.url()).await?;
    Ok(vec![
        Figure::of_pairs(names[0], UNIT, BAR, loads.clone(), bare),
        Figure::of_pairs(names[1], UNIT, BAR, loads, whole),
        Figure::of_value("pg-replay/memory", "MiB", memory, MEMORY_LIMIT_MIB),
    ])
}

async fn load(accounts: Repository<Account>) -> Result<Throughput> {
    let started = Instant::now();
    let loaded = black_box(accounts.load(ID).without_snapshots().await?);
    complete(loaded.version().0, started)
}

/// The limits: a `SELECT` of no more columns than the fold needs, and of all that make up an event. Each row is dropped before the
/// next is looked at.
async fn select(query: BareQuery, [event_type, payload]: [usize; 2]) -> Result<Throughput> {
    let started = Instant::now();
    let mut rows = pin!(query.stream(&[&format!("account/{ID}")]).await?);
    let (mut events, mut account) = (0, Account::default());
    while let Some(row) = rows.try_next().await? {
        match row.try_get(event_type)? {
            "account.traded" => account.trade(serde_json::from_slice(row.try_get(payload)?)?),
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
