//! `renew-id`: a store that other tools have copied is a store of its own.

use serde_json::json;

use crate::error::Result;
use crate::output::Output;
use crate::store::Open;

pub(crate) const HELP: &str = "\
What remembers positions of a store (cursors, caches) remembers its id too. After a dump or a base \
backup of PostgreSQL was restored, the copy has the id of the original, which may have seen events that \
the copy has not: give the copy a new one before anybody uses it. Whoever has it open must open it \
again, and is refused until then. The sequence of positions is set right, too, where a replica or a \
restore has left it behind the log. `restore` does this by itself for files and on NATS, where this \
command refuses. With --json, one object: {\"store_id\"}.

Example:
  pg_restore --dbname copy bank.dump
  tailfold --store postgres://localhost/copy renew-id";

pub(crate) async fn run(open: &Open, output: &mut Output) -> Result<()> {
    let store_id = open.renew_id().await?;
    if output.is_json() {
        return output.json(&json!({ "store_id": store_id }));
    }
    output.line(format_args!("it is store {store_id} now"))
}
