//! A load of a snapshot and a tail of ten events from PostgreSQL, in one round trip: what it costs over one prepared `SELECT`
//! that brings the same bytes from a plain table.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use tailfold::{Policy, Repository};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Context, Workload};
use crate::harness::{Bar, Figure, Latencies, Result, interleave, side};
use crate::long_history::append_many;
use crate::nats::append_singly;
use crate::postgres::{BarePostgres, BareQuery, EVENT_COLUMNS, Postgres};
use crate::trade::{Account, LINES_OF_1_KIB};

const NAME: &str = "pg-load";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "PostgreSQL: load of a 1 KiB snapshot and a tail of 10, against a SELECT of the same bytes (p50)",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "us";
const BAR: Bar = Bar::AtMost(1.3);
/// Loads of a slice, and slices of a sample, of which the median is taken.
const LOADS: usize = 200;
const SLICES: usize = 10;
const ID: &str = "measured";
const EVENTS: u64 = 1000;
const TAIL: u64 = 10;
/// What else is in both tables: streams of ten events, and copies of the rows.
const OTHERS: i64 = 1000;
/// The copy that is read: snapshot, the event that it is anchored at, tail.
const COPY: i64 = OTHERS / 2;
const ROWS: usize = TAIL as usize + 2;

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let postgres = Postgres::start().await?;
    let accounts = history(&postgres).await?;
    let bare = postgres.bare().await?;
    copy_rows(&bare).await?;
    let query = bare
        .prepare(&format!("SELECT {EVENT_COLUMNS} FROM bare.loads WHERE key = $1 ORDER BY number"))
        .await?;
    let mut sides = vec![side(move || selects(query.clone()))];
    if !context.settings.limit_only {
        sides.push(side(move || loads(accounts.clone())));
    }
    let mut samples = interleave(context.settings.pairs(9), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(|sample| sample.p50()));
    let Some(bare) = next() else { return Ok(Vec::new()) };
    Ok(vec![match next() {
        Some(loads) => Figure::of_pairs(NAME, UNIT, BAR, loads, bare),
        None => Figure::of_limit(NAME, UNIT, BAR, bare),
    }])
}

async fn history(postgres: &Postgres) -> Result<Repository<Account>> {
    let store = &postgres.store;
    for other in 0..OTHERS {
        append_many(store, &other.to_string(), 10, LINES_OF_1_KIB).await?;
    }
    let head = append_many(store, ID, EVENTS, LINES_OF_1_KIB).await?;
    let accounts =
        Repository::<Account>::builder(store.clone()).snapshots(Policy::every(1_000_000)).build()?;
    accounts.save_snapshot(&accounts.load(ID).without_snapshots().await?).await?;
    append_singly(store, ID, head, TAIL, LINES_OF_1_KIB).await?;
    Ok(accounts)
}

/// What a load needs, in a table of its own, many times under different keys.
async fn copy_rows(bare: &BarePostgres) -> Result<()> {
    bare.client()
        .batch_execute(&format!(
            "CREATE SCHEMA bare;
             CREATE TABLE bare.loads AS
                 SELECT key, number, {EVENT_COLUMNS}
                 FROM generate_series(1, {OTHERS}::bigint) AS key CROSS JOIN (
                     SELECT 0::bigint AS number, NULL::bigint AS position, s.version, NULL::uuid AS id, NULL::text AS type,
                            s.used AS schema_version, NULL::bigint AS recorded_at, NULL::boolean AS origin,
                            NULL::bytea AS metadata, s.chain, NULL::text[] AS tags, p.envelope AS payload
                     FROM tailfold.snapshots s JOIN tailfold.snapshot_payloads p ON p.snapshot = s.ref
                     UNION ALL
                     SELECT version, {EVENT_COLUMNS} FROM tailfold.events
                     WHERE stream = 'account/{ID}' AND version >= {EVENTS}) AS rows
                 ORDER BY key, number;
             ALTER TABLE bare.loads ADD PRIMARY KEY (key, number);"
        ))
        .await?;
    // In a transaction of its own, as it must be. Both sides' tables.
    Ok(bare.client().batch_execute("VACUUM ANALYZE").await?)
}

async fn loads(accounts: Repository<Account>) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..LOADS {
        let started = Instant::now();
        let loaded = black_box(accounts.load(ID).await?);
        latencies.note(started.elapsed());
        if loaded.report().replayed_events != TAIL {
            return Err(format!("a tail of {TAIL} became {}", loaded.report().replayed_events).into());
        }
    }
    Ok(latencies)
}

async fn selects(query: BareQuery) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..LOADS {
        let started = Instant::now();
        let found = query.rows(&[&COPY]).await?;
        found.iter().try_for_each(read_out)?;
        latencies.note(started.elapsed());
        if found.len() != ROWS {
            return Err(format!("{} rows instead of {ROWS}", found.len()).into());
        }
    }
    Ok(latencies)
}

/// Every column, without a copy of what it holds.
fn read_out(row: &Row) -> Result<()> {
    let place: (Option<i64>, i64) = (row.try_get(0)?, row.try_get(1)?);
    let kind: (Option<Uuid>, Option<&str>, i64) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
    let about: (Option<i64>, Option<bool>, Option<&[u8]>) =
        (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    let held: (&[u8], Option<Vec<&str>>, &[u8]) = (row.try_get(8)?, row.try_get(9)?, row.try_get(10)?);
    black_box((place, kind, about, held));
    Ok(())
}
