//! `demo`: what snapshots do, on real data.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tailfold::{Aggregate, Policy, Repository, Store};

use crate::demo::aircraft::Aircraft;
use crate::demo::airport::Airport;
use crate::demo::compare::{Comparison, Times, compare, median_us, time_loads};
use crate::demo::flights::{EMBEDDED_ROWS, Input};
use crate::demo::import::{Imported, import};
use crate::demo::oracle::Oracle;
use crate::error::{Error, Result};
use crate::output::{Output, bytes, grouped};
use crate::progress::Progress;
use crate::store::{Access, Location, Open};
use crate::table::{Align, Table};
use crate::tier::{SnapshotLocation, Tiers};

pub(crate) const HELP: &str = "\
Every row is an event of its airport (`airport/JFK`) and, where it has a tail number, of its aircraft (`aircraft/N14228`): one
durable append each (on a server, as durable as that makes it), many under way, with a snapshot every 100 events. Then every actor is loaded by replay and by snapshot +
tail, and both are compared with sums made straight from the file.

The data: 80,789 flights that left New York in early 2013 (US Bureau of Transportation Statistics, CC0), part of this program. An
input of your own needs the columns year, month, day, sched_dep_time, dep_delay, arr_delay, carrier, flight, tailnum, origin,
dest, air_time and distance; `NA` stands for unknown. A row that is malformed ends the import with its line number; the rows
before it are recorded. Run it again on the same store to go on: of each stream, as many rows as it has events are skipped.

Without --store, the store is a temporary one. With --snapshots, snapshots go to that tier and to the store, and loads take them from
the tier; what belongs to a temporary store is removed from there at the end. With --json, one object: flights, events, aircraft, aircraft_equal, airports,
airports_equal, snapshots, average_replay_events (of loads that a snapshot served), replay_load_us_p50 and snapshot_load_us_p50
(of the airports, 30 loads each), and more. Exit code 3 if any state differs.

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
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
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
            Location::Sqlite(temporary.path().join("demo.db"))
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
    let wrong = summary.aircraft + summary.airports - summary.aircraft_equal - summary.airports_equal;
    if wrong > 0 {
        return Err(Error::Found(format!("demo: {} states differ from the file", grouped(wrong))));
    }
    Ok(())
}

/// The answer.
#[derive(Debug, Serialize)]
struct Summary {
    input: String,
    store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip)]
    appended: &'static str,
    flights: u64,
    events: u64,
    events_appended: u64,
    events_found: u64,
    import_seconds: f64,
    events_per_second: f64,
    aircraft: u64,
    aircraft_equal: u64,
    airports: u64,
    airports_equal: u64,
    snapshots: u64,
    snapshot_bytes: u64,
    snapshots_rejected: u64,
    store_bytes: u64,
    snapshot_loads: u64,
    /// Of these, where a tier was named, those that it served.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier_loads: Option<u64>,
    average_replay_events: f64,
    replay_loads_per_second: f64,
    snapshot_loads_per_second: f64,
    replay_load_us_p50: f64,
    snapshot_load_us_p50: f64,
    longest_stream: Option<String>,
    longest_stream_events: u64,
    differences: Vec<String>,
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
    let imported = import(input.clone(), &aircraft, &airports, lanes, &progress).await;
    progress.finish();
    // Snapshots that are due are written even if the import failed: what it recorded stays.
    let closed = aircraft.close().await.and(airports.close().await);
    let imported = imported?;
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
        if let Err(error) = tiers.forget_in_near(aircraft.chain(airports)).await {
            eprintln!("warning: snapshots of the temporary store may stay in the tier: {error}");
        }
    }
    let summary = summarize(tiers.are_several(), name, imported, of_aircraft, of_airports, &times);
    Ok(Summary { appended: open.appended(), snapshots, snapshot_bytes, store_bytes, ..summary })
}

