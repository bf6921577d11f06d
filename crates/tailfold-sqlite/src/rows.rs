//! From a row of `events` to an event: few allocations, and nothing malformed gets through.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row};
use tailfold::{
    Chain, Error, EventData, EventId, EventType, Position, RecordedEvent, SchemaVersion, StreamId, Tag,
    Timestamp, Version,
};

use crate::error::Result;
use crate::kinds::Kinds;

/// The columns that [`Rows::event`] reads, in its order.
pub(crate) const COLUMNS: &str = "position, version, stream, type, id, schema_version, recorded_at, origin, metadata, chain, tags, payload";

const POSITION: usize = 0;
const VERSION: usize = 1;
const STREAM: usize = 2;
const TYPE: usize = 3;

const SMALLEST_BLOCK: usize = 4 << 10;
const LARGEST_BLOCK: usize = 64 << 10;
/// Payloads from this size on get memory of their own.
const LARGE_PAYLOAD: usize = 16 << 10;
const MOST_TYPES: usize = 64;
const MOST_STREAMS: usize = 64 << 10;

/// Names of streams and kinds that were read before. Refs always mean the same, so they stay valid as long as the
/// connection does.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) kinds: Kinds,
    streams: HashMap<i64, StreamId>,
}

impl Names {
    /// The stream that a ref means.
    pub(crate) fn stream(&mut self, connection: &Connection, reference: i64) -> Result<StreamId> {
        if let Some(stream) = self.streams.get(&reference) {
            return Ok(stream.clone());
        }
        let name: Option<String> = connection
            .prepare_cached("SELECT stream FROM streams WHERE ref = ?1")?
            .query_row([reference], |row| row.get(0))
            .optional()?;
        let name = name.ok_or_else(|| Error::corrupt(format!("stream with ref {reference} has no name")))?;
        let stream: StreamId = name.parse().map_err(|error: Error| {
            Error::corrupt(format!("name of the stream with ref {reference}")).caused_by(error)
        })?;
        if self.streams.len() == MOST_STREAMS {
            self.streams.clear();
        }
        self.streams.insert(reference, stream.clone());
        Ok(stream)
    }
}

/// Decodes the rows of one page; their bytes lie together in a few blocks.
///
/// The page's events share names with each other, and not with those of other pages: one thread reads a page while another
/// drops the page before, and counting the same references on both would cost more than the rest of the decoding.
#[derive(Debug)]
pub(crate) struct Rows {
    types: Vec<EventType>,
    last_type: usize,
    block: BytesMut,
    block_size: usize,
    bytes: usize,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self { types: Vec::new(), last_type: 0, block: BytesMut::new(), block_size: SMALLEST_BLOCK, bytes: 0 }
    }

    /// Bytes of payload and metadata so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The event in a row of [`COLUMNS`]; `stream` is what its ref means.
    pub(crate) fn event(&mut self, row: &Row<'_>, stream: &StreamId) -> Result<RecordedEvent> {
        let position = integer(row.get_ref(POSITION)?).unwrap_or_default();
        let version = integer(row.get_ref(VERSION)?).unwrap_or_default();
        self.fields(row, stream, position, version).map_err(|what| {
            Error::corrupt(format!(
                "event at position {position} (stream `{stream}`, version {version}) is malformed: {what}"
            ))
            .into()
        })
    }

    fn fields(
        &mut self,
        row: &Row<'_>,
        stream: &StreamId,
        position: i64,
        version: i64,
    ) -> Result<RecordedEvent, String> {
        let value = |index| row.get_ref(index).map_err(|error| error.to_string());
        let event_type = self.event_type(text(value(TYPE)?, "type")?).map_err(|error| error.to_string())?;
        let id = uuid::Uuid::from_bytes(sixteen(value(4)?, "id")?);
        let schema_version = integer(value(5)?)
            .and_then(|version| u32::try_from(version).ok())
            .ok_or_else(|| "schema version out of range".to_owned())?;
        let recorded_at = integer(value(6)?).ok_or_else(|| "recorded-at is no integer".to_owned())?;
        let origin = integer(value(7)?) == Some(1);
        let metadata = blob(value(8)?, "metadata")?;
        let chain = sixteen(value(9)?, "chain")?;
        let tags = match value(10)? {
            ValueRef::Null => Vec::new(),
            tags => tags_from_json(text(tags, "tags")?)?,
        };
        let payload = blob(value(11)?, "payload")?;
        Ok(RecordedEvent {
            position: Position(unsigned(position, "position")?),
            stream: stream.clone(),
            version: Version(unsigned(version, "version")?),
            chain: Chain::from_bytes(chain),
            data: EventData {
                id: EventId::from_uuid(id),
                event_type,
                schema_version: SchemaVersion(schema_version),
                recorded_at: Timestamp::from_micros(recorded_at),
                metadata: self.share(metadata),
                payload: self.share(payload),
                tags,
                origin,
            },
        })
    }

    fn event_type(&mut self, name: &str) -> tailfold::Result<EventType> {
        if let Some(last) = self.types.get(self.last_type)
            && last.as_str() == name
        {
            return Ok(last.clone());
        }
        if let Some(index) = self.types.iter().position(|known| known.as_str() == name) {
            self.last_type = index;
            return self.types.get(index).map_or_else(|| EventType::new(name), |known| Ok(known.clone()));
        }
        let new = EventType::new(name)?;
        if self.types.len() == MOST_TYPES {
            self.types.clear();
        }
        self.last_type = self.types.len();
        self.types.push(new.clone());
        Ok(new)
    }

    fn share(&mut self, bytes: &[u8]) -> Bytes {
        self.bytes += bytes.len();
        if bytes.is_empty() {
            return Bytes::new();
        }
        if bytes.len() >= LARGE_PAYLOAD {
            return Bytes::copy_from_slice(bytes);
        }
        if self.block.capacity() < bytes.len() {
            self.block = BytesMut::with_capacity(self.block_size.max(bytes.len()));
            self.block_size = (self.block_size * 2).min(LARGEST_BLOCK);
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }
}

