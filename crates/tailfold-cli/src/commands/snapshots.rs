//! `snapshots`: what is kept, and whether it could be used.

use futures_util::TryStreamExt as _;
use serde_json::json;
use tailfold::{Envelope, Rejection, SlotFilter, SnapshotInfo, StreamId};

use crate::error::Result;
use crate::numbers::stream;
use crate::output::{Output, bytes};
use crate::slot_kind::SlotKind;
use crate::table::{Align, Table};
use crate::tier::Tiers;

pub(crate) const HELP: &str = "\
Each envelope is read and checked: its checksum, and that it lies where it says it belongs. `verify` \
also checks it against the stream. A checksum shows damage; whether it was made with the key of a \
service that signs its snapshots, that service alone can tell (`checksum_key` with --json names the \
key). With --snapshots, those of the tier come first, then those of the store, and each says where it \
is. With --json, one object a line; `kind` is `stream`, `projection`, `cursor`, `checkpoint` or \
`parked`.

The key of an aggregate's snapshot is its stream. Those of projections begin with `*`, and their version \
is a position; `^` is how far the projection of that key has looked beyond its last event (`projections` \
puts both together). Under the fold `tailfold-subscription` lie the checkpoints of read models that keep \
theirs among snapshots, and after a `!` what these have parked.

Examples:
  tailfold snapshots
  tailfold snapshots airport/JFK --json
  tailfold snapshots --fold delays-by-carrier
  tailfold --store postgres://localhost/bank --snapshots redis://localhost snapshots";

/// Of which stream.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only snapshots of this stream, written `category/id`.
    #[arg(value_parser = stream)]
    stream: Option<StreamId>,
    /// Only snapshots of this fold.
    #[arg(long)]
    fold: Option<String>,
}

pub(crate) async fn run(tiers: &Tiers, options: Options, output: &mut Output) -> Result<()> {
    let filter =
        SlotFilter { fold: options.fold, key: options.stream.map(|stream| stream.to_string()), serial: None };
    let place = tiers.are_several().then_some(("tier", Align::Left));
    let mut table = Table::new(place.into_iter().chain([
        ("fold", Align::Left),
        ("serial", Align::Left),
        ("key", Align::Left),
        ("version", Align::Right),
        ("size", Align::Right),
        ("codec", Align::Left),
        ("compression", Align::Left),
        ("created", Align::Left),
        ("used", Align::Left),
        ("envelope", Align::Left),
    ]));
    for (name, tier) in tiers.each() {
        let place = tiers.are_several().then_some(name);
        let mut batches = tier.list(filter.clone());
        while let Some(batch) = batches.try_next().await? {
            for info in batch {
                let envelope = match tier.newest(&info.slot, Some(info.head.version)).await? {
                    Some(stored) if stored.head == info.head => check(&info, Envelope::parse(&stored.bytes)),
                    // Replaced since it was listed.
                    _ => continue,
                };
                if output.is_json() {
                    output.json(&object(place, &info, &envelope))?;
                } else {
                    table.row(place.map(str::to_owned).into_iter().chain(cells(&info, &envelope)));
                }
            }
        }
    }
    if output.is_json() { Ok(()) } else { output.table(&table) }
}

fn check(info: &SnapshotInfo, parsed: Result<Envelope, Rejection>) -> Result<Envelope, Rejection> {
    let envelope = parsed?;
    if envelope.slot != info.slot {
        return Err(Rejection::Foreign);
    }
    if envelope.head != info.head {
        return Err(Rejection::Corrupt);
    }
    Ok(envelope)
}

fn object(
    place: Option<&str>,
    info: &SnapshotInfo,
    envelope: &Result<Envelope, Rejection>,
) -> serde_json::Value {
    let mut object = json!({
        "fold": info.slot.fold(),
        "serial": info.slot.serial(),
        "key": info.slot.key(),
        "kind": SlotKind::of(&info.slot).as_str(),
        "version": info.head.version,
        "chain": info.head.chain,
        "bytes": info.bytes,
        "used": info.used.to_string(),
        "rejected": envelope.as_ref().err(),
    });
    if let (Some(fields), Some(place)) = (object.as_object_mut(), place) {
        fields.insert("tier".to_owned(), json!(place));
    }
    if let (Some(fields), Ok(envelope)) = (object.as_object_mut(), envelope) {
        fields.insert("codec".to_owned(), json!(envelope.codec));
        fields.insert("compression".to_owned(), json!(envelope.compression));
        fields.insert("encryption".to_owned(), json!(envelope.encryption));
        fields.insert("forgotten_keys".to_owned(), json!(envelope.forgotten_keys));
        fields.insert("checksum_key".to_owned(), json!(envelope.checksum_key));
        fields.insert("raw_bytes".to_owned(), json!(envelope.raw_bytes));
        fields.insert("stored_bytes".to_owned(), json!(envelope.stored_bytes()));
        fields.insert("created_at".to_owned(), json!(envelope.created_at));
        fields.insert("latest_recorded_at".to_owned(), json!(envelope.latest_recorded_at));
        fields.insert("library".to_owned(), json!(envelope.library));
    }
    object
}

fn cells(info: &SnapshotInfo, envelope: &Result<Envelope, Rejection>) -> [String; 10] {
    let known = |field: fn(&Envelope) -> String| envelope.as_ref().map_or_else(|_| "-".to_owned(), field);
    [
        info.slot.fold().to_owned(),
        info.slot.serial().to_string(),
        info.slot.key().to_owned(),
        info.head.version.to_string(),
        bytes(info.bytes),
        known(|envelope| envelope.codec.clone()),
        known(|envelope| format!("{:?}", envelope.compression).to_lowercase()),
        known(|envelope| envelope.created_at.to_string()),
        info.used.to_string(),
        envelope.as_ref().map_or_else(|reason| reason.to_string(), |_| "sound".to_owned()),
    ]
}
