//! One file a command; here, what they have in common.

pub(crate) mod backup;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod parked;
pub(crate) mod project;
pub(crate) mod projections;
pub(crate) mod reindex;
pub(crate) mod renew_id;
pub(crate) mod reset_snapshots;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod snapshots;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod streams;
pub(crate) mod sweep;
pub(crate) mod verify;

use crate::args::{Args, Command};
use crate::error::Result;
use crate::output::Output;
use crate::projections::Projections;
use crate::store::{Access, Location, Open};
use crate::tier::{SnapshotLocation, Tiers};

pub(crate) async fn run(args: Args, projections: &Projections) -> Result<()> {
    let Args { store, snapshots, json, command } = args;
    let mut output = Output::stdout(json);
    let done = dispatch(store, snapshots.as_ref(), projections, command, &mut output).await;
    // What was written before a failure is part of the answer, so it comes out first.
    let flushed = output.finish();
    done.and(flushed)
}

async fn dispatch(
    store: Option<Location>,
    snapshots: Option<&SnapshotLocation>,
    projections: &Projections,
    command: Command,
    output: &mut Output,
) -> Result<()> {
    // Parked events may be in another place.
    let creates = matches!(command, Command::Import(_) | Command::Restore(_) | Command::Parked(_));
    let location = match command {
        Command::Demo(options) => return Box::pin(demo::run(store, snapshots, options, output)).await,
        _ => store.map_or_else(|| Location::standard(creates), Ok)?,
    };
    match command {
        Command::Demo(_) => Ok(()),
        Command::Restore(options) => restore::run(&location, options, output).await,
        Command::Import(options) => {
            // Before a store is created for nothing.
            let import = import::begin(options).await?;
            let open = location.open(Access::Create).await?;
            closing(&open, Box::pin(import.run(&open, output)).await).await
        }
        Command::Sweep(options) => {
            let open = location.open(Access::Write).await?;
            let done = match Tiers::open(snapshots, &open).await {
                Ok(tiers) => sweep::run(&tiers, options, output).await,
                Err(error) => Err(error),
            };
            closing(&open, done).await
        }
        Command::Project(action) => {
            let open = location.open(Access::Write).await?;
            let done = match Tiers::open(snapshots, &open).await {
                Ok(tiers) => Box::pin(project::run(&open, &tiers, projections, action, output)).await,
                Err(error) => Err(error),
            };
            closing(&open, done).await
        }
        Command::Parked(action) => Box::pin(parked::run(&location, snapshots, action, output)).await,
        Command::RenewId => {
            let open = location.open(Access::Write).await?;
            closing(&open, renew_id::run(&open, output).await).await
        }
        Command::ResetSnapshots => {
            let open = location.open(Access::Write).await?;
            closing(&open, reset_snapshots::run(&open, output).await).await
        }
        Command::Reindex => {
            let open = location.open(Access::Write).await?;
            closing(&open, reindex::run(&open, output).await).await
        }
        reading => {
            let open = location.open(Access::Read).await?;
            let done = match reading {
                Command::Snapshots(_) | Command::Projections(_) | Command::Stats | Command::Verify => {
                    match Tiers::open(snapshots, &open).await {
                        Ok(tiers) => Box::pin(look(&open, &tiers, projections, reading, output)).await,
                        Err(error) => Err(error),
                    }
                }
                Command::Streams(options) => streams::run(&open, options, output).await,
                Command::Show(options) => show::run(&open, options, output).await,
                Command::State(options) => state::run(&open, options, output).await,
                Command::Backup(options) => backup::run(&open, options, output).await,
                Command::Export(options) => export::run(&open, options, output).await,
                _ => Ok(()),
            };
            closing(&open, done).await
        }
    }
}

/// What looks at snapshots and changes nothing.
async fn look(
    open: &Open,
    tiers: &Tiers,
    known: &Projections,
    command: Command,
    output: &mut Output,
) -> Result<()> {
    match command {
        Command::Snapshots(options) => snapshots::run(tiers, options, output).await,
        Command::Projections(options) => projections::run(open, tiers, known, options, output).await,
        Command::Stats => stats::run(open, tiers, output).await,
        Command::Verify => verify::run(open, tiers, output).await,
        _ => Ok(()),
    }
}

/// Closes a store whatever came of its use; the use's error is the one that counts.
async fn closing(open: &Open, done: Result<()>) -> Result<()> {
    let closed = open.close().await;
    done.and(closed)
}
