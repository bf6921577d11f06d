//! What snapshots in the background cost the commands in front of them: 64 tasks append to 64 actors, with a snapshot every
//! 100 events and without any.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tailfold::{Loaded, Policy, Repository};
use tailfold_sqlite::SqliteStore;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::{Context, Workload};
use crate::bare;
use crate::harness::{Bar, Error, Figure, Latencies, Result, Scratch, Side, Slices as _, interleave, side};
use crate::long_history::append_many;
use crate::trade::{Account, AccountEvent, LINES_OF_1_KIB, LINES_OF_100_KIB};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "snapshot-cost",
    what: "append latency at 64 tasks with snapshots every 100 against off, 1 KiB and 100 KiB states (the worse)",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "us";
const P50_BAR: Bar = Bar::AtMost(1.05);
const P99_BAR: Bar = Bar::AtMost(1.25);
const TASKS: usize = 64;
/// How long a run takes. Not in slices: snapshots that are due when it ends are written after it, and must be few.
const RUN: Duration = Duration::from_millis(1500);

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let mut p50 = Vec::new();
    let mut p99 = Vec::new();
    for lines in [LINES_OF_1_KIB, LINES_OF_100_KIB] {
        let scratch = Scratch::new()?;
        let mut sides = vec![appending(&scratch, "off.tailfold", lines, Policy::never()).await?];
        if !context.settings.limit_only {
            sides.push(appending(&scratch, "on.tailfold", lines, Policy::every(100)).await?);
        }
        let mut samples = interleave(context.settings.pairs(10), 1, &mut sides).await?.into_iter();
        let off = samples.next().unwrap_or_default();
        let on = samples.next();
        p50.push(figure("snapshot-cost/p50", P50_BAR, on.as_deref(), &off, Latencies::p50));
        p99.push(figure("snapshot-cost/p99", P99_BAR, on.as_deref(), &off, Latencies::p99));
    }
    Ok([p50, p99].into_iter().filter_map(worse).collect())
}

fn figure(
    name: &str,
    bar: Bar,
    on: Option<&[Latencies]>,
    off: &[Latencies],
    pick: impl Fn(&Latencies) -> f64,
) -> Figure {
    match on {
        Some(on) => Figure::of_pairs(name, UNIT, bar, on.iter().map(&pick), off.iter().map(&pick)),
        None => Figure::of_limit(name, UNIT, bar, off.iter().map(&pick)),
    }
}

/// The figure with the highest ratio, with the samples of all.
fn worse(figures: Vec<Figure>) -> Option<Figure> {
    let samples = figures.iter().flat_map(|figure| figure.samples.clone()).collect();
    let worst = figures.into_iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
    Some(Figure { samples, ..worst })
}

/// Latencies of the latency of appends to actors with states of so many lines.
async fn appending(
    scratch: &Scratch,
    file: &str,
    lines: u64,
    policy: Policy<Account>,
) -> Result<Side<'static, Latencies>> {
    let path = scratch.path(file);
    let store = SqliteStore::open(&path).await?;
    bare::grow_log(&path)?;
    let accounts = Repository::<Account>::builder(store.clone()).snapshots(policy).build()?;
    let mut tasks = Vec::new();
    for task in 0..TASKS as u64 {
        let id = format!("{task}");
        append_many(&store, &id, lines, lines).await?;
        let account = accounts.load(&id).await?;
        // At places of their own in the policy's interval, as actors of a service are.
        let mut task = Task { accounts: accounts.clone(), account: Some(account), lines, number: task * 31 };
        for _ in 0..fastrand::u64(0..100) {
            task.append().await?;
        }
        tasks.push(task);
    }
    accounts.flush().await;
    let tasks = Arc::new(Mutex::new(tasks));
    Ok(side(move || sample(accounts.clone(), tasks.clone())))
}

async fn sample(accounts: Repository<Account>, tasks: Arc<Mutex<Vec<Task>>>) -> Result<Latencies> {
    let mut tasks = tasks.lock().await;
    let mut running = JoinSet::new();
    let started = Instant::now();
    for mut task in tasks.drain(..) {
        running.spawn(async move {
            let mut latencies = Latencies::default();
            while started.elapsed() < RUN {
                latencies.note(task.append().await?);
            }
            Ok::<_, Error>((task, latencies))
        });
    }
    let mut all = Latencies::default();
    while let Some(ended) = running.join_next().await {
        let (task, latencies) = ended??;
        tasks.push(task);
        all.add(latencies);
    }
    // What is left over, one snapshot an actor at most, is not to burden the other side's run.
    accounts.flush().await;
    Ok(all)
}

struct Task {
    accounts: Repository<Account>,
    account: Option<Loaded<Account>>,
    lines: u64,
    number: u64,
}

impl Task {
    /// Appends an event to the state that the last append left.
    async fn append(&mut self) -> Result<Duration> {
        self.number += 1;
        let event = AccountEvent::settled(self.number, self.lines);
        let account = self.account.take().ok_or("an append before failed")?;
        let started = Instant::now();
        let receipt = self.accounts.append(account, event).await?;
        let took = started.elapsed();
        self.account = Some(receipt.into_loaded());
        Ok(took)
    }
}
