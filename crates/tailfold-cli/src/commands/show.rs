//! `show`: the events of a stream, as stored.

use futures_util::TryStreamExt as _;
use serde::Serialize;
use tailfold::{
    Chain, Direction, EventId, EventStore as _, EventType, Position, RecordedEvent, SchemaVersion, StreamId,
    Tag, Timestamp, Version, VersionRange,
};

use crate::error::{Error, Result};
use crate::numbers::{stream, whole};
use crate::output::Output;
use crate::payload::Readable;
use crate::store::Open;

pub(crate) const HELP: &str = "\
A payload is shown as JSON where it is JSON, digit by digit; otherwise as base64, said so (with --json: \
{\"base64\": ..}). With --json, one object a line.

Examples:
  tailfold show airport/JFK --from 27270
  tailfold show aircraft/N14228 --from 1 --to 5 --json | jq .payload";

/// Which events.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The stream, written `category/id`.
    #[arg(value_parser = stream)]
    stream: StreamId,
    /// First version shown.
    #[arg(
        long, value_name = "V", default_value_t = 1, allow_negative_numbers = true,
        value_parser = whole(0..=u64::MAX, "a version, a whole number, as in `--from 1000`")
    )]
    from: u64,
    /// Last version shown; default: the last there is.
    #[arg(
        long, value_name = "V", allow_negative_numbers = true,
        value_parser = whole(0..=u64::MAX, "a version, a whole number, as in `--to 1000`")
    )]
    to: Option<u64>,
}

/// An event in JSON output.
#[derive(Serialize)]
struct Shown<'a> {
    stream: &'a StreamId,
    version: Version,
    position: Position,
    id: EventId,
    r#type: &'a EventType,
    schema_version: SchemaVersion,
    recorded_at: Timestamp,
    chain: Chain,
    origin: bool,
    tags: &'a [Tag],
    metadata: Readable,
    payload: Readable,
}

pub(crate) async fn run(open: &Open, options: Options, output: &mut Output) -> Result<()> {
    let Options { stream, from, to } = options;
    let store = open.store();
    if store.head(&stream).await?.is_none() {
        return Err(Error::Refused(format!("show stream `{stream}`: there is no such stream in the store")));
    }
    let range = VersionRange::from(Version(from)).up_to(to.map(Version));
    let mut batches = store.read(&stream, range, Direction::Forward);
    while let Some(batch) = batches.try_next().await? {
        batch.iter().try_for_each(|event| print(event, output))?;
    }
    Ok(())
}

fn print(event: &RecordedEvent, output: &mut Output) -> Result<()> {
    let RecordedEvent { position, stream, version, chain, data } = event;
    let (metadata, payload) = (Readable::of(&data.metadata), Readable::of(&data.payload));
    if output.is_json() {
        return output.json(&Shown {
            stream,
            version: *version,
            position: *position,
            id: data.id,
            r#type: &data.event_type,
            schema_version: data.schema_version,
            recorded_at: data.recorded_at,
            chain: *chain,
            origin: data.origin,
            tags: &data.tags,
            metadata,
            payload,
        });
    }
    let origin = if data.origin { "  origin" } else { "" };
    output.line(format_args!(
        "{version}  {}  {} v{}{origin}",
        data.recorded_at, data.event_type, data.schema_version
    ))?;
    if !data.tags.is_empty() {
        let tags: Vec<&str> = data.tags.iter().map(Tag::as_str).collect();
        output.line(format_args!("    tags {}", tags.join(", ")))?;
    }
    if !data.metadata.is_empty() {
        output.line(format_args!("    metadata {}", metadata.text()))?;
    }
    output.line(format_args!("    {}", payload.text()))
}
