//! `sweep`: snapshots that nobody uses.

use serde_json::json;
use tailfold::{Clock as _, SlotFilter, Swept, SystemClock};

use crate::error::Result;
use crate::numbers::whole;
use crate::output::{Output, bytes, grouped};
use crate::tier::Tiers;

pub(crate) const HELP: &str = "\
A snapshot counts as used on the day of its last use, or of its save. One that is gone is taken anew \
when it is due; until then its stream loads by replay. That goes for projections too, whose cursors (how \
far they have looked) are counted with the snapshots. With --snapshots, the tier is swept and then the \
store, each told by itself (a Redis removes what is not used by itself as well). With --json, one \
object: {\"snapshots\", \"bytes\", \"unused_since\"}, and `tiers` with --snapshots.

What subscriptions keep among snapshots, where they stand and what they have parked, is none of them and \
stays.

Examples:
  tailfold sweep --unused-for 90
  tailfold sweep --unused-for 7 --fold account      what an older release left behind, say";

/// Which snapshots.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Removes what was last used more than that many days ago.
    #[arg(
        long, value_name = "DAYS", allow_negative_numbers = true,
        value_parser = whole(0..=u32::MAX, "a whole number of days, as in `--unused-for 21`")
    )]
    unused_for: u32,
    /// Only snapshots of this fold.
    #[arg(long)]
    fold: Option<String>,
}

pub(crate) async fn run(tiers: &Tiers, options: Options, output: &mut Output) -> Result<()> {
    let unused_since = SystemClock.now().day().minus(options.unused_for);
    let filter = options.fold.map_or_else(SlotFilter::all, SlotFilter::fold);
    let mut all = Swept::default();
    let mut each = Vec::new();
    for (name, tier) in tiers.each() {
        let swept = tier.sweep(filter.clone(), unused_since).await?;
        all = Swept { snapshots: all.snapshots + swept.snapshots, bytes: all.bytes + swept.bytes };
        each.push((name, swept));
    }
    if output.is_json() {
        let mut object = json!({
            "snapshots": all.snapshots,
            "bytes": all.bytes,
            "unused_since": unused_since.to_string(),
        });
        if let (Some(fields), true) = (object.as_object_mut(), tiers.are_several()) {
            let tier = |(name, swept): &(&str, Swept)| json!({ "tier": name, "snapshots": swept.snapshots, "bytes": swept.bytes });
            fields.insert("tiers".to_owned(), each.iter().map(tier).collect());
        }
        return output.json(&object);
    }
    each.iter().try_for_each(|(name, swept)| {
        let place = if tiers.are_several() { format!(" from {name}") } else { String::new() };
        output.line(format_args!(
            "removed {} snapshots ({}){place} that were not used since {unused_since}",
            grouped(swept.snapshots),
            bytes(swept.bytes)
        ))
    })
}
