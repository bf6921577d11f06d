//! Housekeeping of snapshots on PostgreSQL: how fast those go that nobody used, and that noting uses leaves the payloads alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tailfold::{Chain, Day, Head, Keep, Save, Slot, SlotFilter, SnapshotStore as _, Version};
use tailfold_postgres::PostgresStore;

use super::{Context, Workload};
use crate::harness::{Bar, Figure, Result};
use crate::postgres::{self, BarePostgres, Postgres};

const NAME: &str = "pg-sweep";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "PostgreSQL: sweep of half of 100,000 snapshots of 1 KiB after as many uses were noted; no payload is rewritten",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "rows/s";
const BAR: Bar = Bar::AtLeast(1.0);
const LEAST_A_SECOND: f64 = 50_000.0;
const SNAPSHOTS: usize = 100_000;
const STALE: usize = SNAPSHOTS / 2;
const ENVELOPE: usize = 1 << 10;
const SERIAL: &str = "1-9f86d081884c7d65";
/// Saves on their way at the same time.
const AT_ONCE: usize = 64;
/// For the server to tell how many rows it has changed.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// There is no other side: the limits are numbers.
async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    if context.settings.limit_only {
        return Ok(Vec::new());
    }
    let postgres = Postgres::start().await?;
    let bare = postgres.bare().await?;
    let slots = (0..SNAPSHOTS).map(slot).collect::<Result<Vec<_>>>()?;
    let (stale, used) = slots.split_at(STALE);
    save(&postgres.store, &slots, Day(1)).await?;
    let mut rates = Vec::new();
    for round in 1..=context.settings.pairs(3) {
        if round > 1 {
            save(&postgres.store, stale, Day(1)).await?;
        }
        bare.client().batch_execute("VACUUM ANALYZE").await?;
        let today = Day(100 * i64::try_from(round)?);
        note_uses(&postgres, stale, Day(2)).await?;
        note_uses(&postgres, used, today).await?;
        rates.push(sweep(&postgres.store, today).await?);
    }
    let rewritten = rewritten_payloads(&bare, SNAPSHOTS * rates.len()).await?;
    let limits = rates.iter().map(|_| LEAST_A_SECOND).collect::<Vec<_>>();
    Ok(vec![
        Figure::of_pairs(NAME, UNIT, BAR, rates, limits),
        Figure::of_never("pg-sweep/rewritten", "payloads", rewritten),
    ])
}

fn slot(number: usize) -> Result<(Slot, Version)> {
    Ok((Slot::new("account", SERIAL.parse()?, &format!("account/{number}"))?, Version(1000)))
}

async fn save(store: &PostgresStore, slots: &[(Slot, Version)], day: Day) -> Result<()> {
    let mut envelope = vec![0; ENVELOPE];
    fastrand::Rng::with_seed(1).fill(&mut envelope);
    let envelope = Bytes::from(envelope);
    let saves = slots.iter().cloned().map(|(slot, version)| {
        let head = Head { version, chain: Chain::from_bytes([9; 16]) };
        let save = Save { head, bytes: envelope.clone(), keep: Keep::Newest, day };
        let store = store.clone();
        async move { store.save(&slot, save).await.map(drop) }
    });
    Ok(stream::iter(saves).buffer_unordered(AT_ONCE).try_collect::<()>().await?)
}

/// By a store that is closed after: a server's process counts what it has changed when it ends, if not before.
async fn note_uses(postgres: &Postgres, slots: &[(Slot, Version)], day: Day) -> Result<()> {
    let store = postgres::connect(&postgres.url()).await?;
    store.mark_used(slots, day).await?;
    Ok(store.close().await?)
}

async fn sweep(store: &PostgresStore, unused_since: Day) -> Result<f64> {
    let started = Instant::now();
    let swept = store.sweep(SlotFilter::default(), unused_since).await?;
    let took = started.elapsed();
    match usize::try_from(swept.snapshots)? {
        STALE => Ok(STALE as f64 / took.as_secs_f64()),
        other => Err(format!("{other} snapshots were swept instead of {STALE}").into()),
    }
}

/// How many rows of payloads were changed, once the server has counted that so many uses were noted.
async fn rewritten_payloads(bare: &BarePostgres, uses: usize) -> Result<f64> {
    let query = bare
        .prepare("SELECT n_tup_upd FROM pg_stat_user_tables WHERE schemaname = 'tailfold' AND relname = $1")
        .await?;
    let changed = async |table: &str| -> Result<i64> {
        Ok(query.rows(&[&table]).await?.first().ok_or("no such table")?.try_get(0)?)
    };
    let started = Instant::now();
    while changed("snapshots").await? < i64::try_from(uses)? {
        if started.elapsed() > COUNTED_WITHIN {
            return Err(format!("the server has not counted {uses} uses after {COUNTED_WITHIN:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(changed("snapshot_payloads").await? as f64)
}
