//! `streams`: what there is.

use futures_util::TryStreamExt as _;
use serde_json::json;
use tailfold::{EventStore as _, Filter, StreamSummary};

use crate::error::Result;
use crate::numbers::whole;
use crate::output::Output;
use crate::store::Open;

pub(crate) const HELP: &str = "\
With --json, one object a line: {\"stream\", \"version\", \"chain\"}.

Examples:
  tailfold streams --category airport
  tailfold streams --limit 10 --json | jq -r .stream";

/// Which streams.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only streams of this category.
    #[arg(long)]
    category: Option<String>,
    /// At most that many.
    #[arg(
        long, value_name = "N", allow_negative_numbers = true,
        value_parser = whole(0..=u64::MAX, "a whole number of streams, as in `--limit 10`")
    )]
    limit: Option<u64>,
}

pub(crate) async fn run(open: &Open, options: Options, output: &mut Output) -> Result<()> {
    let filter = options.category.map_or_else(Filter::all, Filter::category);
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut batches = open.store().streams(filter, None);
    if !output.is_json() {
        output.line(format_args!("{:>10}  {:<32}  stream", "version", "chain"))?;
    }
    while left > 0
        && let Some(batch) = batches.try_next().await?
    {
        for StreamSummary { stream, head } in batch {
            if left == 0 {
                break;
            }
            left -= 1;
            if output.is_json() {
                output.json(&json!({ "stream": stream, "version": head.version, "chain": head.chain }))?;
            } else {
                output.line(format_args!("{:>10}  {}  {stream}", head.version.0, head.chain))?;
            }
        }
    }
    Ok(())
}
