//! `reindex`: the indexes beside the log, from the events.

use serde_json::json;

use crate::error::Result;
use crate::output::Output;
use crate::store::Open;

pub(crate) const HELP: &str = "\
Events are found by their tags, and on SQLite by category and type, through indexes beside the log, \
which can be rebuilt at any time. Appends wait for it. On SQLite, the whole file is then written anew, \
without what may be left of erased events in unused parts of it; that takes about twice its size of \
free disk meanwhile. Stores on NATS have no such index, and refuse. \
With --json, one object: {\"reindexed\": true}.

Example:
  tailfold --store flights.db reindex";

pub(crate) async fn run(open: &Open, output: &mut Output) -> Result<()> {
    open.reindex().await?;
    if output.is_json() {
        return output.json(&json!({ "reindexed": true }));
    }
    output.line("the indexes are new")
}
