//! The command `tailfold`: looks into stores, checks, moves and mends them, and shows on real data what snapshots do.
//!
//! `tailfold --help` says what there is. Each command is a file in `commands/`; the demo's flights, actors and its
//! independent oracle are in `demo/`. What it is not: a server, or a way to change what is recorded.
//!
//! As a library it makes a command line of yours that knows your projections: [`manage`], with [`Projections`]. Features
//! choose which kinds of stores it knows, and so which drivers it brings; all are default, and one kind of store is needed:
//!
//! | feature | brings |
//! |---|---|
//! | `sqlite` | stores and read models in files, and the default of `--store` |
//! | `postgres` | stores and read models on PostgreSQL |
//! | `nats` | stores on NATS JetStream |
//! | `redis` | snapshots on Redis (`--snapshots`) |
//!
//! A place of a kind that was left out is refused by the feature's name.

mod args;
mod commands;
mod demo;
mod error;
mod file_kind;
mod numbers;
mod output;
mod partial_file;
mod payload;
mod progress;
mod projections;
mod secret;
mod signals;
mod slot_kind;
mod store;
mod table;
mod tier;

pub use args::{Args, Command};
pub use error::{Error, Result};
pub use projections::{KeyFromText, Projections};
pub use store::Location;
pub use tier::SnapshotLocation;

use std::process::ExitCode;

use clap::Parser as _;

/// The command `tailfold`.
pub fn main() -> ExitCode {
    manage(Projections::new())
}

/// The command, with projections of your own: reads the command line, does what it says, and reports what went wrong on stderr,
/// with `--json` as an object. The whole of a program's `main`.
pub fn manage(projections: Projections) -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let json = args.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Error::io("start the runtime", error), json),
    };
    let done = runtime.block_on(async {
        // Dropping what runs ends it cleanly: what was acknowledged stays, temporary files go.
        tokio::select! {
            // What is done is done.
            biased;
            done = run(args, &projections) => done,
            ended = signals::first(move |error| report(error, json)) => Err(ended),
        }
    });
    // A reader that is blocked on a slow disk must not keep an interrupted command alive.
    runtime.shutdown_timeout(signals::CLEANING_UP);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error, json),
    }
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong; [`Error::exit_code`] says how the process ends.
pub async fn run(args: Args, projections: &Projections) -> Result<()> {
    commands::run(args, projections).await
}

/// Says what clap has to say: help on stdout, what is wrong on stderr, without the logins of URLs.
fn usage(error: &clap::Error) -> ExitCode {
    let told = error.to_string();
    let without = secret::without_logins(&told, std::env::args_os());
    // What is wrong may be that `--json` was not understood.
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let message = without.strip_prefix("error: ").unwrap_or(&without).trim_end();
        eprintln!("{}", serde_json::json!({ "kind": "usage", "message": message }));
    } else if error.use_stderr() && told != without {
        eprint!("{without}");
    } else {
        // In colours.
        error.exit();
    }
    ExitCode::from(2)
}

fn report(error: &Error, json: bool) -> ExitCode {
    let message = secret::without_logins(&error.to_string(), std::env::args_os());
    match (error.is_silent(), json) {
        (true, _) => {}
        (false, true) => eprintln!("{}", error.object(&message)),
        (false, false) => eprintln!("error: {message}"),
    }
    ExitCode::from(error.exit_code())
}

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
