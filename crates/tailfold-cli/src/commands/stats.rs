//! `stats`: what is in a store, counted.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use tailfold::{
    EventStore as _, Filter, Follow, Position, RecordedEvent, SlotFilter, SnapshotStore, StoreId, Timestamp,
};

use crate::error::Result;
use crate::output::{Output, bytes, grouped};
use crate::progress::Progress;
use crate::slot_kind::SlotKind;
use crate::store::Open;
use crate::table::{Align, Table};
use crate::tier::Tiers;

pub(crate) const HELP: &str = "\
Reads the log once, about a million events a second; memory does not grow with it. The size is that of \
the file on disk, or what the server tells: of the tables and indexes on PostgreSQL, of the streams on \
NATS. With --snapshots, the snapshots of the tier and of the store are counted by themselves too. \
Snapshots of projections are among them, by their fold; cursors, in which projections note how far they \
have looked, are not, nor is what subscriptions keep. With --json, one object.

Examples:
  tailfold stats
  tailfold stats --json | jq .snapshots";

/// The answer.
#[derive(Serialize)]
struct Stats {
    store_id: StoreId,
    store_bytes: u64,
    events: u64,
    payload_bytes: u64,
    tombstones: u64,
    streams: u64,
    first_position: Option<Position>,
    last_position: Option<Position>,
    earliest_recorded_at: Option<Timestamp>,
    latest_recorded_at: Option<Timestamp>,
    categories: BTreeMap<String, Category>,
    types: BTreeMap<String, u64>,
    /// Of all tiers.
    #[serde(flatten)]
    kept: Snapshots,
    /// Of each tier, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tiers: Vec<TierKept>,
}

#[derive(Serialize)]
struct TierKept {
    tier: &'static str,
    #[serde(flatten)]
    kept: Snapshots,
}

#[derive(Default, Serialize)]
struct Snapshots {
    snapshots: u64,
    snapshot_bytes: u64,
    /// How far projections have looked beyond their last events; not among the snapshots.
    cursors: u64,
    /// Where subscriptions stand, if that is kept among snapshots, and what they have put aside.
    checkpoints: u64,
    parked: u64,
    folds: BTreeMap<String, BTreeMap<String, Kept>>,
}

#[derive(Default, Serialize)]
struct Category {
    streams: u64,
    events: u64,
    payload_bytes: u64,
}

#[derive(Default, Serialize)]
struct Kept {
    snapshots: u64,
    bytes: u64,
}

pub(crate) async fn run(open: &Open, tiers: &Tiers, output: &mut Output) -> Result<()> {
    let stats = gather(open, tiers, output.is_json()).await?;
    if output.is_json() { output.json(&stats) } else { print(&stats, output) }
}

async fn gather(open: &Open, tiers: &Tiers, quiet: bool) -> Result<Stats> {
    let store = open.store();
    let mut stats = Stats {
        store_id: store.store_id().await?,
        store_bytes: open.bytes().await?,
        events: 0,
        payload_bytes: 0,
        tombstones: 0,
        streams: 0,
        first_position: None,
        last_position: None,
        earliest_recorded_at: None,
        latest_recorded_at: None,
        categories: BTreeMap::new(),
        types: BTreeMap::new(),
        kept: Snapshots::default(),
        tiers: Vec::new(),
    };
    let progress = Progress::new(quiet, "events", None);
    let mut batches = store.read_all(Position::ZERO, Filter::all(), Follow::ToEnd);
    while let Some(batch) = batches.try_next().await? {
        batch.events.iter().for_each(|event| stats.count(event));
        progress.at(stats.events);
    }
    progress.finish();
    let mut batches = store.streams(Filter::all(), None);
    while let Some(batch) = batches.try_next().await? {
        stats.streams += batch.len() as u64;
        for summary in batch {
            stats.categories.entry(summary.stream.category().to_owned()).or_default().streams += 1;
        }
    }
    for (tier, snapshots) in tiers.each() {
        let kept = Snapshots::of(&*snapshots).await?;
        stats.kept.add(&kept);
        if tiers.are_several() {
            stats.tiers.push(TierKept { tier, kept });
        }
    }
    Ok(stats)
}

impl Stats {
    fn count(&mut self, event: &RecordedEvent) {
        self.first_position.get_or_insert(event.position);
        self.last_position = Some(event.position);
        if event.data.event_type.tells_of_removal() {
            self.tombstones += u64::from(event.data.event_type.is_tombstone());
            return;
        }
        let size = event.data.payload.len() as u64;
        let time = event.data.recorded_at;
        self.events += 1;
        self.payload_bytes += size;
        self.earliest_recorded_at = Some(self.earliest_recorded_at.map_or(time, |known| known.min(time)));
        self.latest_recorded_at = Some(self.latest_recorded_at.map_or(time, |known| known.max(time)));
        let category = entry(&mut self.categories, event.stream.category());
        category.events += 1;
        category.payload_bytes += size;
        *entry(&mut self.types, event.data.event_type.as_str()) += 1;
    }
}

