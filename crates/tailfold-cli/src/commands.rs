//! One file a command; here, what they have in common.

pub(crate) mod backup;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod reindex;
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
use crate::store::{Access, Location, Open};

pub(crate) async fn run(args: Args) -> Result<()> {
    let Args { store, json, command } = args;
    let mut output = Output::stdout(json);
    let done = dispatch(store, command, &mut output).await;
    // What was written before a failure is part of the answer, so it comes out first.
    let flushed = output.finish();
    done.and(flushed)
}

async fn dispatch(store: Option<Location>, command: Command, output: &mut Output) -> Result<()> {
    let location = match command {
        Command::Demo(options) => return Box::pin(demo::run(store, options, output)).await,
        _ => store.unwrap_or_else(Location::standard),
    };
    match command {
        Command::Demo(_) => Ok(()),
        Command::Restore(options) => restore::run(&location, options, output).await,
        Command::Import(options) => {
            let open = location.open(Access::Create).await?;
            closing(&open, Box::pin(import::run(&open, options, output)).await).await
        }
        Command::Sweep(options) => {
            let open = location.open(Access::Write).await?;
            closing(&open, sweep::run(&open, options, output).await).await
        }
        Command::Reindex => {
            let open = location.open(Access::Write).await?;
            closing(&open, reindex::run(&open, output).await).await
        }
        reading => {
            let open = location.open(Access::Read).await?;
            let done = match reading {
                Command::Streams(options) => streams::run(&open, options, output).await,
                Command::Show(options) => show::run(&open, options, output).await,
                Command::State(options) => state::run(&open, options, output).await,
                Command::Snapshots(options) => snapshots::run(&open, options, output).await,
                Command::Stats => stats::run(&open, output).await,
                Command::Verify => Box::pin(verify::run(&open, output)).await,
                Command::Backup(options) => backup::run(&open, options, output).await,
                Command::Export(options) => export::run(&open, options, output).await,
                _ => Ok(()),
            };
            closing(&open, done).await
        }
    }
}

/// Closes a store whatever came of its use; the use's error is the one that counts.
async fn closing(open: &Open, done: Result<()>) -> Result<()> {
    let closed = open.close().await;
    done.and(closed)
}
