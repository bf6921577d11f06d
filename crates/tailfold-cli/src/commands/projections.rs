//! `projections`: the instances of projections that a store keeps snapshots of, and how far behind these are.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use tailfold::{
    Day, Envelope, EventStore as _, Filter, Follow, Position, Serial, SlotFilter, SnapshotInfo,
    SnapshotStore, Store, Timestamp,
};

use crate::error::Result;
use crate::output::{Output, bytes, grouped};
use crate::projections::Projections;
use crate::slot_kind::SlotKind;
use crate::store::Open;
use crate::table::{Align, Table};
use crate::tier::Tiers;

pub(crate) const HELP: &str = "\
An instance is a projection's fold with a key, once for each serial: while a new release builds its snapshots, those of the old one
stay beside them. Listed is what is kept, read models that are never kept are not.

POSITION is that of the last event in the newest snapshot, LOOKED that up to which the log was looked at, matching or not. BEHIND is
what the next load folds, or looks at: the events after that. Of a projection that this program knows (of yours, if its command
line is embedded in your program), those that match are counted; of others it cannot know, so all events are, of any kind, and
the number is at most that: `<= 1,234`. Positions are no count: on PostgreSQL and NATS they have gaps. RECORDED UP TO is when the latest
event in the snapshot was recorded. SERIAL bears a star if it is that of the fold as this program has it: what `project rebuild` builds.

Reads the log from the snapshot that is farthest behind. With --snapshots, those of the tier come first. With --json, one object a line:
kind (`snapshot`), fold, key, serial, current, snapshots, position, looked, events_behind, matching_behind (null where
unknown), latest_recorded_at, bytes, used.

Examples:
  tailfold projections
  tailfold projections --fold delays-by-carrier --json | jq .events_behind";

/// Of which fold.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this projection.
    #[arg(long)]
    fold: Option<String>,
}

/// What is kept of an instance, and how it stands to the log. Other kinds of what follows the log have a word of their own in
/// `kind`.
#[derive(Debug, Serialize)]
struct Instance {
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'static str>,
    kind: &'static str,
    fold: String,
    key: Option<String>,
    serial: Serial,
    /// Whether the serial is that of the fold in this program; `None` for a fold that it does not know.
    current: Option<bool>,
    snapshots: u64,
    position: Option<Position>,
    looked: Option<Position>,
    /// Events of any kind.
    events_behind: u64,
    matching_behind: Option<u64>,
    latest_recorded_at: Option<Timestamp>,
    bytes: u64,
    used: Day,
    #[serde(skip)]
    newest: Option<SnapshotInfo>,
}

pub(crate) async fn run(
    open: &Open,
    tiers: &Tiers,
    projections: &Projections,
    options: Options,
    output: &mut Output,
) -> Result<()> {
    let store = open.store();
    let mut instances = Vec::new();
    for (name, tier) in tiers.each() {
        let place = tiers.are_several().then_some(name);
        instances.extend(list(&*tier, place, options.fold.as_deref()).await?);
    }
    count_behind(&store, projections, &mut instances).await?;
    if output.is_json() {
        return instances.iter().try_for_each(|instance| output.json(instance));
    }
    if instances.is_empty() {
        return output.line("no snapshots of projections");
    }
    print(&instances, tiers.are_several(), output)
}

/// What a tier keeps, in the order of its slots.
async fn list(
    tier: &dyn SnapshotStore,
    place: Option<&'static str>,
    fold: Option<&str>,
) -> Result<Vec<Instance>> {
    let mut seen: BTreeMap<(String, Serial, Option<String>), Instance> = BTreeMap::new();
    let mut batches = tier.list(fold.map_or_else(SlotFilter::all, SlotFilter::fold));
    while let Some(batch) = batches.try_next().await? {
        for info in batch {
            let (key, is_cursor) = match SlotKind::of(&info.slot) {
                SlotKind::Stream => continue,
                SlotKind::Projection(key) => (key, false),
                SlotKind::Cursor(key) => (key, true),
            };
            let (fold, serial) = (info.slot.fold().to_owned(), info.slot.serial().clone());
            let key = key.map(str::to_owned);
            let instance =
                seen.entry((fold.clone(), serial.clone(), key.clone())).or_insert_with(|| Instance {
                    tier: place,
                    kind: "snapshot",
                    fold,
                    key,
                    serial,
                    current: None,
                    snapshots: 0,
                    position: None,
                    looked: None,
                    events_behind: 0,
                    matching_behind: None,
                    latest_recorded_at: None,
                    bytes: 0,
                    used: info.used,
                    newest: None,
                });
            instance.add(info, is_cursor);
        }
    }
    let mut instances: Vec<_> = seen.into_values().collect();
    for instance in &mut instances {
        if let Some(newest) = &instance.newest {
            instance.latest_recorded_at = latest_recorded_at(tier, newest).await?;
        }
    }
    Ok(instances)
}

