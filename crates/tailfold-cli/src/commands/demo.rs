//! `demo`: what snapshots do, on real data.

mod summary;

use std::path::PathBuf;
use std::sync::Arc;

use tailfold::{Aggregate, Policy, Repository, State as _, Store};

use self::summary::{Summary, print, summarize};
use crate::demo::aircraft::Aircraft;
use crate::demo::airport::Airport;
use crate::demo::compare::{compare, time_loads};
use crate::demo::dashboard::record_and_load;
use crate::demo::delays::DelaysByCarrier;
use crate::demo::flights::{EMBEDDED_ROWS, Input};
use crate::demo::import::Import;
use crate::demo::oracle::Oracle;
use crate::error::{Error, Result};
use crate::numbers::whole;
use crate::output::{Output, grouped};
use crate::progress::Progress;
use crate::store::{Access, Location, Open};
use crate::tier::{SnapshotLocation, Tiers};

pub(crate) const HELP: &str = "\
Every row is an event of its airport (`airport/JFK`) and, where it has a tail number, of its aircraft \
(`aircraft/N14228`): one durable append each (on a server, as durable as that makes it), many under way, \
with a snapshot every 100 events. Then every actor is loaded by replay and by snapshot + tail, and both \
are compared with sums made straight from the file.

On the way, a dashboard is loaded, a projection `delays-by-carrier` over all aircraft and airports: by \
replay when most of the file is recorded, and from its snapshot after 1, 100 and 10,000 events more (of \
a small file, a quarter of its events at most). Each time it must equal a pass over as much of the file, \
and have replayed exactly the new events. A store that holds all of the file already gets one load.

The data: 80,789 flights that left New York in early 2013 (US Bureau of Transportation Statistics, CC0), \
part of this program. An input of your own needs the columns year, month, day, sched_dep_time, \
dep_delay, arr_delay, carrier, flight, tailnum, origin, dest, air_time and distance; `NA` stands for \
unknown. A row that is malformed ends the import with its line number; the rows before it are recorded. \
Run it again on the same store to go on: of each stream, as many rows as it has events are skipped.

Without --store, the store is a temporary one. With --snapshots, snapshots go to that tier and to the \
store, and loads take them from the tier; what belongs to a temporary store is removed from there at the \
end. With --json, one object: flights, events, aircraft, aircraft_equal, airports, airports_equal, \
dashboard_loads, dashboard_equal, dashboard_tails (loads after new events), dashboard_tails_exact, \
dashboard (each load), snapshots (of the actors), average_replay_events (of loads that a snapshot \
served), replay_load_us_p50 and snapshot_load_us_p50 (of the airports, 30 loads each), and more. Exit \
code 3 if any state differs.

Examples:
  tailfold demo
  tailfold demo --store flights.db && tailfold --store flights.db state airport/JFK --as-of 2013-02-01
  tailfold demo --store nats://localhost:4222/flights
  tailfold demo --store postgres://ada@localhost/flights --snapshots redis://localhost
  tailfold demo --input flights.csv.gz --json";

const EVERY: u64 = 100;
const ROUNDS: u32 = 30;

/// What to import, and how.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Flights as CSV, plain or gzip. Default: the flights that are part of this program.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Appends under way at most, for each of the two kinds of actors.
    #[arg(
        long, value_name = "N", default_value_t = 32, allow_negative_numbers = true,
        value_parser = whole(1..=1024_u16, "a whole number of appends, 1 to 1024, as in `--lanes 32`")
    )]
    lanes: u16,
}

