//! `export`: all events as JSON lines, with exact bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tailfold::{
    Chain, EventData, EventId, EventStore as _, EventType, Filter, Follow, NewEvent, Position, RecordedEvent,
    SchemaVersion, StreamId, Tag, Timestamp, Truncation, Version,
};

use crate::error::{Error, Result};
use crate::output::{Output, grouped};
use crate::partial_file::PartialFile;
use crate::payload::{from_exact, to_exact};
use crate::progress::Progress;
use crate::store::Open;

pub(crate) const HELP: &str = "\
One event a line, in the order of the log. A payload is a JSON string of its exact text where it is \
UTF-8; otherwise base64, said so by \"payload_encoding\". The first event of a later life names the \
tombstone's chain as \"previous_life\". The last line is the end mark, {\"end\": {\"events\": N, ..}}: \
`import` tells by it that nothing is missing.

Left out, and counted, are tombstones of erased streams and markers of truncations. What a marker \
remembers of the idempotency keys of events that were cut off goes with it: into the store that is \
imported, a command with such a key is recorded again. Snapshots are not exported: they are taken anew. \
To keep everything, use `backup`.

A file gets its name when all of it is on disk; one that is there is never replaced. A command that is \
killed leaves `FILE.ID.part` beside it, which can be removed. A file may be read by whom the store's file \
may be. Without FILE, or with `-`, the lines go to stdout, and the count to \
stderr. With --json, the count is one object: events, tombstones_left_out, markers_left_out, \
keys_left_out, truncated_streams.

Examples:
  tailfold --store flights.db export flights.jsonl
  tailfold --store flights.db export | gzip > flights.jsonl.gz
  tailfold --store a.db export | tailfold --store b.db import";

/// Where to.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file to write; it must not exist. `-`: stdout.
    #[arg(default_value = "-")]
    file: PathBuf,
}

/// A line of an export: an event with its place.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) stream: StreamId,
    pub(crate) version: Version,
    pub(crate) chain: Chain,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous_life: Option<Chain>,
    pub(crate) id: EventId,
    pub(crate) r#type: EventType,
    pub(crate) schema_version: SchemaVersion,
    pub(crate) recorded_at: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) origin: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) metadata: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metadata_encoding: Option<Encoding>,
    pub(crate) payload: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload_encoding: Option<Encoding>,
}

/// The last line of an export.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndLine {
    pub(crate) end: End,
}

/// What an export says of itself at its end. Releases to come may say more.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct End {
    /// Lines before this one, but for what is no event.
    pub(crate) events: u64,
    #[serde(flatten)]
    pub(crate) left_out: LeftOut,
    /// Streams that begin after version 1.
    #[serde(default)]
    truncated_streams: u64,
}

/// What is in the log and not in the export.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    #[serde(default, rename = "tombstones_left_out")]
    pub(crate) tombstones: u64,
    #[serde(default, rename = "markers_left_out")]
    pub(crate) markers: u64,
    /// Idempotency keys that the markers remember.
    #[serde(default, rename = "keys_left_out")]
    pub(crate) keys: u64,
}

impl LeftOut {
    pub(crate) fn add(&mut self, other: &Self) {
        self.tombstones += other.tombstones;
        self.markers += other.markers;
        self.keys += other.keys;
    }

    /// To be said after something else; empty if nothing was left out.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (count, what) in [
            (self.tombstones, "tombstones of erased streams"),
            (self.markers, "markers of truncations"),
            (
                self.keys,
                "idempotency keys that these remember: commands sent again with them are recorded again",
            ),
        ] {
            if count > 0 {
                text += &format!("; left out {} {what}", grouped(count));
            }
        }
        text
    }
}

/// How bytes that are not UTF-8 are written.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    Base64,
}

impl Line {
    fn of(event: RecordedEvent, previous_life: Option<Chain>) -> Self {
        let RecordedEvent { stream, version, chain, data, .. } = event;
        let (metadata, metadata_is_base64) = to_exact(&data.metadata);
        let (payload, payload_is_base64) = to_exact(&data.payload);
        Self {
            stream,
            version,
            chain,
            previous_life,
            id: data.id,
            r#type: data.event_type,
            schema_version: data.schema_version,
            recorded_at: data.recorded_at,
            origin: data.origin,
            tags: data.tags,
            metadata,
            metadata_encoding: metadata_is_base64.then_some(Encoding::Base64),
            payload,
            payload_encoding: payload_is_base64.then_some(Encoding::Base64),
        }
    }

