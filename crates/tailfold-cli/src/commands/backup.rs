//! `backup`: a copy, while the store is in use.

use std::path::PathBuf;

use serde_json::json;
use tailfold::EventStore as _;

use crate::error::Result;
use crate::output::Output;
use crate::store::Open;

pub(crate) const HELP: &str = "\
The copy is one consistent state, on disk when the command ends; nobody waits for it meanwhile. An \
existing file is never replaced, and no file is made beside the `-wal`, `-shm` or `-journal` of another \
one. A command that is killed leaves `TARGET.ID.part` beside it, which can be removed. Make a store of it with `restore`. With --json, one object: {\"target\", \"store_id\"}.

Of a file, it is a compacted file, which is a store too. Of a store on NATS, it is a file that holds the \
messages of both streams, with a checksum; it begins again if a stream of events is erased or truncated \
meanwhile. Stores on PostgreSQL refuse: back up the database with `pg_dump` or a base backup.

Examples:
  tailfold --store flights.db backup flights-2026-01-31.db
  tailfold --store nats://localhost backup flights.backup";

/// Where to.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file to write.
    target: PathBuf,
}

pub(crate) async fn run(open: &Open, options: Options, output: &mut Output) -> Result<()> {
    let target = options.target;
    open.backup_to(&target).await?;
    let store_id = open.store().store_id().await?;
    if output.is_json() {
        return output.json(&json!({ "target": target.display().to_string(), "store_id": store_id }));
    }
    output.line(format_args!("backed up store {store_id} to `{}`", target.display()))
}
