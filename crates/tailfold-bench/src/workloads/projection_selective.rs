//! What a projection reads of a log that is mostly not its own: one event of a hundred, found by the index of kinds, against
//! a scan that tests the type of each, and against the same rows by the same index without tailfold.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_util::{FutureExt as _, TryStreamExt as _};
use tailfold::{
    Commit, Event as _, EventData, EventStore as _, EventType, Expected, Filter, Follow, NewEvent, Position,
    StreamId,
};
use tailfold_sqlite::SqliteStore;

use super::{Context, Workload};
use crate::appending;
use crate::bare::{self, Found};
use crate::harness::{Bar, Figure, Result, Scratch, Throughput, interleave, side};
use crate::trade::{AccountEvent, LINES_OF_1_KIB, Settlement};

const NAME: &str = "projection-selective";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "one type, 1 % of 2,000,000 events, against a bare scan filtered by type",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(10.0);
/// The rows are the same; what is left to tailfold is pages, their transactions, and events instead of columns.
const INDEX_BAR: Bar = Bar::AtLeast(0.50);
const VISITED_BAR: Bar = Bar::AtMost(1.2);

const EVENTS: u64 = 2_000_000;
/// One event of so many is wanted.
const ONE_OF: u64 = 100;
const MATCHES: u64 = EVENTS / ONE_OF;
const STREAMS: u64 = 200;
const COMMIT: u64 = 1000;

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let path = scratch.path("selective.tailfold");
    build(&path).await?;
    let rounds = context.settings.pairs(7);
    let limit_by = |found| {
        let path = path.clone();
        side(move || limit(path.clone(), found))
    };
    let (by_scan, by_index) = (limit_by(Found::ByScan), limit_by(Found::ByIndex));
    if context.settings.limit_only {
        let samples = interleave(rounds, 1, &mut [by_scan]).await?;
        let samples = samples.into_iter().flatten().map(Throughput::per_second);
        return Ok(vec![Figure::of_limit(NAME, UNIT, BAR, samples)]);
    }
    let store = SqliteStore::open(&path).await?;
    let reading = store.clone();
    let read = side(move || read(reading.clone()));
    let mut samples = interleave(rounds, 1, &mut [by_scan, by_index, read]).await?.into_iter();
    let mut next = || samples.next().into_iter().flatten().map(Throughput::per_second).collect::<Vec<_>>();
    let (by_scan, by_index, reads) = (next(), next(), next());
    let visited = visited(&store).await?;
    store.close().await?;
    Ok(vec![
        Figure::of_pairs(NAME, UNIT, BAR, reads.iter().copied(), by_scan),
        Figure::of_pairs("projection-selective/index", UNIT, INDEX_BAR, reads, by_index),
        Figure::of_pairs(
            "projection-selective/visited",
            "rows",
            VISITED_BAR,
            [visited as f64],
            [MATCHES as f64],
        ),
    ])
}

/// Trades on many streams in turn, with a settlement after each ninety-nine of them.
async fn build(path: &Path) -> Result<()> {
    let store = SqliteStore::open(path).await?;
    let (traded, settled) = (EventType::new(AccountEvent::TRADED)?, EventType::new(AccountEvent::SETTLED)?);
    let metadata = appending::metadata()?;
    for commit in 0..EVENTS / COMMIT {
        let mut batch = Vec::with_capacity(COMMIT as usize);
        for number in commit * COMMIT..(commit + 1) * COMMIT {
            let (event_type, event) = if number % ONE_OF == ONE_OF - 1 {
                (&settled, AccountEvent::settled(number, LINES_OF_1_KIB))
            } else {
                (&traded, AccountEvent::traded(number, LINES_OF_1_KIB))
            };
            let mut data = EventData::new(event_type.clone(), event.encode()?);
            data.metadata = metadata.clone();
            batch.push(NewEvent::new(data)?);
        }
        let stream = StreamId::new(AccountEvent::CATEGORY, &(commit % STREAMS).to_string())?;
        store.append(Commit::new(stream, Expected::Any, batch)).await?;
    }
    // So that all of it is in the file, and none in the log.
    Ok(store.close().await?)
}

/// A limit: no envelope of an event, the wanted payloads decoded.
async fn limit(path: PathBuf, found: Found) -> Result<Throughput> {
    let started = Instant::now();
    let reading = tokio::task::spawn_blocking(move || {
        bare::events_of_type(&path, AccountEvent::SETTLED, found, |payload| {
            black_box(serde_json::from_slice::<Settlement>(payload)?);
            Ok(())
        })
    });
    let events = reading.await??;
    let took = started.elapsed();
    check(events)?;
    Ok(Throughput { events, took })
}

async fn read(store: SqliteStore) -> Result<Throughput> {
    let started = Instant::now();
    let mut events = 0;
    let mut log = store.read_all(Position::ZERO, filter()?, Follow::ToEnd);
    while let Some(batch) = log.try_next().await? {
        for event in &batch.events {
            black_box(serde_json::from_slice::<Settlement>(&event.data.payload)?);
        }
        events += batch.events.len() as u64;
    }
    let took = started.elapsed();
    check(events)?;
    Ok(Throughput { events, took })
}

/// What one read looks at: rows of the log or entries of the index, whichever are more.
async fn visited(store: &SqliteStore) -> Result<u64> {
    let (rows_before, entries_before) = store.visited();
    read(store.clone()).await?;
    let (rows, entries) = store.visited();
    Ok((rows - rows_before).max(entries - entries_before))
}

fn filter() -> Result<Filter> {
    Ok(Filter::all().and_types([EventType::new(AccountEvent::SETTLED)?]))
}

fn check(events: u64) -> Result<()> {
    if events == MATCHES {
        Ok(())
    } else {
        Err(format!("{events} events matched instead of {MATCHES}").into())
    }
}
