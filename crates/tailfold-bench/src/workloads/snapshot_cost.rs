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
        let path = scratch.path("store.tailfold");
        let store = SqliteStore::open(&path).await?;
        bare::grow_log(&path)?;
        let off = repository(&store, Policy::never())?;
        let actors = Arc::new(Mutex::new(actors(&store, &off, lines).await?));
        let mut sides = vec![appending(off, actors.clone())];
        if !context.settings.limit_only {
            sides.push(appending(repository(&store, Policy::every(100))?, actors));
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

fn repository(store: &SqliteStore, policy: Policy<Account>) -> Result<Repository<Account>> {
    Ok(Repository::builder(store.clone()).snapshots(policy).build()?)
}

/// Actors with states of so many lines. Both sides append to the same ones in the same store, because two stores differ
/// by some percent for no reason that has to do with snapshots: where their files lie, for one.
async fn actors(store: &SqliteStore, accounts: &Repository<Account>, lines: u64) -> Result<Vec<Actor>> {
    let mut actors = Vec::new();
    for number in 0..TASKS as u64 {
        let id = format!("{number}");
        append_many(store, &id, lines, lines).await?;
        actors.push(Actor { account: Some(accounts.load(&id).await?), lines, number: number * 31 });
    }
    Ok(actors)
}

fn appending(accounts: Repository<Account>, actors: Arc<Mutex<Vec<Actor>>>) -> Side<'static, Latencies> {
    side(move || run_once(accounts.clone(), actors.clone()))
}

async fn run_once(accounts: Repository<Account>, actors: Arc<Mutex<Vec<Actor>>>) -> Result<Latencies> {
    let mut actors = actors.lock().await;
    // What fell due on the other side is made up for, and the actors get places of their own in the policy's interval.
    for actor in actors.iter_mut() {
        for _ in 0..=fastrand::u64(0..8) {
            actor.append(&accounts).await?;
        }
    }
    accounts.flush().await;
    let mut running = JoinSet::new();
    let started = Instant::now();
    for mut actor in actors.drain(..) {
        let accounts = accounts.clone();
        running.spawn(async move {
            let mut latencies = Latencies::default();
            while started.elapsed() < RUN {
                latencies.note(actor.append(&accounts).await?);
            }
            Ok::<_, Error>((actor, latencies))
        });
    }
    let mut all = Latencies::default();
    while let Some(ended) = running.join_next().await {
        let (actor, latencies) = ended??;
        actors.push(actor);
        all.add(latencies);
    }
    // What is left over, one snapshot an actor at most, is not to burden the other side's run.
    accounts.flush().await;
    Ok(all)
}

struct Actor {
    account: Option<Loaded<Account>>,
    lines: u64,
    number: u64,
}

impl Actor {
    /// Appends an event to the state that the last append left.
    async fn append(&mut self, accounts: &Repository<Account>) -> Result<Duration> {
        self.number += 1;
        let event = AccountEvent::settled(self.number, self.lines);
        let account = self.account.take().ok_or("an append before failed")?;
        let started = Instant::now();
        let receipt = accounts.append(account, event).await?;
        let took = started.elapsed();
        self.account = Some(receipt.into_loaded());
        Ok(took)
    }
}
