//! Snapshots of many aggregates that fall due at once: how many are kept, and how long after the last commit.

use std::time::Instant;

use tailfold::{Policy, Repository, Store};
use tokio::task::JoinSet;

use crate::harness::{Bar, Error, Figure, Result, Settings};
use crate::trade::{Account, AccountEvent, LINES_OF_1_KIB};

const ACTORS: u64 = 100_000;
/// Commands under way at the same time.
const TASKS: u64 = 256;
/// What is not kept has to be made anew by a replay, so nothing less will do.
const BAR: Bar = Bar::AtLeast(1.0);

/// States with one line, and of about 1 KiB.
const SIZES: [(&str, u64); 2] = [("", 1), ("/1-KiB", LINES_OF_1_KIB)];

/// A figure for each size of states, each on a store of its own, and on what holds that. There is no other side: the limit is a
/// number.
pub(crate) async fn on_stores<S, H, F>(
    name: &str,
    settings: &Settings,
    fresh: impl Fn() -> F,
) -> Result<Vec<Figure>>
where
    S: Store + Clone + 'static,
    F: Future<Output = Result<(S, H)>>,
{
    let mut figures = Vec::new();
    for (size, lines) in SIZES.into_iter().filter(|_| !settings.limit_only) {
        let (store, _holder) = fresh().await?;
        figures.push(stored(&format!("{name}{size}"), lines, store).await?);
    }
    Ok(figures)
}

/// Each of 100,000 accounts gets one command, and each command makes a snapshot due.
async fn stored(name: &str, lines: u64, store: impl Store + Clone + 'static) -> Result<Figure> {
    let accounts = Repository::<Account>::builder(store).snapshots(Policy::every(1)).build()?;
    let mut running = JoinSet::new();
    let begun = Instant::now();
    for task in 0..TASKS {
        let accounts = accounts.clone();
        running.spawn(async move {
            for actor in (task..ACTORS).step_by(TASKS as usize) {
                let events: Vec<_> = (0..lines).map(|number| AccountEvent::traded(number, lines)).collect();
                accounts
                    .execute(actor.to_string(), |_| Ok::<_, std::convert::Infallible>(events.clone()))
                    .await??;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let appended = begun.elapsed();
    let due = Instant::now();
    accounts.flush().await;
    let stored = accounts.stats().await?.snapshots;
    eprintln!(
        "{name}: {ACTORS} commands took {appended:.1?}; the last snapshot was stored {:.1?} after the last command",
        due.elapsed()
    );
    Ok(Figure::of_pairs(name, "snapshots", BAR, [stored as f64], [ACTORS as f64]))
}
