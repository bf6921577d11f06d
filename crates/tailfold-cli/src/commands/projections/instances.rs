//! The instances of which snapshots are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use tailfold::{Day, Envelope, Position, Serial, SlotFilter, SnapshotInfo, SnapshotStore, Store, Timestamp};

use super::behind::Behind;
use crate::error::Result;
use crate::output::{Output, bytes, grouped};
use crate::projections::Projections;
use crate::slot_kind::SlotKind;
use crate::table::{Align, Table};

/// What is kept of an instance, and how it stands to the log.
#[derive(Debug, Serialize)]
pub(super) struct Instance {
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

/// What a tier keeps, in the order of its slots.
pub(super) async fn list(
    tier: &dyn SnapshotStore,
    place: Option<&'static str>,
    fold: Option<&str>,
) -> Result<Vec<Instance>> {
    let mut seen: BTreeMap<(String, Serial, Option<String>), Instance> = BTreeMap::new();
    let mut batches = tier.list(fold.map_or_else(SlotFilter::all, SlotFilter::fold));
    while let Some(batch) = batches.try_next().await? {
        for info in batch {
            let (key, is_cursor) = match SlotKind::of(&info.slot) {
                SlotKind::Stream | SlotKind::Checkpoint | SlotKind::Parked => continue,
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
    pub(super) fn begins_after(&self) -> Position {
        self.looked.unwrap_or(Position::ZERO)
    }
}

pub(super) async fn count(
    store: &Arc<dyn Store>,
    projections: &Projections,
    behind: &Behind,
    instances: &mut [Instance],
) -> Result<()> {
    for instance in instances {
        let begin = instance.begins_after();
        instance.events_behind = behind.events(begin);
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

pub(super) fn print(instances: &[Instance], several: bool, output: &mut Output) -> Result<()> {
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