fn summarize(
    tiered: bool,
    input: String,
    imported: Imported,
    aircraft: Comparison,
    airports: Comparison,
    times: &Times,
) -> Summary {
    let seconds = imported.took.as_secs_f64();
    let (replay, snapshot) = (aircraft.replay.and(airports.replay), aircraft.snapshot.and(airports.snapshot));
    let served = aircraft.served + airports.served;
    let replayed = aircraft.served_replayed + airports.served_replayed;
    let longest = aircraft.longest.into_iter().chain(airports.longest).max_by_key(|(_, events)| *events);
    let (longest_stream, longest_stream_events) = longest.unzip();
    Summary {
        input,
        store: None,
        tier: None,
        appended: "",
        flights: imported.flights,
        events: aircraft.events + airports.events,
        events_appended: imported.appended,
        events_found: imported.found,
        import_seconds: seconds,
        events_per_second: imported.appended as f64 / seconds.max(f64::MIN_POSITIVE),
        aircraft: aircraft.streams,
        aircraft_equal: aircraft.equal,
        airports: airports.streams,
        airports_equal: airports.equal,
        snapshots: 0,
        snapshot_bytes: 0,
        snapshots_rejected: aircraft.rejected + airports.rejected,
        store_bytes: 0,
        snapshot_loads: served,
        tier_loads: tiered.then_some(aircraft.served_near + airports.served_near),
        average_replay_events: if served == 0 { 0.0 } else { replayed as f64 / served as f64 },
        replay_loads_per_second: replay.per_second(),
        snapshot_loads_per_second: snapshot.per_second(),
        replay_load_us_p50: median_us(&times.replay),
        snapshot_load_us_p50: median_us(&times.snapshot),
        longest_stream,
        longest_stream_events: longest_stream_events.unwrap_or(0),
        differences: aircraft.differences.into_iter().chain(airports.differences).collect(),
    }
}

fn print(summary: &Summary, output: &mut Output) -> Result<()> {
    let rounded = |number: f64| grouped(number.round() as u64);
    let mut table = Table::new([("", Align::Left), ("", Align::Right), ("", Align::Left)]);
    let mut row = |name: &str, value: String, note: String| table.row([name.to_owned(), value, note]);
    row("flights", grouped(summary.flights), summary.input.clone());
    let found = match summary.events_found {
        0 => String::new(),
        found => format!("{} of them were there already", grouped(found)),
    };
    row("events", grouped(summary.events), found);
    if summary.events_appended > 0 {
        let note = format!("one {} append each, {:.1} s", summary.appended, summary.import_seconds);
        row("events/s", rounded(summary.events_per_second), note);
    }
    let longest = summary.longest_stream.clone().unwrap_or_default();
    row("longest stream", grouped(summary.longest_stream_events), format!("events of {longest}"));
    let note = format!("{}, one every {EVERY} events, the newest kept", bytes(summary.snapshot_bytes));
    row("snapshots", grouped(summary.snapshots), note);
    if let (Some(tier), Some(loads)) = (&summary.tier, summary.tier_loads) {
        row(
            "from the tier",
            grouped(loads),
            format!("of {} loads that a snapshot served, {tier}", grouped(summary.snapshot_loads)),
        );
    }
    let note = format!("events, over {} loads that a snapshot served", grouped(summary.snapshot_loads));
    row("average replay", format!("{:.1}", summary.average_replay_events), note);
    row("store", bytes(summary.store_bytes), summary.store.clone().unwrap_or_else(|| "temporary".to_owned()));
    output.table(&table)?;

    let mut table = Table::new([
        ("", Align::Left),
        ("by replay", Align::Right),
        ("by snapshot + tail", Align::Right),
        ("", Align::Left),
    ]);
    let times =
        |slow: f64, fast: f64| if fast > 0.0 { format!("{:.1} x", slow / fast) } else { String::new() };
    table.row([
        "all actors, loads/s".to_owned(),
        rounded(summary.replay_loads_per_second),
        rounded(summary.snapshot_loads_per_second),
        times(summary.snapshot_loads_per_second, summary.replay_loads_per_second),
    ]);
    table.row([
        "an airport, median us".to_owned(),
        rounded(summary.replay_load_us_p50),
        rounded(summary.snapshot_load_us_p50),
        times(summary.replay_load_us_p50, summary.snapshot_load_us_p50),
    ]);
    output.line("")?;
    output.table(&table)?;
    output.line("")?;
    for (what, equal, all) in [
        ("aircraft", summary.aircraft_equal, summary.aircraft),
        ("airports", summary.airports_equal, summary.airports),
    ] {
        output.line(format_args!(
            "{} of {} {what} equal the file, loaded both ways",
            grouped(equal),
            grouped(all)
        ))?;
    }
    summary.differences.iter().try_for_each(|difference| output.line(format_args!("differs: {difference}")))
}