/// Ref of the stream in a row of [`COLUMNS`].
pub(crate) fn stream_ref(row: &Row<'_>) -> Result<i64> {
    Ok(row.get(STREAM)?)
}

/// Type of the event in a row of [`COLUMNS`].
pub(crate) fn type_name<'r>(row: &'r Row<'_>) -> Result<&'r str> {
    Ok(row.get_ref(TYPE)?.as_str().map_err(rusqlite::Error::from)?)
}

/// Tags as they are stored.
pub(crate) fn tags_to_json(tags: &[Tag]) -> tailfold::Result<Option<String>> {
    if tags.is_empty() {
        return Ok(None);
    }
    let tags: Vec<_> = tags.iter().map(Tag::as_str).collect();
    serde_json::to_string(&tags).map(Some).map_err(|error| Error::codec("encode tags").caused_by(error))
}

/// Tags in a column of their own.
pub(crate) fn tags(value: ValueRef<'_>) -> Result<Vec<Tag>> {
    let tags = match value {
        ValueRef::Null => return Ok(Vec::new()),
        tags => text(tags, "tags").and_then(tags_from_json),
    };
    Ok(tags.map_err(Error::corrupt)?)
}

/// An event's id in a column of its own.
pub(crate) fn event_id(value: ValueRef<'_>) -> Result<EventId> {
    let id = sixteen(value, "id").map_err(Error::corrupt)?;
    Ok(EventId::from_uuid(uuid::Uuid::from_bytes(id)))
}

fn tags_from_json(json: &str) -> Result<Vec<Tag>, String> {
    serde_json::from_str(json).map_err(|error| format!("tags: {error}"))
}

/// SQLite's integers are signed: what is above them is above every version and position.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64, what: &str) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("{what} {number} is negative"))
}

pub(crate) fn chain(bytes: &[u8]) -> Result<Chain, Error> {
    <[u8; 16]>::try_from(bytes)
        .map(Chain::from_bytes)
        .map_err(|_| Error::corrupt(format!("a chain has {} bytes instead of 16", bytes.len())))
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

fn text<'r>(value: ValueRef<'r>, what: &str) -> Result<&'r str, String> {
    value.as_str().map_err(|error| format!("{what}: {error}"))
}

fn blob<'r>(value: ValueRef<'r>, what: &str) -> Result<&'r [u8], String> {
    value.as_blob().map_err(|error| format!("{what}: {error}"))
}

fn sixteen(value: ValueRef<'_>, what: &str) -> Result<[u8; 16], String> {
    let bytes = blob(value, what)?;
    bytes.try_into().map_err(|_| format!("{what} has {} bytes instead of 16", bytes.len()))
}
