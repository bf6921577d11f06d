//! `reindex`: the index of tags, from the events.

use serde_json::json;

use crate::error::Result;
use crate::output::Output;
use crate::store::Open;

pub(crate) const HELP: &str = "\
Tags lie beside the chain; the index by which they are found can be rebuilt at any time. Appends wait for it. Stores on NATS have
no such index, and refuse. With --json, one object: {\"reindexed\": true}.

Example:
  tailfold --store flights.db reindex";

pub(crate) async fn run(open: &Open, output: &mut Output) -> Result<()> {
    open.reindex().await?;
    if output.is_json() {
        return output.json(&json!({ "reindexed": true }));
    }
    output.line("the index of tags is new")
}
