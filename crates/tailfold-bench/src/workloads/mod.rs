//! One file a workload: what it runs, what its limit is, what must be reached.

mod append_1;
mod append_64;
mod append_64_tags;
mod decide_64;
mod load_flat;
mod load_snapshot;
mod nats_append_1;
mod nats_append_256;
mod nats_load;
mod nats_load_tail_10;
mod nats_replay;
mod nats_snapshot_8_mib;
mod pg_append_1;
mod pg_append_64;
mod pg_load;
mod pg_replay;
mod pg_snapshots_due;
mod pg_sweep;
mod projection_replay;
mod projection_selective;
mod redis_load;
mod replay;
mod snapshot_cost;
mod snapshots_due;
mod subscription_latency;
mod writer_cache;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::harness::{Figure, Result, Settings};
use crate::long_history::LongHistory;
use crate::nats::{self, NatsHistory};
use crate::postgres;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(Arc<Context>) -> BoxFuture<'static, Result<Vec<Figure>>>,
}

impl Workload {
    /// Whether it is run by its name only.
    fn is_long(&self) -> bool {
        self.name == writer_cache::NAME
    }
}

pub(crate) const ALL: &[Workload] = &[
    append_1::WORKLOAD,
    append_64::WORKLOAD,
    append_64_tags::WORKLOAD,
    replay::WORKLOAD,
    projection_selective::WORKLOAD,
    projection_replay::WORKLOAD,
    decide_64::WORKLOAD,
    subscription_latency::WORKLOAD,
    load_flat::WORKLOAD,
    load_snapshot::WORKLOAD,
    snapshot_cost::WORKLOAD,
    snapshots_due::WORKLOAD,
    nats_append_1::WORKLOAD,
    nats_append_256::WORKLOAD,
    nats_load::WORKLOAD,
    nats_load_tail_10::WORKLOAD,
    nats_replay::WORKLOAD,
    nats_snapshot_8_mib::WORKLOAD,
    pg_append_1::WORKLOAD,
    pg_append_64::WORKLOAD,
    pg_load::WORKLOAD,
    pg_replay::WORKLOAD,
    pg_snapshots_due::WORKLOAD,
    pg_sweep::WORKLOAD,
    redis_load::WORKLOAD,
    writer_cache::WORKLOAD,
];

pub(crate) fn named(name: &str) -> Result<Vec<Workload>> {
    let chosen =
        ALL.iter().filter(|workload| (name == "all" && !workload.is_long()) || workload.name == name);
    let chosen: Vec<_> = chosen.copied().collect();
    if chosen.is_empty() {
        let names: Vec<_> = ALL.iter().map(|workload| workload.name).collect();
        return Err(format!("no workload `{name}`: there are {} and all", names.join(", ")).into());
    }
    // Now, and not after minutes of other workloads.
    let any = |prefix: &str| chosen.iter().any(|workload| workload.name.starts_with(prefix));
    if any("nats-") || any("subscription-") {
        nats::check_server()?;
    }
    if any("pg-") || any("subscription-") {
        postgres::check_server()?;
    }
    if any("redis-") {
        redis_load::check_server()?;
    }
    Ok(chosen)
}

/// What the child does whose memory is measured, with the store that it is told.
pub(crate) async fn report_memory(store: &str) -> Result<()> {
    match store.strip_prefix(projection_replay::PREFIX) {
        Some(path) => projection_replay::report_memory(path).await,
        None if store.starts_with("postgres://") => pg_replay::report_memory(store).await,
        None => replay::report_memory(store).await,
    }
}

/// What the workloads of one run share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    long_history: OnceCell<LongHistory>,
    nats_history: OnceCell<NatsHistory>,
}

impl Context {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self { settings, long_history: OnceCell::new(), nats_history: OnceCell::new() })
    }

    /// The store with a stream of a million events, built when it is first needed.
    pub(crate) async fn long_history(&self) -> Result<&LongHistory> {
        self.long_history.get_or_try_init(LongHistory::build).await
    }

    /// The store on NATS with a million events of others, built when it is first needed.
    pub(crate) async fn nats_history(&self) -> Result<&NatsHistory> {
        self.nats_history.get_or_try_init(NatsHistory::build).await
    }
}
