//! Panics of the user's code: told, counted, and nobody else is harmed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tailfold::{
    Binding, Clock, Day, Encryption, Event, EventMeta, Facts, Filter, Fold, MemoryStore, Moment, Opened,
    Policy, Projection, Rejection, Repository, Result, Save, Saved, Slot, SlotFilter, SnapshotBatches,
    SnapshotStore, Source, State, StateOf, StoredSnapshot, Swept, SystemClock, Tag, Tier, Timestamp, Version,
};

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    #[event(tag = "all:counters")]
    Added { amount: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "counter")]
struct Counter {
    total: u64,
}

impl Fold for Counter {
    type Event = CounterEvent;

    fn apply(&mut self, CounterEvent::Added { amount }: CounterEvent, _: &EventMeta<'_>) {
        self.total += amount;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "sum", projection)]
struct Sum {
    total: u64,
}

impl Fold for Sum {
    type Event = CounterEvent;

    fn apply(&mut self, CounterEvent::Added { amount }: CounterEvent, _: &EventMeta<'_>) {
        self.total += amount;
    }
}

impl Projection for Sum {
    type Key = ();

    fn query((): &()) -> Result<Filter> {
        Ok(Filter::tag(Tag::new("all:counters")?))
    }
}

async fn add(counters: &Repository<Counter>, id: &str) -> u64 {
    let added = counters.execute(id, |_| Ok::<_, ()>(CounterEvent::Added { amount: 1 })).await;
    added.unwrap().unwrap().state().total
}

#[tokio::test]
async fn a_policy_that_panics_takes_no_snapshot_and_leaves_the_receipt() {
    let policy = Policy::when(|moment: &Moment<'_, Counter>| {
        assert_ne!(moment.state.total, 2, "two was never thought of");
        true
    });
    let counters = Repository::builder(MemoryStore::new()).snapshots(policy).build().unwrap();
    for total in 1..=2 {
        assert_eq!(add(&counters, "1").await, total);
        counters.flush().await;
    }
    assert!(counters.stats().await.unwrap().written.get("failed").is_some_and(|failed| *failed > 0));
    let loaded = counters.load("1").await.unwrap();
    assert_eq!((loaded.state().total, loaded.report().source), (2, Source::Snapshot(Version(1))));
}

/// Panics while it is told to, before or after it waits.
#[derive(Clone, Debug)]
struct Panicking {
    inner: MemoryStore,
    panics: Arc<AtomicBool>,
}

impl Panicking {
    async fn check(&self) {
        tokio::task::yield_now().await;
        assert!(!self.panics.load(Ordering::Relaxed), "not a good day");
    }
}

#[async_trait]
impl SnapshotStore for Panicking {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        self.check().await;
        self.inner.newest(slot, at_or_below).await
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        self.check().await;
        self.inner.save(slot, save).await
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        self.inner.list(filter)
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        self.check().await;
        self.inner.compare_and_remove(slot, read).await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        self.check().await;
        self.inner.mark_used(used, day).await
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        self.check().await;
        self.inner.sweep(filter, unused_since).await
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        self.check().await;
        self.inner.forget(key).await
    }
}

#[tokio::test]
async fn a_tier_that_panics_has_failed_and_its_line_goes_on() {
    let panics = Arc::new(AtomicBool::new(true));
    let tier = Panicking { inner: MemoryStore::new(), panics: panics.clone() };
    let tiers = [Tier::new("near", tier).breaker(tailfold::Breaker::NEVER), Tier::own()];
    let builder = Repository::builder(MemoryStore::new()).snapshots(Policy::every(1)).snapshots_in(tiers);
    let counters = builder.build().unwrap();
    assert_eq!((add(&counters, "1").await, add(&counters, "1").await), (1, 2));
    let flushed = tokio::time::timeout(Duration::from_secs(20), counters.flush()).await;
    flushed.expect("a line that panicked is not waited for");
    let stats = counters.stats().await.unwrap();
    let near = stats.tiers.iter().find(|tier| &*tier.name == "near").unwrap();
    assert!(near.requests.get("failed").is_some_and(|failed| *failed >= 2), "{near:?}");
    assert_eq!(counters.load("1").await.unwrap().report().source, Source::Snapshot(Version(2)));
    panics.store(false, Ordering::Relaxed);
    assert_eq!(add(&counters, "2").await, 1);
    counters.flush().await;
    assert_eq!(counters.load("2").await.unwrap().report().tier.as_deref(), Some("near"));
}

