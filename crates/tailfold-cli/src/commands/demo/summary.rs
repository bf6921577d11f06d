//! What the demo found out, and how it is told.

use serde::Serialize;

use super::EVERY;
use crate::demo::compare::{Comparison, Times, median_us};
use crate::demo::dashboard::{Load, Loads};
use crate::demo::import::Imported;
use crate::error::Result;
use crate::output::{Output, bytes, grouped};
use crate::table::{Align, Table};

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) input: String,
    pub(super) store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier: Option<String>,
    #[serde(skip)]
    pub(super) appended: &'static str,
    pub(super) flights: u64,
    pub(super) events: u64,
    pub(super) events_appended: u64,
    pub(super) events_found: u64,
    pub(super) import_seconds: f64,
    pub(super) events_per_second: f64,
    pub(super) aircraft: u64,
    pub(super) aircraft_equal: u64,
    pub(super) airports: u64,
    pub(super) airports_equal: u64,
    pub(super) dashboard_carriers: u64,
    pub(super) dashboard_loads: u64,
    pub(super) dashboard_equal: u64,
    /// Of the loads, those after new events.
    pub(super) dashboard_tails: u64,
    pub(super) dashboard_tails_exact: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dashboard_note: Option<&'static str>,
    pub(super) dashboard: Vec<Load>,
    pub(super) snapshots: u64,
    pub(super) snapshot_bytes: u64,
    pub(super) snapshots_rejected: u64,
    pub(super) store_bytes: u64,
    pub(super) snapshot_loads: u64,
    /// Of these, where a tier was named, those that it served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier_loads: Option<u64>,
    pub(super) average_replay_events: f64,
    pub(super) replay_loads_per_second: f64,
    pub(super) snapshot_loads_per_second: f64,
    pub(super) replay_load_us_p50: f64,
    pub(super) snapshot_load_us_p50: f64,
    pub(super) longest_stream: Option<String>,
    pub(super) longest_stream_events: u64,
    pub(super) differences: Vec<String>,
}

pub(super) fn summarize(
    tiered: bool,
    input: String,
    imported: Imported,
    aircraft: Comparison,
    airports: Comparison,
    dashboard: Loads,
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
        dashboard_carriers: dashboard.carriers,
        dashboard_loads: dashboard.loads.len() as u64,
        dashboard_equal: dashboard.equal(),
        dashboard_tails: dashboard.tails(),
        dashboard_tails_exact: dashboard.exact_tails(),
        dashboard_note: dashboard.note,
        dashboard: dashboard.loads,
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
        differences: [aircraft.differences, airports.differences, dashboard.differences].concat(),
    }
}

pub(super) fn print(summary: &Summary, output: &mut Output) -> Result<()> {
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
    print_dashboard(summary, output)?;
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
    let tails = match summary.dashboard_tails {
        0 => String::new(),
        all => {
            format!("; {} of {all} after new events replayed exactly those", summary.dashboard_tails_exact)
        }
    };
    output.line(format_args!(
        "{} of {} loads of the dashboard equal the file{tails}",
        summary.dashboard_equal, summary.dashboard_loads
    ))?;
    summary.differences.iter().try_for_each(|difference| output.line(format_args!("differs: {difference}")))
}

fn print_dashboard(summary: &Summary, output: &mut Output) -> Result<()> {
    let mut table = Table::new([
        ("dashboard, load by", Align::Left),
        ("new events", Align::Right),
        ("replayed", Align::Right),
        ("ms", Align::Right),
        ("", Align::Left),
    ]);
    for load in &summary.dashboard {
        table.row([
            if load.source == "replay" { "replay" } else { "snapshot + tail" }.to_owned(),
            load.new_events.map_or_else(|| "-".to_owned(), grouped),
            grouped(load.replayed_events),
            format!("{:.1}", load.milliseconds),
            if load.equal { String::new() } else { "differs".to_owned() },
        ]);
    }
    let carriers = match summary.dashboard_carriers {
        1 => "1 carrier".to_owned(),
        carriers => format!("{carriers} carriers"),
    };
    output.line("")?;
    output.line(format_args!(
        "delays by carrier, over all aircraft and airports: {}{}",
        carriers,
        summary.dashboard_note.map(|note| format!(" ({note})")).unwrap_or_default()
    ))?;
    output.table(&table)
}
