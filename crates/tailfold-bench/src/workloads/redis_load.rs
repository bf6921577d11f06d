//! A load of a snapshot from Redis, the events in memory and no tail: what it costs over a `GETEX` and the decoding of the state.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use tailfold::{MemoryStore, Policy, Repository, Slot, SnapshotStore as _};
use tailfold_redis::RedisConfig;
use tailfold_testkit::servers::RedisServer;

use super::{Context, Workload};
use crate::encoded_state::encoded_state;
use crate::harness::{Bar, Figure, Latencies, Result, interleave, side};
use crate::long_history::append_many;
use crate::trade::{Account, LINES_OF_1_KIB};

const NAME: &str = "redis-load";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "Redis: load of a 1 KiB snapshot, no tail, events in memory, against GETEX + decode (p50)",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "us";
const BAR: Bar = Bar::AtMost(1.5);
/// Loads of a slice, and slices of a sample, of which the median is taken.
const LOADS: usize = 300;
const SLICES: usize = 10;
const ID: &str = "1787";
/// The tier's own default.
const LIFETIME_SECONDS: u64 = 90 * 24 * 60 * 60;

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let server = tokio::task::spawn_blocking(RedisServer::start).await??;
    let config: RedisConfig = server.url().parse()?;
    let snapshots = config.connect().await?;
    let store = MemoryStore::new();
    append_many(&store, ID, 1000, LINES_OF_1_KIB).await?;
    let accounts = Repository::<Account>::builder(store)
        .snapshots(Policy::every(1_000_000))
        .snapshots_in(snapshots.clone())
        .build()?;
    let loaded = accounts.load(ID).without_snapshots().await?;
    accounts.save_snapshot(&loaded).await?;
    let serial = accounts.serial().ok_or("snapshots are on")?.clone();
    let slot = Slot::new("account", serial, loaded.stream().as_str())?;
    let stored = snapshots.newest(&slot, None).await?.ok_or("the snapshot was saved")?;

    let bare = BareRedis::connect(&server.url(), &stored.bytes).await?;
    let mut sides = vec![side(move || bare.clone().loads())];
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

/// redis-rs alone, with the same envelope as a string under a key.
#[derive(Clone)]
struct BareRedis {
    connection: MultiplexedConnection,
    state: Range<usize>,
}

impl BareRedis {
    const KEY: &str = "bare:account/1787";

    async fn connect(url: &str, envelope: &Bytes) -> Result<Self> {
        let settings = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection =
            Client::open(url)?.get_multiplexed_async_connection_with_config(&settings).await?;
        redis::cmd("SET").arg(Self::KEY).arg(&envelope[..]).exec_async(&mut connection).await?;
        Ok(Self { connection, state: encoded_state(envelope)? })
    }

    async fn loads(mut self) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        for _ in 0..LOADS {
            let started = Instant::now();
            let account = self.load().await?;
            latencies.note(started.elapsed());
            black_box(account);
        }
        Ok(latencies)
    }

    async fn load(&mut self) -> Result<Account> {
        let envelope: Bytes = redis::cmd("GETEX")
            .arg(Self::KEY)
            .arg("EX")
            .arg(LIFETIME_SECONDS)
            .query_async(&mut self.connection)
            .await?;
        Ok(rmp_serde::from_slice(envelope.get(self.state.clone()).ok_or("a shorter envelope")?)?)
    }
}

/// Fails, with what to do about it, if the server's program is missing.
pub(super) fn check_server() -> Result<()> {
    RedisServer::program().map(drop).map_err(|error| format!("the workloads on Redis: {error}").into())
}
