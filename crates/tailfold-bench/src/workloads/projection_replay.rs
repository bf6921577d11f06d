//! Loading a projection over the whole log without any snapshot: how near it comes to a `SELECT` whose rows are decoded and folded
//! as they come, and that memory does not grow with the history.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use tailfold::Repository;
use tailfold_sqlite::SqliteStore;

use super::{Context, Workload};
use crate::bare;
use crate::harness::{self, Bar, Figure, Result, Scratch, Throughput, interleave, side};
use crate::market::{self, CustomerEvent, Market};
use crate::trade::AccountEvent;

const NAME: &str = "projection-replay";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "load of a projection over 2,000,000 events of 50,000 streams, against a SELECT + serde_json + fold",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(0.5);
const MEMORY_LIMIT_MIB: f64 = 32.0;
const EVENTS: u64 = 2_000_000;
const STREAMS: u64 = 50_000;
/// Begins the name of the store for the child whose memory is measured.
pub(super) const PREFIX: &str = "projection:";

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let path = scratch.path("market.tailfold");
    let store = SqliteStore::open(&path).await?;
    market::record(&store, EVENTS, STREAMS).await?;
    // So that all of it is in the file, and none in the log.
    store.close().await?;
    let bare = path.clone();
    let mut sides = vec![side(move || {
        let bare = bare.clone();
        async move { tokio::task::spawn_blocking(move || select(&bare)).await? }
    })];
    if !context.settings.limit_only {
        let markets = repository(&path).await?;
        sides.push(side(move || load(markets.clone())));
    }
    let mut samples = interleave(context.settings.pairs(7), 1, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let Some(limit) = next() else { return Ok(Vec::new()) };
    let Some(loads) = next() else { return Ok(vec![Figure::of_limit(NAME, UNIT, BAR, limit)]) };
    let memory = harness::growth_in_child(format!("{PREFIX}{}", path.display())).await?;
    Ok(vec![
        Figure::of_pairs(NAME, UNIT, BAR, loads, limit),
        Figure::of_value("projection-replay/memory", "MiB", memory, MEMORY_LIMIT_MIB),
    ])
}

async fn repository(path: &Path) -> Result<Repository<Market>> {
    Ok(Repository::builder(SqliteStore::open(path).await?).build()?)
}

async fn load(markets: Repository<Market>) -> Result<Throughput> {
    let started = Instant::now();
    let loaded = markets.load(()).without_snapshots().await?;
    complete(black_box(loaded.state()), started)
}

/// The limit: what the fold needs of each row, decoded as SQLite hands it out.
fn select(path: &Path) -> Result<Throughput> {
    let connection = bare::reader(path)?;
    let started = Instant::now();
    let mut statement = connection.prepare("SELECT stream, type, payload FROM events ORDER BY position")?;
    let mut rows = statement.query([])?;
    let (mut market, mut streams) = (Market::default(), 0);
    while let Some(row) = rows.next()? {
        streams = streams.max(row.get::<_, i64>(0)?);
        let payload = row.get_ref(2)?.as_blob()?;
        match row.get_ref(1)?.as_str()? {
            AccountEvent::TRADED => market.trade(serde_json::from_slice(payload)?),
            CustomerEvent::PAID => market.pay(serde_json::from_slice(payload)?),
            other => return Err(format!("an event of type {other}").into()),
        }
    }
    black_box(streams);
    complete(black_box(&market), started)
}

fn complete(market: &Market, started: Instant) -> Result<Throughput> {
    let took = started.elapsed();
    match market.events {
        EVENTS => Ok(Throughput { events: EVENTS, took }),
        events => Err(format!("{events} events instead of {EVENTS}").into()),
    }
}

/// What the child does whose memory is measured.
pub(super) async fn report_memory(path: &str) -> Result<()> {
    let markets = repository(&PathBuf::from(path)).await?;
    harness::print_growth(async move { load(markets).await.map(drop) }).await
}
