//! `export`: all events as JSON lines, with exact bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tailfold::{
    Chain, EventData, EventId, EventStore as _, EventType, Filter, Follow, Position, RecordedEvent,
    SchemaVersion, StreamId, Tag, Timestamp, Version,
};

use crate::error::{Error, Result};
use crate::output::{Output, grouped};
use crate::payload::{from_exact, to_exact};
use crate::progress::Progress;
use crate::store::Open;

pub(crate) const HELP: &str = "\
One event a line, in the order of the log. A payload is a JSON string of its exact text where it is UTF-8; otherwise base64,
said so by \"payload_encoding\". Tombstones of erased streams and markers of truncations are left out and counted; the first event of a later life names
the tombstone's chain as \"previous_life\". Snapshots are not exported: they are taken anew.

Without FILE, or with `-`, the lines go to stdout, and the count to stderr. With --json, the count is one object.

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
#[derive(Serialize, Deserialize)]
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

    pub(crate) fn into_data(self) -> Result<EventData, String> {
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
        let counted = write_lines(open, &mut lines, Error::output, true).await?;
        // Stdout is the data's, so the count goes where it does no harm.
        eprintln!("{}", if output.is_json() { counted.object().to_string() } else { counted.text() });
        return Ok(());
    }
    let failed = |error| Error::io(format!("export to `{}`", options.file.display()), error);
    let mut lines = BufWriter::with_capacity(1 << 16, File::create_new(&options.file).map_err(failed)?);
    let counted = write_lines(open, &mut lines, failed, output.is_json()).await?;
    lines.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
    if output.is_json() { output.json(&counted.object()) } else { output.line(counted.text()) }
}

#[derive(Default)]
struct Counted {
    events: u64,
    tombstones: u64,
    markers: u64,
    /// Streams that begin after version 1.
    truncated: u64,
}

impl Counted {
    fn object(&self) -> serde_json::Value {
        json!({
            "events": self.events,
            "tombstones_left_out": self.tombstones,
            "markers_left_out": self.markers,
            "truncated_streams": self.truncated,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("exported {} events", grouped(self.events));
        if self.tombstones > 0 {
            text += &format!("; left out {} tombstones of erased streams", grouped(self.tombstones));
        }
        if self.markers > 0 {
            text += &format!("; left out {} markers of truncations", grouped(self.markers));
        }
        if self.truncated > 0 {
            text +=
                &format!("; {} streams are truncated and will be numbered from 1", grouped(self.truncated));
        }
        text
    }
}

async fn write_lines(
    open: &Open,
    out: &mut (impl Write + Send),
    failed: impl Fn(io::Error) -> Error,
    quiet: bool,
) -> Result<Counted> {
    let store = open.store();
    let progress = Progress::new(quiet, "events", None);
    let mut counted = Counted::default();
    let mut ended: BTreeMap<StreamId, Chain> = BTreeMap::new();
    let mut begun: BTreeSet<StreamId> = BTreeSet::new();
    let mut batches = store.read_all(Position::ZERO, Filter::all(), Follow::ToEnd);
    while let Some(batch) = batches.try_next().await? {
        for event in batch.events {
            if event.data.event_type.is_truncation() {
                counted.markers += 1;
                continue;
            }
            if event.data.event_type.is_tombstone() {
                counted.tombstones += 1;
                begun.remove(&event.stream);
                ended.insert(event.stream, event.chain);
                continue;
            }
            counted.events += 1;
            if !begun.contains(&event.stream) {
                counted.truncated += u64::from(event.version > Version::FIRST);
                begun.insert(event.stream.clone());
            }
            let previous_life = ended.get(&event.stream).copied().filter(|_| event.version == Version::FIRST);
            serde_json::to_writer(&mut *out, &Line::of(event, previous_life))
                .map_err(|error| failed(error.into()))?;
            out.write_all(b"\n").map_err(&failed)?;
        }
        progress.at(counted.events);
    }
    out.flush().map_err(&failed)?;
    progress.finish();
    Ok(counted)
}
