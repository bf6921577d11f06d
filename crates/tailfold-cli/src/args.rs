//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    backup, demo, export, import, parked, project, projections, reindex, renew_id, reset_snapshots, restore,
    show, snapshots, state, stats, streams, sweep, verify,
};
use crate::store::{Location, LocationParser};
use crate::tier::{SnapshotLocation, SnapshotLocationParser};

/// Looks into stores of tailfold, checks, moves and mends them.
///
/// A store holds events, in streams written `category/id`, and snapshots of the states that folds make of them. Start with
/// `tailfold demo`, which fills a store with real data and shows what snapshots are good for.
#[derive(Debug, Parser)]
#[command(
    name = "tailfold",
    version,
    max_term_width = 110,
    after_long_help = "\
Examples:
  tailfold demo --store flights.db          a store with 80,789 flights, loaded in two ways
  tailfold --store flights.db stats         what is in it
  tailfold --store flights.db streams --category airport
  tailfold --store flights.db state airport/JFK --as-of 2013-02-01
  tailfold --store flights.db verify        recompute every chain, check every snapshot

Stores on NATS JetStream:
  tailfold --store nats://localhost:4222 stats
  tailfold --store nats://n1,n2,n3:4222/bank?credentials=bank.creds verify

A URL names the servers, the store (`tf`, the library's default, if it names none) and settings: credentials, tls_ca, \
tls_cert, tls_key (paths), deadline (seconds), and for a store that is created replicas, storage, immutable, retention. \
`tls://` requires TLS. Only `demo`, `import` and `restore` create a store.

Stores on PostgreSQL, and snapshots on Redis:
  tailfold demo --store postgres://ada@localhost/bank --snapshots redis://localhost

A URL of PostgreSQL names the server, the database, and settings: schema (the store's, `tailfold` if it names none), sslmode \
and more. `rediss://` is Redis by TLS; the settings of its URL are name, retention (days), timeout_ms, connect_timeout_ms, \
cluster, tls_ca, tls_cert, tls_key. Backups are left to the tools of PostgreSQL; see `renew-id`.

Passwords:
  tailfold --store 'postgres://ada@localhost/bank?password_file=/run/secrets/bank' stats
  tailfold --store 'nats://ada@localhost/bank?password_env=BANK_PASSWORD' stats

Other users of the machine see a command line. Every URL takes password_file=PATH, whose content, without the end of its \
line, is the password, or password_env=VARIABLE; NATS takes credentials=PATH besides. Of NATS without a user, it is the token. \
A password in the URL itself is percent-encoded: `@` is %40, `/` is %2F, `?` is %3F. No message tells it.

Exit codes:
  0    done
  1    failed: the message on stderr names the operation and the thing
  2    the command line is wrong
  3    a check found something: `verify` damage, `demo` a state that differs
  130  interrupted (Ctrl-C)
  143  ended by SIGTERM

With --json, a failure is an object on stderr: kind, message, and line where one of an input is wrong. Kinds: usage (the \
command line), what a store says (conflict, unavailable, invalid, corrupt, codec, unsupported), line, io, refused, found, \
interrupted, terminated."
)]
pub struct Args {
    /// The store: a path, or a URL `postgres://..` or `nats://..`. Default: `tailfold.db` in the working directory.
    ///
    /// In full: PATH, `sqlite:PATH`, `postgres://[USER@]HOST[:PORT][/DATABASE][?schema=NAME]`, or
    /// `nats://[USER@]HOST[:PORT][/NAME]`; `tailfold --help` tells the settings of URLs, and how passwords are given. `demo` without
    /// a store takes a temporary one.
    #[arg(long, global = true, help_heading = "Options of every command", value_name = "STORE", value_parser = LocationParser("--store <STORE>"))]
    pub store: Option<Location>,

    /// A tier of snapshots in front of the store's own: `redis://[USER@]HOST[:PORT]`. Default: none.
    ///
    /// `demo` writes to both and loads from the tier first; `snapshots`, `projections`, `stats`, `verify` and `sweep` look at both and
    /// say which is which, and `project rebuild` writes to both; other commands do not touch snapshots.
    #[arg(long, global = true, help_heading = "Options of every command", value_name = "TIER", value_parser = SnapshotLocationParser)]
    pub snapshots: Option<SnapshotLocation>,

    /// Writes JSON to stdout and nothing else. A failure is an object on stderr.
    ///
    /// One object, or one object a line where the command lists things; of a failure {"kind", "message"}.
    #[arg(long, global = true, help_heading = "Options of every command")]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Imports real flights, then loads every actor by replay and by snapshot + tail and compares.
    #[command(after_long_help = demo::HELP)]
    Demo(demo::Options),
    /// Lists streams with their heads, ordered by name.
    #[command(after_long_help = streams::HELP)]
    Streams(streams::Options),
    /// Shows the events of a stream.
    #[command(after_long_help = show::HELP)]
    Show(show::Options),
    /// Shows what a stream's payloads add up to, as a JSON merge patch.
    #[command(after_long_help = state::HELP)]
    State(state::Options),
    /// Lists the snapshots of a store, or of one stream, and checks their envelopes.
    #[command(after_long_help = snapshots::HELP)]
    Snapshots(snapshots::Options),
    /// Lists the projections of which a store holds snapshots, and how far behind these are.
    #[command(after_long_help = projections::HELP)]
    Projections(projections::Options),
    /// Builds snapshots of a projection.
    #[command(subcommand, after_long_help = project::HELP)]
    Project(project::Action),
    /// Lists the events that read models could not handle, has them tried again, or drops them.
    #[command(subcommand, after_long_help = parked::HELP)]
    Parked(parked::Action),
    /// Counts what is in a store. Reads the whole log.
    #[command(after_long_help = stats::HELP)]
    Stats,
    /// Recomputes every chain from the log and checks every snapshot against it.
    #[command(after_long_help = verify::HELP)]
    Verify,
    /// Removes snapshots that nobody has used for a while. Never touches events.
    #[command(after_long_help = sweep::HELP)]
    Sweep(sweep::Options),
    /// Copies a store to a new file while it is in use.
    #[command(after_long_help = backup::HELP)]
    Backup(backup::Options),
    /// Makes a new store of a backup; it gets a store id of its own.
    #[command(after_long_help = restore::HELP)]
    Restore(restore::Options),
    /// Builds the indexes anew from the events, where the store has some.
    #[command(after_long_help = reindex::HELP)]
    Reindex,
    /// Throws all snapshots of a store on SQLite away and makes their tables new, where these are damaged.
    #[command(after_long_help = reset_snapshots::HELP)]
    ResetSnapshots,
    /// Gives a store on PostgreSQL that was copied by other tools an id of its own.
    #[command(after_long_help = renew_id::HELP)]
    RenewId,
    /// Writes all events as JSON lines, with exact bytes.
    #[command(after_long_help = export::HELP)]
    Export(export::Options),
    /// Records events that `export` wrote; ids and times stay, chains are recomputed and compared.
    #[command(after_long_help = import::HELP)]
    Import(import::Options),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
