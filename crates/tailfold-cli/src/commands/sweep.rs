//! `sweep`: snapshots that nobody uses.

use serde_json::json;
use tailfold::{Clock as _, SlotFilter, SnapshotStore as _, SystemClock};

use crate::error::Result;
use crate::output::{Output, bytes, grouped};
use crate::store::Open;

pub(crate) const HELP: &str = "\
A snapshot counts as used on the day of its last use, or of its save. One that is gone is taken anew when it is due; until
then its stream loads by replay. With --json, one object: {\"snapshots\", \"bytes\", \"unused_since\"}.

Examples:
  tailfold sweep --unused-for 90
  tailfold sweep --unused-for 7 --fold account      what an older release left behind, say";

/// Which snapshots.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Removes what was last used more than that many days ago.
    #[arg(long, value_name = "DAYS")]
    unused_for: u32,
    /// Only snapshots of this fold.
    #[arg(long)]
    fold: Option<String>,
}

pub(crate) async fn run(open: &Open, options: Options, output: &mut Output) -> Result<()> {
    let unused_since = SystemClock.now().day().minus(options.unused_for);
    let filter = options.fold.map_or_else(SlotFilter::all, SlotFilter::fold);
    let swept = open.store().sweep(filter, unused_since).await?;
    if output.is_json() {
        return output.json(&json!({
            "snapshots": swept.snapshots,
            "bytes": swept.bytes,
            "unused_since": unused_since.to_string(),
        }));
    }
    output.line(format_args!(
        "removed {} snapshots ({}) that were not used since {unused_since}",
        grouped(swept.snapshots),
        bytes(swept.bytes)
    ))
}