pub(crate) async fn run(
    store: Option<Location>,
    snapshots: Option<&SnapshotLocation>,
    options: Options,
    output: &mut Output,
) -> Result<()> {
    // Declared before the store, so that it goes after it.
    let temporary;
    let location = match &store {
        Some(location) => location.clone(),
        None => {
            temporary =
                tempfile::tempdir().map_err(|error| Error::io("make a temporary directory", error))?;
            Location::file(temporary.path().join("demo.db"))?
        }
    };
    // Before a store is created for nothing.
    let input = options.input.map_or(Input::Embedded, Input::File);
    input.records()?;
    let open = location.open(Access::Create).await?;
    let done = match Tiers::open(snapshots, &open).await {
        Ok(tiers) => {
            measure(&open, &tiers, store.is_none(), input, options.lanes.into(), output.is_json()).await
        }
        Err(error) => Err(error),
    };
    let closed = open.close().await;
    let summary = done?;
    closed?;
    let summary = Summary {
        store: store.map(|location| location.to_string()),
        tier: snapshots.map(ToString::to_string),
        ..summary
    };
    if output.is_json() {
        output.json(&summary)?;
    } else {
        print(&summary, output)?;
    }
    let wrong = summary.aircraft + summary.airports + summary.dashboard_loads
        - summary.aircraft_equal
        - summary.airports_equal
        - summary.dashboard_equal;
    if wrong > 0 {
        return Err(Error::Found(format!("demo: {} states differ from the file", grouped(wrong))));
    }
    let inexact = summary.dashboard_tails - summary.dashboard_tails_exact;
    if inexact > 0 {
        return Err(Error::Found(format!(
            "demo: {inexact} loads of the dashboard replayed more or less than was new"
        )));
    }
    Ok(())
}

fn repository<F: Aggregate>(store: &Arc<dyn Store>, tiers: &Tiers) -> Result<Repository<F>> {
    let builder = Repository::builder(store.clone()).snapshots(Policy::every(EVERY));
    Ok(builder.snapshots_in(tiers.chain()).build()?)
}

async fn measure(
    open: &Open,
    tiers: &Tiers,
    temporary: bool,
    input: Input,
    lanes: usize,
    quiet: bool,
) -> Result<Summary> {
    let store = open.store();
    let rows = matches!(input, Input::Embedded).then_some(EMBEDDED_ROWS);
    let progress = Progress::new(quiet, "flights recorded", rows);
    let (aircraft, airports) =
        (repository::<Aircraft>(&store, tiers)?, repository::<Airport>(&store, tiers)?);
    let mut import = Import::begin(&input, &aircraft, &airports, lanes, &progress)?;
    let dashboard = Box::pin(record_and_load(&store, tiers, &input, &mut import)).await;
    let imported = import.finish().await;
    progress.finish();
    // Snapshots that are due are written even if the import failed: what it recorded stays.
    let closed = aircraft.close().await.and(airports.close().await);
    let (dashboard, imported) = (dashboard?, imported?);
    closed?;

    let name = input.name();
    let oracle = tokio::task::spawn_blocking(move || Oracle::of(&input))
        .await
        .map_err(|error| Error::Refused(format!("sum up the flights: {error}")))??;
    // New ones, so that nothing is left in memory of the import.
    let (aircraft, airports) =
        (repository::<Aircraft>(&store, tiers)?, repository::<Airport>(&store, tiers)?);
    let kept = [aircraft.stats().await?, airports.stats().await?];
    let actors = (oracle.aircraft.len() + oracle.airports.len()) as u64;
    let progress = Progress::new(quiet, "actors compared", Some(actors));
    let of_aircraft = compare(&aircraft, &oracle.aircraft, &progress).await?;
    let of_airports = compare(&airports, &oracle.airports, &progress).await?;
    progress.finish();
    let loads = u64::from(ROUNDS) * oracle.airports.len() as u64;
    let progress = Progress::new(quiet, "airports loaded", Some(loads));
    let times = time_loads(&airports, oracle.airports.keys(), ROUNDS, &progress).await?;
    progress.finish();
    aircraft.close().await?;
    airports.close().await?;
    let snapshots = kept.iter().map(|stats| stats.snapshots).sum();
    let snapshot_bytes = kept.iter().map(|stats| stats.snapshot_bytes).sum();
    let store_bytes = open.bytes().await?;
    if temporary {
        let aircraft = oracle.aircraft.keys().map(|id| format!("aircraft/{id}"));
        let airports = oracle.airports.keys().map(|id| format!("airport/{id}"));
        let actors = tiers.forget_in_near(aircraft.chain(airports)).await;
        if let Err(error) = actors.and(tiers.forget_fold_in_near(DelaysByCarrier::NAME).await) {
            eprintln!("warning: snapshots of the temporary store may stay in the tier: {error}");
        }
    }
    let summary = summarize(tiers.are_several(), name, imported, of_aircraft, of_airports, dashboard, &times);
    Ok(Summary { appended: open.appended(), snapshots, snapshot_bytes, store_bytes, ..summary })
}
