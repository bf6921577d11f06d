//! `state`: what a stream's payloads add up to.

use futures_util::TryStreamExt as _;
use serde_json::{Map, Value, json};
use tailfold::{Direction, EventStore as _, Head, StreamId, Timestamp, Version, VersionRange};

use crate::error::{Error, Result};
use crate::numbers::{stream, whole};
use crate::output::Output;
use crate::store::Open;

const FOLD: &str = "JSON merge patch (RFC 7396)";

pub(crate) const HELP: &str = "\
This program does not know your folds. It applies the payloads one after the other as JSON merge patches \
(RFC 7396): fields overwrite, null removes, objects merge. So it works on every store, and is not the \
state that your service sees. It is never kept as a snapshot. Payloads that are not JSON are left out \
and counted.

With --json, one object: {\"stream\", \"version\", \"chain\", \"fold\", \"snapshotted\", \"events\", \
\"left_out\", \"state\"}.

Examples:
  tailfold state airport/JFK
  tailfold state airport/JFK --at 1000
  tailfold state airport/JFK --as-of 2013-02-01T12:00:00Z --json | jq .state";

/// Of which stream, and when.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The stream, written `category/id`.
    #[arg(value_parser = stream)]
    stream: StreamId,
    /// Right after the event of this version.
    #[arg(
        long, value_name = "V", conflicts_with = "as_of", allow_negative_numbers = true,
        value_parser = whole(0..=u64::MAX, "a version, a whole number, as in `--at 1000`; of a time, say `--as-of 2026-01-31`")
    )]
    at: Option<u64>,
    /// As it was known at this time: up to the first event that was recorded later. RFC 3339, or a date for its first
    /// moment in UTC.
    #[arg(long, value_name = "T")]
    as_of: Option<Timestamp>,
}

pub(crate) async fn run(open: &Open, options: Options, output: &mut Output) -> Result<()> {
    let Options { stream, at, as_of } = options;
    let store = open.store();
    let refused = |why: String| Error::Refused(format!("state of stream `{stream}`: {why}"));
    let Some(last) = store.head(&stream).await? else {
        return Err(refused("there is no such stream in the store".to_owned()));
    };
    if let Some(version) = at
        && version > last.version.0
    {
        return Err(refused(format!("there is no version {version}, the last is {}", last.version)));
    }
    let mut folded = Folded::default();
    let range = VersionRange::ALL.up_to(at.map(Version));
    let mut batches = store.read(&stream, range, Direction::Forward);
    'read: while let Some(batch) = batches.try_next().await? {
        for event in batch {
            if as_of.is_some_and(|time| event.data.recorded_at > time) {
                break 'read;
            }
            folded.apply(&event.data.payload);
            folded.head = Some(event.head());
        }
    }
    let version = folded.head.map_or(Version::ZERO, |head| head.version);
    if output.is_json() {
        return output.json(&json!({
            "stream": stream,
            "version": version,
            "chain": folded.head.map(|head| head.chain),
            "fold": FOLD,
            "snapshotted": false,
            "events": folded.events,
            "left_out": folded.left_out,
            "state": folded.state,
        }));
    }
    output.line(format_args!(
        "{stream} at version {version}, as {FOLD} of its payloads: not the state of your fold"
    ))?;
    if folded.left_out > 0 {
        output.line(format_args!("{} payloads are not JSON and were left out", folded.left_out))?;
    }
    let pretty = serde_json::to_string_pretty(&folded.state)
        .map_err(|error| Error::io("write the state", error.into()))?;
    pretty.lines().try_for_each(|line| output.line(crate::output::printable(line)))
}

#[derive(Default)]
struct Folded {
    state: Value,
    head: Option<Head>,
    events: u64,
    left_out: u64,
}

impl Folded {
    fn apply(&mut self, payload: &[u8]) {
        match serde_json::from_slice(payload) {
            Ok(patch) => {
                merge(&mut self.state, patch);
                self.events += 1;
            }
            Err(_) => self.left_out += 1,
        }
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut state = target.clone();
            merge(&mut state, patch.clone());
            assert_eq!(state, result, "{target} + {patch}");
        }
    }
}