#[tokio::test]
async fn a_decision_that_panics_lets_the_next_one_decide() {
    let store = MemoryStore::new();
    let sums = Repository::<Sum>::builder(store.clone()).build().unwrap();
    let decide = |sums: Repository<Sum>, panics: bool| async move {
        let decided = sums.decide((), move |sum| {
            assert!(!panics, "the decision was not thought through");
            Ok::<_, ()>(Facts::new().record(sum.total.to_string(), CounterEvent::Added { amount: 1 }))
        });
        decided.await.unwrap().unwrap().seen().state().total
    };
    let tasks = [false, true, false, true, false].map(|panics| tokio::spawn(decide(sums.clone(), panics)));
    let mut seen = Vec::new();
    for task in tasks {
        let ended = tokio::time::timeout(Duration::from_secs(20), task).await;
        seen.extend(ended.expect("nobody waits for one that panicked"));
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(sums.load(()).await.unwrap().state().total, 3);
}

/// Seals nothing, and panics where it is to open a snapshot.
#[derive(Debug)]
struct Forgetful;

impl Encryption for Forgetful {
    fn id(&self) -> &str {
        "plain"
    }

    fn seal(&self, plain: &[u8], _: &Binding<'_>) -> Result<Vec<u8>> {
        Ok(plain.to_vec())
    }

    fn open(&self, sealed: &[u8], binding: &Binding<'_>) -> Result<Opened> {
        assert!(!matches!(binding, Binding::Snapshot { .. }), "where is that key");
        Ok(Opened::Plain(sealed.to_vec()))
    }

    fn forgotten_keys(&self, _: &StateOf<'_>) -> Result<u64> {
        Ok(0)
    }
}

#[tokio::test]
async fn a_hook_that_panics_over_a_snapshot_costs_a_replay() {
    let builder = Repository::builder(MemoryStore::new()).snapshots(Policy::every(1));
    let counters = builder.encryption(Forgetful).build().unwrap();
    for total in 1..=2 {
        assert_eq!(add(&counters, "1").await, total);
        counters.flush().await;
    }
    let loaded = counters.load("1").await.unwrap();
    assert_eq!((loaded.state().total, loaded.report().source), (2, Source::Replay));
    assert_eq!(loaded.report().rejected.first().map(|one| one.reason), Some(Rejection::Sealed));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn flushed(counters: &Repository<Counter>) {
    let flushed = tokio::time::timeout(Duration::from_secs(20), counters.flush()).await;
    flushed.expect("what is nobody's work is not waited for");
}

#[derive(Clone, Debug, Default)]
struct Broken(Arc<AtomicBool>);

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::Relaxed), "stopped at noon");
        SystemClock.now()
    }
}

#[tokio::test]
async fn a_writer_that_panics_is_waited_for_by_nobody_and_the_next_one_writes() {
    let clock = Broken::default();
    let tiers = [Tier::new("near", MemoryStore::new()), Tier::own()];
    let builder = Repository::builder(MemoryStore::new()).snapshots(Policy::every(1)).clock(clock.clone());
    let counters = builder.snapshots_in(tiers).build().unwrap();
    add(&counters, "1").await;
    clock.0.store(true, Ordering::Relaxed);
    flushed(&counters).await;
    clock.0.store(false, Ordering::Relaxed);
    // Sealed, and then on the lines of both tiers.
    let loaded = counters.load("1").await.unwrap();
    counters.save_snapshot(&loaded).await.unwrap();
    clock.0.store(true, Ordering::Relaxed);
    flushed(&counters).await;
    clock.0.store(false, Ordering::Relaxed);
    add(&counters, "2").await;
    flushed(&counters).await;
    assert_eq!(counters.load("2").await.unwrap().report().tier.as_deref(), Some("near"));
}

#[test]
fn what_waits_when_a_runtime_ends_is_written_on_the_next_one() {
    let tiers = [Tier::new("near", MemoryStore::new()), Tier::own()];
    let builder = Repository::builder(MemoryStore::new()).snapshots(Policy::every(1)).snapshots_in(tiers);
    let counters = builder.build().unwrap();
    runtime().block_on(async {
        add(&counters, "1").await;
        // To the own tier now, to the near one by a worker.
        let loaded = counters.load("2").await.unwrap();
        let receipt = counters.append(loaded, CounterEvent::Added { amount: 1 }).await.unwrap();
        counters.save_snapshot(&receipt.into_loaded()).await.unwrap();
    });
    runtime().block_on(async {
        add(&counters, "3").await;
        flushed(&counters).await;
        for id in ["1", "2", "3"] {
            assert_eq!(counters.load(id).await.unwrap().report().tier.as_deref(), Some("near"), "{id}");
        }
    });
}

/// What is spawned on a runtime that is ending never runs; who waits for it must pause, so that the runtime can end.
#[test]
fn a_flush_on_a_runtime_that_is_ending_pauses() {
    let counters = Repository::builder(MemoryStore::new()).snapshots(Policy::every(1)).build().unwrap();
    let ending = runtime();
    let handle = ending.handle().clone();
    ending.block_on(add(&counters, "1"));
    drop(ending);
    let (paused, has_paused) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ending = handle.enter();
        let mut flush = std::pin::pin!(counters.flush());
        let polled = flush.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        paused.send(polled.is_pending()).unwrap();
    });
    assert!(has_paused.recv_timeout(Duration::from_secs(20)).expect("it pauses"));
}