    /// The event that it tells.
    pub(crate) fn into_event(self) -> Result<NewEvent, String> {
        NewEvent::new(self.into_data()?).map_err(|error| error.to_string())
    }

    fn into_data(self) -> Result<EventData, String> {
        let payload = from_exact(self.payload, self.payload_encoding.is_some());
        let metadata = from_exact(self.metadata, self.metadata_encoding.is_some());
        let mut data = EventData::new(self.r#type, payload.map_err(|why| format!("payload: {why}"))?);
        data.id = self.id;
        data.schema_version = self.schema_version;
        data.recorded_at = self.recorded_at;
        data.metadata = metadata.map_err(|why| format!("metadata: {why}"))?.into();
        data.tags = self.tags;
        data.origin = self.origin;
        Ok(data)
    }
}

pub(crate) async fn run(open: &Open, options: Options, output: &mut Output) -> Result<()> {
    if options.file == Path::new("-") {
        let mut lines = BufWriter::with_capacity(1 << 16, io::stdout());
        let end = write_lines(open, &mut lines, Error::output, true).await?;
        // Stdout is the data's, so the count goes where it does no harm.
        eprintln!("{}", if output.is_json() { json!(end).to_string() } else { end.text() });
        return Ok(());
    }
    let failed = |error: io::Error| {
        let operation = format!("export to `{}`", options.file.display());
        if error.kind() == io::ErrorKind::AlreadyExists {
            return Error::Refused(format!(
                "{operation}: it exists already: name a file that does not, or `-` for stdout"
            ));
        }
        Error::io(operation, error)
    };
    let mut lines = PartialFile::create(&options.file, open.permissions()?).map_err(failed)?;
    let end = write_lines(open, &mut lines, failed, output.is_json()).await?;
    lines.finish().map_err(failed)?;
    if output.is_json() { output.json(&end) } else { output.line(end.text()) }
}

impl End {
    fn text(&self) -> String {
        let mut text = format!("exported {} events{}", grouped(self.events), self.left_out.text());
        if self.truncated_streams > 0 {
            let streams = grouped(self.truncated_streams);
            text += &format!("; {streams} streams are truncated and will be numbered from 1");
        }
        text
    }
}

/// Writes all lines, with the end mark.
async fn write_lines(
    open: &Open,
    out: &mut (impl Write + Send),
    failed: impl Fn(io::Error) -> Error,
    quiet: bool,
) -> Result<End> {
    let store = open.store();
    let progress = Progress::new(quiet, "events", None);
    let mut end = End::default();
    let mut ended: BTreeMap<StreamId, Chain> = BTreeMap::new();
    let mut begun: BTreeSet<StreamId> = BTreeSet::new();
    let mut batches = store.read_all(Position::ZERO, Filter::all(), Follow::ToEnd);
    while let Some(batch) = batches.try_next().await? {
        for event in batch.events {
            if event.data.event_type.is_truncation() {
                end.left_out.markers += 1;
                end.left_out.keys += Truncation::from_event(&event)?.commands() as u64;
                continue;
            }
            if event.data.event_type.is_tombstone() {
                end.left_out.tombstones += 1;
                begun.remove(&event.stream);
                ended.insert(event.stream, event.chain);
                continue;
            }
            end.events += 1;
            if !begun.contains(&event.stream) {
                end.truncated_streams += u64::from(event.version > Version::FIRST);
                begun.insert(event.stream.clone());
            }
            let previous_life = ended.get(&event.stream).copied().filter(|_| event.version == Version::FIRST);
            write_line(out, &Line::of(event, previous_life)).map_err(&failed)?;
        }
        progress.at(end.events);
    }
    write_line(out, &EndLine { end }).map_err(&failed)?;
    out.flush().map_err(&failed)?;
    progress.finish();
    Ok(end)
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
