//! The command `tailfold`: looks into stores, checks, moves and mends them, and shows on real data what snapshots do.
//!
//! `tailfold --help` says what there is. Each command is a file in `commands/`; the demo's flights, actors and its
//! independent oracle are in `demo/`. What it is not: a server, or a way to change what is recorded.
//!
//! As a library it makes a command line of yours that knows your projections: [`manage`], with [`Projections`].

mod args;
mod commands;
mod demo;
mod error;
mod numbers;
mod output;
mod partial_file;
mod payload;
mod progress;
mod projections;
mod secret;
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

/// The command, with projections of your own: reads the command line, does what it says, and reports what went wrong on stderr.
/// The whole of a program's `main`.
pub fn manage(projections: Projections) -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Error::io("start the runtime", error)),
    };
    let done = runtime.block_on(async {
        // Dropping what runs ends it cleanly: what was acknowledged stays, temporary files go.
        tokio::select! {
            done = run(args, &projections) => done,
            _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
        }
    });
    // A reader that is blocked on a slow disk must not keep an interrupted command alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong; [`Error::exit_code`] says how the process ends.
pub async fn run(args: Args, projections: &Projections) -> Result<()> {
    commands::run(args, projections).await
}

/// Says what clap has to say: help on stdout, what is wrong on stderr.
fn usage(error: &clap::Error) -> ExitCode {
    let told = error.to_string();
    let without = secret::without_logins(&told);
    if told == without {
        error.exit();
    }
    eprint!("{without}");
    ExitCode::from(2)
}

fn report(error: &Error) -> ExitCode {
    if !error.is_silent() {
        eprintln!("error: {}", secret::without_logins(&error.to_string()));
    }
    ExitCode::from(error.exit_code())
}

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
