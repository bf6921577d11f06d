//! `reset-snapshots`: new tables for snapshots, whatever has become of the old ones.

use serde_json::json;

use crate::error::Result;
use crate::output::Output;
use crate::store::Open;

pub(crate) const HELP: &str = "\
For a store on SQLite in which `verify` finds pages of snapshots damaged. No event is touched: states \
are replayed until their snapshots are taken anew. Where subscriptions with `ByPosition` stand is kept \
as far as it can be read. The file is written anew, which takes about twice its size of free disk; stop \
the service first, or its appends may fail meanwhile. If events are damaged too, the command fails and \
changes nothing of them: restore a backup. With --json, one object: {\"reset\": true}.

Example:
  tailfold --store flights.db reset-snapshots";

pub(crate) async fn run(open: &Open, output: &mut Output) -> Result<()> {
    open.reset_snapshots().await?;
    if output.is_json() {
        return output.json(&json!({ "reset": true }));
    }
    output.line("all snapshots are gone, and their tables are new")
}