/// What the envelope says; `None` if it is none, which `snapshots` tells.
async fn latest_recorded_at(tier: &dyn SnapshotStore, info: &SnapshotInfo) -> Result<Option<Timestamp>> {
    let stored = tier.newest(&info.slot, Some(info.head.version)).await?;
    let envelope = stored.and_then(|stored| Envelope::parse(&stored.bytes).ok());
    Ok(envelope.map(|envelope| envelope.latest_recorded_at))
}

impl Instance {
    /// What a tier lists next of it: older snapshots come before newer ones.
    fn add(&mut self, info: SnapshotInfo, is_cursor: bool) {
        let position = Some(Position(info.head.version.0));
        self.looked = self.looked.max(position);
        self.bytes += info.bytes;
        self.used = self.used.max(info.used);
        if !is_cursor {
            self.snapshots += 1;
            self.position = position;
            self.newest = Some(info);
        }
    }

    /// Where the next load begins to look. Without a snapshot it begins with the first event, or after what was looked at in vain.
    fn begins_after(&self) -> Position {
        self.looked.unwrap_or(Position::ZERO)
    }
}

async fn count_behind(
    store: &Arc<dyn Store>,
    projections: &Projections,
    instances: &mut [Instance],
) -> Result<()> {
    let mut begins: Vec<_> = instances.iter().map(Instance::begins_after).collect();
    begins.sort_unstable();
    let Some(first) = begins.first().copied() else { return Ok(()) };
    // How many events lie after the nth of the beginnings and not after the next.
    let mut between = vec![0_u64; begins.len()];
    let mut batches = store.read_all(first, Filter::all(), Follow::ToEnd);
    while let Some(batch) = batches.try_next().await? {
        for event in &batch.events {
            let passed = begins.partition_point(|begin| *begin < event.position);
            if let Some(count) = passed.checked_sub(1).and_then(|last| between.get_mut(last)) {
                *count += 1;
            }
        }
    }
    for instance in instances {
        let begin = instance.begins_after();
        let passed = begins.partition_point(|other| *other < begin);
        instance.events_behind = between.iter().skip(passed).sum();
        let Some(known) = projections.named(&instance.fold) else { continue };
        instance.current = Some(known.serial(store.clone())? == instance.serial);
        // Another release may have had other keys.
        if instance.current == Some(true) && known.check_key(instance.key.as_deref()).is_ok() {
            let counted = known.count_after(store.clone(), instance.key.clone(), begin).await?;
            instance.matching_behind = Some(counted);
        }
    }
    Ok(())
}

fn print(instances: &[Instance], several: bool, output: &mut Output) -> Result<()> {
    let place = several.then_some(("tier", Align::Left));
    let mut table = Table::new(place.into_iter().chain([
        ("fold", Align::Left),
        ("key", Align::Left),
        ("serial", Align::Left),
        ("snapshots", Align::Right),
        ("position", Align::Right),
        ("looked", Align::Right),
        ("behind", Align::Right),
        ("recorded up to", Align::Left),
        ("size", Align::Right),
        ("used", Align::Left),
    ]));
    let position = |position: Option<Position>| position.map_or_else(|| "-".to_owned(), |at| grouped(at.0));
    for instance in instances {
        let star = if instance.current == Some(true) { "*" } else { "" };
        let cells = [
            instance.fold.clone(),
            instance.key.as_deref().map_or_else(|| "-".to_owned(), crate::output::printable),
            format!("{}{star}", instance.serial),
            grouped(instance.snapshots),
            position(instance.position),
            position(instance.looked),
            match instance.matching_behind {
                Some(events) => grouped(events),
                None => format!("<= {}", grouped(instance.events_behind)),
            },
            instance.latest_recorded_at.map_or_else(|| "-".to_owned(), |time| time.to_string()),
            bytes(instance.bytes),
            instance.used.to_string(),
        ];
        table.row(instance.tier.map(str::to_owned).into_iter().chain(cells));
    }
    output.table(&table)
}
