//! Loading a long-lived actor without any snapshot: how near it comes to decoding and folding what lies in memory, and that
//! memory does not grow with the history.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use tailfold::{Event as _, Repository};
use tailfold_sqlite::SqliteStore;

use super::{Context, Workload};
use crate::harness::{self, Bar, Figure, Result, Throughput, interleave, side};
use crate::long_history::LongHistory;
use crate::trade::{Account, AccountEvent, LINES_OF_1_KIB};

const NAME: &str = "replay";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "load of 1,000,000 JSON events without snapshots, against serde_json + fold in memory",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(0.50);
const MEMORY_LIMIT_MIB: f64 = 32.0;

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let payloads = Arc::new(Payloads::of_the_long_stream()?);
    let rounds = context.settings.pairs(7);
    let limit = side(move || {
        let payloads = payloads.clone();
        async move { tokio::task::spawn_blocking(move || payloads.fold()).await? }
    });
    if context.settings.limit_only {
        let samples = interleave(rounds, 1, &mut [limit]).await?;
        return Ok(vec![Figure::of_limit(
            NAME,
            UNIT,
            BAR,
            samples.into_iter().flatten().map(Throughput::per_second),
        )]);
    }
    let history = context.long_history().await?;
    let accounts = history.accounts()?;
    let load = side(move || load(accounts.clone()));
    let mut samples = interleave(rounds, 1, &mut [limit, load]).await?.into_iter();
    let mut next = || samples.next().into_iter().flatten().map(Throughput::per_second);
    let (limit, loads) = (next(), next());
    let memory = harness::growth_in_child(history.path().to_owned()).await?;
    Ok(vec![
        Figure::of_pairs(NAME, UNIT, BAR, loads, limit),
        Figure::of_value("replay/memory", "MiB", memory, MEMORY_LIMIT_MIB),
    ])
}

async fn load(accounts: Repository<Account>) -> Result<Throughput> {
    let started = Instant::now();
    let loaded = accounts.load(LongHistory::LONG).without_snapshots().await?;
    let took = started.elapsed();
    if loaded.version().0 != LongHistory::LONG_EVENTS {
        return Err(format!("the load ended at version {}", loaded.version()).into());
    }
    black_box(loaded);
    Ok(Throughput { events: LongHistory::LONG_EVENTS, took })
}

/// The bytes that the stream's events carry, one after the other.
struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Payloads {
    fn of_the_long_stream() -> Result<Self> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for number in 0..LongHistory::LONG_EVENTS {
            bytes.extend(AccountEvent::traded(number, LINES_OF_1_KIB).encode()?);
            ends.push(bytes.len());
        }
        Ok(Self { bytes, ends })
    }

    fn fold(&self) -> Result<Throughput> {
        let mut account = Account::default();
        let started = Instant::now();
        let mut begin = 0;
        for end in &self.ends {
            let payload = self.bytes.get(begin..*end).ok_or("payloads are in order")?;
            account.trade(serde_json::from_slice(black_box(payload))?);
            begin = *end;
        }
        let took = started.elapsed();
        black_box(account);
        Ok(Throughput { events: self.ends.len() as u64, took })
    }
}

/// What the child does whose memory is measured.
pub(crate) async fn report_memory(path: &str) -> Result<()> {
    let accounts = Repository::<Account>::builder(SqliteStore::open(path).await?).build()?;
    harness::print_growth(async move { load(accounts).await.map(drop) }).await
}
