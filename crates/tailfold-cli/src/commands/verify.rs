//! `verify`: everything that can be recomputed, recomputed.

use serde_json::json;
use tailfold::{
    ErrorKind, Filter, SlotFilter, SnapshotVerification, Verification, verify_chains, verify_snapshots,
};

use crate::error::{Error, Result};
use crate::output::{Output, bytes, grouped};
use crate::progress::Progress;
use crate::store::Open;
use crate::tier::Tiers;

pub(crate) const HELP: &str = "\
Checks the pages of a store's file (a store on a server has none: servers look after theirs), recomputes \
the chain of every stream in one pass over the log (erased and truncated ones too; memory grows with the \
number of streams), then reads every snapshot and compares it with the stream it stands for. On \
PostgreSQL, the sequence of positions was compared with the log when the command connected, as by each \
process that does, and set right where it was behind.

Of a projection's snapshot, envelope and slot are checked, and that the log reaches its position. \
Whether the event there is the one that was folded takes the projection's query: every load checks that, \
and takes no snapshot for which it does not hold.

Checksums of snapshots are recomputed without their key, if they have one: damage is found, a forgery is \
not.

A wrong event means that somebody or something altered the history: restore a backup. A wrong snapshot \
costs time and never an answer: the next load of its stream replays and removes it. With --snapshots, \
the snapshots of the tier and of the store are checked and counted by themselves. Damage of either kind \
ends with exit code 3. With --json, one object.

Examples:
  tailfold --store flights.db verify
  tailfold --store flights.db verify --json | jq .damages";

pub(crate) async fn run(open: &Open, tiers: &Tiers, output: &mut Output) -> Result<()> {
    let quiet = output.is_json();
    let file = match open.check_file().await {
        Ok(()) => None,
        Err(error) if *error.kind() == ErrorKind::Corrupt => Some(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let store = open.store();
    let progress = Progress::new(quiet, "events", None);
    let chains = verify_chains(&store, Filter::all(), |seen| progress.at(seen.events)).await;
    progress.finish();
    // What cannot even be read is damage too, and ends the pass.
    let (chains, unreadable) = match chains {
        Ok(chains) => (chains, None),
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Codec) => {
            (Verification::default(), Some(error.to_string()))
        }
        Err(error) => return Err(error.into()),
    };
    let mut unreadable = unreadable;
    let mut checked = Vec::new();
    for (name, tier) in tiers.each() {
        let progress = Progress::new(quiet, "snapshots", None);
        let seen =
            verify_snapshots(&store, &tier, SlotFilter::all(), |seen| progress.at(seen.snapshots)).await;
        progress.finish();
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) if *error.kind() == ErrorKind::Corrupt => {
                unreadable.get_or_insert_with(|| error.to_string());
                SnapshotVerification::default()
            }
            Err(error) => return Err(error.into()),
        };
        checked.push((name, seen));
    }
    let total =
        |number: fn(&SnapshotVerification) -> u64| checked.iter().map(|(_, seen)| number(seen)).sum::<u64>();
    let (snapshots, wrong) = (total(|seen| seen.snapshots), total(|seen| seen.wrong));
    let snapshots_sound = checked.iter().all(|(_, seen)| seen.is_sound());
    let sound = file.is_none() && unreadable.is_none() && chains.is_sound() && snapshots_sound;
    let told = if output.is_json() {
        let mut object = json!({
            "sound": sound,
            "file": file,
            "unreadable": unreadable,
            "events": chains.events,
            "payload_bytes": chains.bytes,
            "streams": chains.streams,
            "erased": chains.erased,
            "truncated": chains.truncated,
            "damaged": chains.damaged,
            "damages": chains.damages,
            "snapshots": snapshots,
            "snapshots_of_projections": total(|seen| seen.of_projections),
            "snapshots_wrong": wrong,
            "snapshots_rejected": checked.iter().flat_map(|(_, seen)| &seen.rejected).collect::<Vec<_>>(),
        });
        if let (Some(fields), true) = (object.as_object_mut(), tiers.are_several()) {
            let tier = |(name, seen): &(&str, SnapshotVerification)| {
                json!({
                    "tier": name,
                    "snapshots": seen.snapshots,
                    "snapshots_wrong": seen.wrong,
                    "snapshots_rejected": seen.rejected,
                })
            };
            fields.insert("tiers".to_owned(), checked.iter().map(tier).collect());
        }
        output.json(&object)
    } else {
        let tier = |name| tiers.are_several().then_some(name);
        print_chains(&chains, output)
            .and_then(|()| {
                checked.iter().try_for_each(|(name, seen)| print_snapshots(tier(*name), seen, output))
            })
            .and_then(|()| {
                let messages = file.iter().chain(&unreadable);
                messages.into_iter().try_for_each(|message| output.line(format_args!("damage: {message}")))
            })
    };
    // What was found counts, though nobody may have read it to its end.
    if sound {
        return told;
    }
    Err(Error::Found(format!(
        "verify: {} of {} events and {} of {} snapshots are wrong{}",
        chains.damaged,
        grouped(chains.events),
        wrong,
        grouped(snapshots),
        if file.is_some() || unreadable.is_some() { ", and the file is damaged" } else { "" }
    )))
}

fn print_chains(chains: &Verification, output: &mut Output) -> Result<()> {
    output.line(format_args!(
        "{} events of {} streams ({} of payload; {} erased, {} truncated): {} wrong",
        grouped(chains.events),
        grouped(chains.streams),
        bytes(chains.bytes),
        chains.erased,
        chains.truncated,
        chains.damaged
    ))?;
    chains.damages.iter().try_for_each(|damage| output.line(format_args!("damage: {damage}")))
}

fn print_snapshots(tier: Option<&str>, seen: &SnapshotVerification, output: &mut Output) -> Result<()> {
    let place = tier.map(|tier| format!(" in {tier}")).unwrap_or_default();
    let projections = match seen.of_projections {
        0 => String::new(),
        1 => ", 1 of a projection".to_owned(),
        several => format!(", {} of projections", grouped(several)),
    };
    output.line(format_args!(
        "{} snapshots{place}{projections} ({}): {} wrong",
        grouped(seen.snapshots),
        bytes(seen.bytes),
        seen.wrong
    ))?;
    seen.rejected.iter().try_for_each(|wrong| {
        output.line(format_args!(
            "snapshot `{}`{place} at version {}: {}",
            wrong.slot, wrong.version, wrong.reason
        ))
    })
}
