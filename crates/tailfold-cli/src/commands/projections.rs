//! `projections`: what follows the log, and how far behind it is: instances of projections by their snapshots, and read models.

mod behind;
mod instances;
mod subscriptions;

use crate::error::Result;
use crate::output::Output;
use crate::projections::Projections;
use crate::store::{Location, LocationParser, Open};
use crate::tier::Tiers;

use self::behind::Behind;

pub(crate) const HELP: &str = "\
An instance is a projection's fold with a key, once for each serial: while a new release builds its \
snapshots, those of the old one stay beside them. Listed is what is kept: of instances their snapshots, \
of subscriptions where their read models stand.

POSITION is that of the last event in the newest snapshot, LOOKED that up to which the log was looked \
at, matching or not. BEHIND is what the next load folds, or looks at: the events after that. Of a \
projection that this program knows (of yours, if its command line is embedded in your program), those \
that match are counted; of others it cannot know, so all events are, of any kind, and the number is at \
most that: `<= 1,234`. Positions are no count: on PostgreSQL and NATS they have gaps. RECORDED UP TO is \
when the latest event in the snapshot was recorded. SERIAL bears a star if it is that of the fold as \
this program has it: what `project rebuild` builds.

Subscriptions that keep their checkpoints among snapshots are listed after the instances. Read models \
with tables of their own are found only if their place is named: --read-models FILE, or \
postgres://HOST/DATABASE?schema=NAME, as often as there are places. Here, BEHIND is the events of any \
kind after the checkpoint, SINCE when the first of them was recorded, PARKED how many events were put \
aside, MOVED when the checkpoint did.

Reads the log from what is farthest behind. With --snapshots, those of the tier come first. With --json, \
one object a line. Of a snapshot: kind (`snapshot`), fold, key, serial, current, snapshots, position, \
looked, events_behind, matching_behind (null where unknown), latest_recorded_at, bytes, used. Of a read \
model: kind (`subscription`), name, kept_in, store, position, events_behind (null if it is another \
store's), behind_since, parked, leased_until, updated_at.

Examples:
  tailfold projections
  tailfold projections --read-models dashboards.sqlite
  tailfold projections --fold delays-by-carrier --json | jq .events_behind";

/// Of which fold, and where else to look.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this projection, and no read models.
    #[arg(long, conflicts_with = "read_models")]
    fold: Option<String>,
    /// Where read models have tables of their own: a file of SQLite, or the URL of a PostgreSQL schema.
    #[arg(long, value_name = "PLACE", value_parser = LocationParser("--read-models <PLACE>"))]
    read_models: Vec<Location>,
}

pub(crate) async fn run(
    open: &Open,
    tiers: &Tiers,
    projections: &Projections,
    options: Options,
    output: &mut Output,
) -> Result<()> {
    let store = open.store();
    let store_id = store.store_id().await?;
    let (mut instances, mut standings) = (Vec::new(), Vec::new());
    for (name, tier) in tiers.each() {
        let place = tiers.are_several().then_some(name);
        instances.extend(instances::list(&*tier, place, options.fold.as_deref()).await?);
        if options.fold.is_none() {
            standings.extend(subscriptions::of_tier(&*tier, name).await?);
        }
    }
    for place in &options.read_models {
        standings.extend(subscriptions::of_read_models(place).await?);
    }
    let begins = instances.iter().map(instances::Instance::begins_after);
    let begins = begins.chain(standings.iter().filter_map(|standing| standing.begins_after(store_id)));
    let behind = Behind::count(&*store, begins).await?;
    instances::count(&store, projections, &behind, &mut instances).await?;
    standings.iter_mut().for_each(|standing| standing.count(store_id, &behind));
    if output.is_json() {
        instances.iter().try_for_each(|instance| output.json(instance))?;
        return standings.iter().try_for_each(|standing| output.json(standing));
    }
    if instances.is_empty() {
        output.line("no snapshots of projections")?;
    } else {
        instances::print(&instances, tiers.are_several(), output)?;
    }
    if !standings.is_empty() {
        output.line("")?;
        subscriptions::print(&standings, output)?;
    }
    if options.read_models.is_empty() && options.fold.is_none() {
        output.line("")?;
        output.line(
            "not looked for: read models in tables of their own; name their file or schema with --read-models PLACE",
        )?;
    }
    Ok(())
}
