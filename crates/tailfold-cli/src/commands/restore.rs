//! `restore`: a store from a backup.

use std::path::PathBuf;

use serde_json::json;
use tailfold::EventStore as _;

use crate::error::Result;
use crate::output::Output;
use crate::store::{Access, Location};

pub(crate) const HELP: &str = "\
The store named by --store is created; an existing file is refused. It gets a new store id, so that cursors and caches of the
original, which may have seen events that the backup has not, do not match it. With --json, one object: {\"store\", \"store_id\"}.

Example:
  tailfold --store flights.db restore flights-2026-01-31.db";

/// From where.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The backup, or any store's file.
    backup: PathBuf,
}

pub(crate) async fn run(location: &Location, options: Options, output: &mut Output) -> Result<()> {
    location.restore(&options.backup).await?;
    let open = location.open(Access::Write).await?;
    let store_id = open.store().store_id().await?;
    open.close().await?;
    if output.is_json() {
        return output.json(&json!({ "store": location.to_string(), "store_id": store_id }));
    }
    output.line(format_args!("restored `{}` to `{location}` as store {store_id}", options.backup.display()))
}
