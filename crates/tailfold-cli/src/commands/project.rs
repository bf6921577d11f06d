//! `project rebuild`: the snapshot of a projection, built before anybody needs it.

use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use tailfold::{Position, Serial, SlotFilter, SnapshotStore, SnapshotStoreExt as _, Source};

use crate::error::{Error, Result};
use crate::output::{Output, bytes, grouped};
use crate::progress::Progress;
use crate::projections::{Known, Projections};
use crate::slot_kind::SlotKind;
use crate::store::Open;
use crate::tier::Tiers;

pub(crate) const HELP: &str = "\
Folds the events that a projection's instance selects into a snapshot of the serial that the fold has in \
this program, and keeps it beside those of other serials, which services of another release go on using. \
Run it with the new release's program before its services start: their first load then folds a short \
tail. What is there of the serial already is gone on from, so that a rebuild that was interrupted goes \
on from its last checkpoint (one every 50,000 events); --from-start removes it first, in the tier too.

This program knows the demo's projection `delays-by-carrier`. Your own are known to a program of yours \
that calls `tailfold_cli::manage` with them; it has every other command as well. Services go on \
meanwhile; nothing is recorded.

With --json, one object: projection, key, serial, source, began_at, position, last_event, \
replayed_events, replayed_bytes, seconds, before and after (what is kept of the instance, by serial).

Examples:
  tailfold --store flights.db project rebuild delays-by-carrier
  my-tailfold --store postgres://localhost/shop project rebuild sold --key tea --json";

/// What to do with a projection.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Builds the snapshot of the current serial beside those of others.
    #[command(after_long_help = HELP)]
    Rebuild(Options),
}

/// Which instance.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the projection: the one in `#[state(name = "..")]`.
    name: String,
    /// Key of the instance; none where there is one instance.
    #[arg(long)]
    key: Option<String>,
    /// Removes what is kept of the current serial first: folds every event anew.
    #[arg(long)]
    from_start: bool,
}

/// What a tier keeps of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Slot {
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'static str>,
    serial: Serial,
    position: Position,
    bytes: u64,
}

pub(crate) async fn run(
    open: &Open,
    tiers: &Tiers,
    projections: &Projections,
    action: Action,
    output: &mut Output,
) -> Result<()> {
    let Action::Rebuild(options) = action;
    let known = find(projections, &options)?;
    let store = open.store();
    let serial = known.serial(store.clone())?;
    let before = kept(tiers, &options).await?;
    if options.from_start {
        remove(tiers, &options, &serial).await?;
    }
    let started = Instant::now();
    let progress = Progress::new(output.is_json(), "events folded", None);
    let rebuilt = known.rebuild(store, tiers.chain(), options.key.clone(), progress.clone()).await;
    progress.finish();
    let (rebuilt, took) = (rebuilt?, started.elapsed());
    let after = kept(tiers, &options).await?;
    let report = &rebuilt.report;
    let began_at = match report.source {
        Source::Snapshot(version) => Some(version.0),
        _ => None,
    };
    if output.is_json() {
        return output.json(&json!({
            "projection": options.name,
            "key": options.key,
            "serial": serial,
            "source": report.source.as_str(),
            "began_at": began_at,
            "position": rebuilt.position,
            "last_event": rebuilt.last_event,
            "replayed_events": report.replayed_events,
            "replayed_bytes": report.replayed_bytes,
            "seconds": took.as_secs_f64(),
            "before": before,
            "after": after,
        }));
    }
    let of = options.key.as_deref().map(|key| format!(" of `{}`", crate::output::printable(key)));
    let begin = began_at.map_or_else(
        || "from the first event on".to_owned(),
        |position| format!("from the snapshot at position {} on", grouped(position)),
    );
    output.line(format_args!("projection `{}`{}, serial {serial}", options.name, of.unwrap_or_default()))?;
    output.line(format_args!(
        "replayed {} events ({}) {begin}, in {:.1} s",
        grouped(report.replayed_events),
        bytes(report.replayed_bytes),
        took.as_secs_f64()
    ))?;
    match rebuilt.last_event {
        Some(position) => output.line(format_args!(
            "its snapshot is at position {}, the log was looked at up to {}",
            grouped(position.0),
            grouped(rebuilt.position.0)
        ))?,
        None => output.line("nothing matches, so that there is no snapshot")?,
    }
    print("before", &before, output)?;
    print("after", &after, output)
}

fn find<'p>(projections: &'p Projections, options: &Options) -> Result<&'p dyn Known> {
    let refused = |why: String| Error::Refused(format!("rebuild projection `{}`: {why}", options.name));
    let known = projections.named(&options.name).ok_or_else(|| {
        let names: Vec<_> = projections.names().map(|name| format!("`{name}`")).collect();
        refused(format!(
            "this program knows {}; a program of yours that calls `tailfold_cli::manage` knows yours",
            names.join(", ")
        ))
    })?;
    known.check_key(options.key.as_deref()).map_err(refused)?;
    Ok(known)
}

fn is_of(options: &Options, kept: SlotKind<'_>) -> bool {
    kept == SlotKind::Projection(options.key.as_deref())
}

/// The newest of each serial.
async fn kept(tiers: &Tiers, options: &Options) -> Result<Vec<Slot>> {
    let mut slots: Vec<Slot> = Vec::new();
    for (name, tier) in tiers.each() {
        let tier_name = tiers.are_several().then_some(name);
        for info in tier.list_to_vec(SlotFilter::fold(&options.name)).await? {
            if !is_of(options, SlotKind::of(&info.slot)) {
                continue;
            }
            let serial = info.slot.serial().clone();
            // In the order of versions.
            slots.retain(|slot| (slot.tier, &slot.serial) != (tier_name, &serial));
            let position = Position(info.head.version.0);
            slots.push(Slot { tier: tier_name, serial, position, bytes: info.bytes });
        }
    }
    Ok(slots)
}

/// Snapshots of the serial, and how far it has looked.
async fn remove(tiers: &Tiers, options: &Options, serial: &Serial) -> Result<()> {
    let filter = SlotFilter { serial: Some(serial.clone()), ..SlotFilter::fold(&options.name) };
    for (_, tier) in tiers.each() {
        for info in tier.list_to_vec(filter.clone()).await? {
            let kept = SlotKind::of(&info.slot);
            if is_of(options, kept) || kept == SlotKind::Cursor(options.key.as_deref()) {
                remove_one(&*tier, &info).await?;
            }
        }
    }
    Ok(())
}

async fn remove_one(tier: &dyn SnapshotStore, info: &tailfold::SnapshotInfo) -> Result<()> {
    if let Some(stored) = tier.newest(&info.slot, Some(info.head.version)).await? {
        tier.compare_and_remove(&info.slot, &stored).await?;
    }
    Ok(())
}

fn print(when: &str, slots: &[Slot], output: &mut Output) -> Result<()> {
    if slots.is_empty() {
        return output.line(format_args!("{when}: nothing kept"));
    }
    slots.iter().try_for_each(|slot| {
        output.line(format_args!(
            "{when}: serial {} at position {} ({}){}",
            slot.serial,
            grouped(slot.position.0),
            bytes(slot.bytes),
            slot.tier.map(|tier| format!(" in {tier}")).unwrap_or_default()
        ))
    })
}
