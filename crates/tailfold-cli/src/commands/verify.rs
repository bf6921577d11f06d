//! `verify`: everything that can be recomputed, recomputed.

use serde_json::json;
use tailfold::{
    ErrorKind, Filter, SlotFilter, SnapshotVerification, Verification, verify_chains, verify_snapshots,
};

use crate::error::{Error, Result};
use crate::output::{Output, bytes, grouped};
use crate::progress::Progress;
use crate::store::Open;

pub(crate) const HELP: &str = "\
Checks the pages of a store's file (a store on NATS has none: the servers look after theirs), recomputes the chain of every stream
in one pass over the log (erased and truncated ones too; memory grows with the number of streams), then reads every snapshot and
compares it with the stream it stands for.

A wrong event means that somebody or something altered the history: restore a backup. A wrong snapshot costs time and never
an answer: the next load of its stream replays and removes it. Either ends with exit code 3. With --json, one object.

Examples:
  tailfold --store flights.db verify
  tailfold --store flights.db verify --json | jq .damages";

pub(crate) async fn run(open: &Open, output: &mut Output) -> Result<()> {
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
    let progress = Progress::new(quiet, "snapshots", None);
    let snapshots =
        verify_snapshots(&store, &store, SlotFilter::all(), |seen| progress.at(seen.snapshots)).await;
    progress.finish();
    let (snapshots, unreadable) = match snapshots {
        Ok(snapshots) => (snapshots, unreadable),
        Err(error) if *error.kind() == ErrorKind::Corrupt => {
            (SnapshotVerification::default(), unreadable.or_else(|| Some(error.to_string())))
        }
        Err(error) => return Err(error.into()),
    };
    let sound = file.is_none() && unreadable.is_none() && chains.is_sound() && snapshots.is_sound();
    if output.is_json() {
        output.json(&json!({
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
            "snapshots": snapshots.snapshots,
            "snapshots_wrong": snapshots.wrong,
            "snapshots_rejected": snapshots.rejected,
        }))?;
    } else {
        print(&chains, &snapshots, output)?;
        file.iter()
            .chain(&unreadable)
            .try_for_each(|message| output.line(format_args!("damage: {message}")))?;
    }
    if sound {
        return Ok(());
    }
    Err(Error::Found(format!(
        "verify: {} of {} events and {} of {} snapshots are wrong{}",
        chains.damaged,
        grouped(chains.events),
        snapshots.wrong,
        grouped(snapshots.snapshots),
        if file.is_some() || unreadable.is_some() { ", and the file is damaged" } else { "" }
    )))
}

fn print(chains: &Verification, snapshots: &SnapshotVerification, output: &mut Output) -> Result<()> {
    output.line(format_args!(
        "{} events of {} streams ({} of payload; {} erased, {} truncated): {} wrong",
        grouped(chains.events),
        grouped(chains.streams),
        bytes(chains.bytes),
        chains.erased,
        chains.truncated,
        chains.damaged
    ))?;
    output.line(format_args!(
        "{} snapshots ({}): {} wrong",
        grouped(snapshots.snapshots),
        bytes(snapshots.bytes),
        snapshots.wrong
    ))?;
    for damage in &chains.damages {
        output.line(format_args!("damage: {damage}"))?;
    }
    for wrong in &snapshots.rejected {
        output
            .line(format_args!("snapshot `{}` at version {}: {}", wrong.slot, wrong.version, wrong.reason))?;
    }
    Ok(())
}