impl Snapshots {
    async fn of(tier: &dyn SnapshotStore) -> Result<Self> {
        let mut seen = Self::default();
        let mut batches = tier.list(SlotFilter::all());
        while let Some(batch) = batches.try_next().await? {
            for info in batch {
                match SlotKind::of(&info.slot) {
                    SlotKind::Cursor(_) => seen.cursors += 1,
                    SlotKind::Checkpoint => seen.checkpoints += 1,
                    SlotKind::Parked => seen.parked += 1,
                    SlotKind::Stream | SlotKind::Projection(_) => {
                        seen.count(info.slot.fold(), info.slot.serial().as_str(), 1, info.bytes);
                    }
                }
            }
        }
        Ok(seen)
    }

    fn add(&mut self, other: &Self) {
        self.cursors += other.cursors;
        self.checkpoints += other.checkpoints;
        self.parked += other.parked;
        for (fold, serials) in &other.folds {
            for (serial, kept) in serials {
                self.count(fold, serial, kept.snapshots, kept.bytes);
            }
        }
    }

    fn count(&mut self, fold: &str, serial: &str, snapshots: u64, bytes: u64) {
        self.snapshots += snapshots;
        self.snapshot_bytes += bytes;
        let kept = entry(entry(&mut self.folds, fold), serial);
        kept.snapshots += snapshots;
        kept.bytes += bytes;
    }

    fn text(&self) -> String {
        format!("{} ({})", grouped(self.snapshots), bytes(self.snapshot_bytes))
    }
}

/// Looks before it allocates a key: there are many events and few keys.
fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), V::default());
    }
    map.entry(key.to_owned()).or_default()
}

fn print(stats: &Stats, output: &mut Output) -> Result<()> {
    let mut table = Table::new([("", Align::Left), ("", Align::Left)]);
    let range = |first: Option<String>, last: Option<String>| match (first, last) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "-".to_owned(),
    };
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let place = |position: Option<Position>| position.map(|position| position.to_string());
    for (name, value) in [
        ("store id", stats.store_id.to_string()),
        ("size", bytes(stats.store_bytes)),
        ("streams", grouped(stats.streams)),
        ("events", format!("{} ({} of payload)", grouped(stats.events), bytes(stats.payload_bytes))),
        ("tombstones", grouped(stats.tombstones)),
        ("positions", range(place(stats.first_position), place(stats.last_position))),
        ("recorded", range(text(stats.earliest_recorded_at), text(stats.latest_recorded_at))),
        ("snapshots", stats.kept.text()),
    ] {
        table.row([name.to_owned(), value]);
    }
    for TierKept { tier, kept } in &stats.tiers {
        table.row([format!("  in {tier}"), kept.text()]);
    }
    output.table(&table)?;
    let mut table = Table::new([
        ("category", Align::Left),
        ("streams", Align::Right),
        ("events", Align::Right),
        ("payload", Align::Right),
    ]);
    for (name, category) in &stats.categories {
        table.row([
            name.clone(),
            grouped(category.streams),
            grouped(category.events),
            bytes(category.payload_bytes),
        ]);
    }
    output.line("")?;
    output.table(&table)?;
    let mut table = Table::new([("event type", Align::Left), ("events", Align::Right)]);
    stats.types.iter().for_each(|(name, count)| table.row([name.clone(), grouped(*count)]));
    output.line("")?;
    output.table(&table)?;
    let columns =
        [("fold", Align::Left), ("serial", Align::Left), ("snapshots", Align::Right), ("size", Align::Right)];
    let alone = [("", &stats.kept)];
    let several: Vec<_> = stats.tiers.iter().map(|tier| (tier.tier, &tier.kept)).collect();
    let place = (!several.is_empty()).then_some(("tier", Align::Left));
    let mut table = Table::new(place.into_iter().chain(columns));
    for (tier, kept) in if several.is_empty() { &alone } else { &*several } {
        for (fold, serials) in &kept.folds {
            for (serial, kept) in serials {
                let cells = [fold.clone(), serial.clone(), grouped(kept.snapshots), bytes(kept.bytes)];
                table.row(place.map(|_| (*tier).to_owned()).into_iter().chain(cells));
            }
        }
    }
    output.line("")?;
    output.table(&table)
}
