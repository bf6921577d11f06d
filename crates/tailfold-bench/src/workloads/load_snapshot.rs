//! What a snapshot load costs over its statements and the decoding of the state.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use tailfold::{Policy, Repository, Slot, SnapshotStore as _, StreamId};
use tailfold_sqlite::SqliteStore;

use super::{Context, Workload};
use crate::bare::{BareReaders, SnapshotQuery};
use crate::encoded_state::encoded_state;
use crate::harness::{Bar, Figure, Latencies, Result, Scratch, interleave, side};
use crate::long_history::append_many;
use crate::trade::{Account, LINES_OF_1_KIB};

const NAME: &str = "load-snapshot";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "snapshot load, no tail, 1 KiB state, against its statements + decode (p50)",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "us";
const BAR: Bar = Bar::AtMost(1.5);
/// Loads of a slice, and slices of a sample, of which the median is taken.
const LOADS: usize = 300;
const SLICES: usize = 10;
const ID: &str = "1787";

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let path = scratch.path("store.tailfold");
    let store = SqliteStore::open(&path).await?;
    append_many(&store, ID, 1000, LINES_OF_1_KIB).await?;
    let accounts = Repository::<Account>::builder(store.clone()).snapshots(Policy::every(100)).build()?;
    let loaded = accounts.load(ID).without_snapshots().await?;
    accounts.save_snapshot(&loaded).await?;

    let query = Arc::new(query(&store, &accounts, loaded.stream()).await?);
    let readers = BareReaders::new(path);
    let bare = side(move || bare_loads(readers.clone(), query.clone()));
    let mut sides = vec![bare];
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

async fn query(
    store: &SqliteStore,
    accounts: &Repository<Account>,
    stream: &StreamId,
) -> Result<SnapshotQuery> {
    let serial = accounts.serial().ok_or("snapshots are on")?.clone();
    let slot = Slot::new("account", serial.clone(), stream.as_str())?;
    let stored = store.newest(&slot, None).await?.ok_or("the snapshot was saved")?;
    Ok(SnapshotQuery {
        fold: slot.fold().into(),
        serial: serial.as_str().into(),
        stream: stream.as_str().into(),
        payload: encoded_state(&stored.bytes)?,
    })
}

async fn loads(accounts: Repository<Account>) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..LOADS {
        let started = Instant::now();
        let loaded = black_box(accounts.load(ID).await?);
        latencies.note(started.elapsed());
        if loaded.report().replayed_events != 0 {
            return Err("the snapshot did not serve".into());
        }
    }
    Ok(latencies)
}

async fn bare_loads(readers: BareReaders, query: Arc<SnapshotQuery>) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..LOADS {
        let started = Instant::now();
        black_box(readers.load(&query).await?);
        latencies.note(started.elapsed());
    }
    Ok(latencies)
}
