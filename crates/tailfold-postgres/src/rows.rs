//! From a row of `events` to an event; nothing malformed gets through.

use bytes::Bytes;
use tailfold::{
    Chain, Error, EventData, EventId, EventType, Head, Position, RecordedEvent, Result, SchemaVersion,
    StreamId, Tag, Timestamp, Version,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

/// The columns that [`Rows::event`] reads, in its order, of the table that is called `e`.
pub(crate) const COLUMNS: &str = "e.position, e.version, e.id, e.type, e.schema_version, e.recorded_at, e.origin, \
                                  e.metadata, e.chain, e.tags, e.payload";
/// How many there are.
pub(crate) const COLUMN_COUNT: usize = 11;

/// [`COLUMNS`] in which an event has NULL for payload or metadata of that many bytes or more.
pub(crate) fn columns_without_large(bytes: usize) -> String {
    let unless_large = |column: &str| format!("CASE WHEN length({column}) < {bytes} THEN {column} END");
    COLUMNS
        .replace("e.metadata", &unless_large("e.metadata"))
        .replace("e.payload", &unless_large("e.payload"))
}

/// Whether a row of [`columns_without_large`] is that of a large event.
pub(crate) fn is_large(row: &Row) -> Result<bool> {
    let (metadata, payload): (Option<&[u8]>, Option<&[u8]>) = (value(row, 7)?, value(row, 10)?);
    Ok(metadata.is_none() || payload.is_none())
}

/// Most events of a page.
pub(crate) const PAGE_EVENTS: usize = 1000;
/// Bytes of payload and metadata after which a page ends.
pub(crate) const PAGE_BYTES: usize = 1 << 20;

/// Decodes the rows of one page, which share the names of their types.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    types: Vec<EventType>,
}

impl Rows {
    /// The event in a row of [`COLUMNS`].
    pub(crate) fn event(&mut self, row: &Row, stream: &StreamId) -> Result<RecordedEvent> {
        let position = value::<i64>(row, 0)?;
        let version = value::<i64>(row, 1)?;
        self.fields(row, stream, position, version).map_err(|error| {
            Error::corrupt(format!(
                "event at position {position} (stream `{stream}`, version {version}) is malformed"
            ))
            .caused_by(error)
        })
    }

    fn fields(&mut self, row: &Row, stream: &StreamId, position: i64, version: i64) -> Result<RecordedEvent> {
        let schema_version = u32::try_from(value::<i64>(row, 4)?)
            .map_err(|_| Error::corrupt("the schema version is out of range"))?;
        let tags: Option<Vec<&str>> = value(row, 9)?;
        let tags = tags.unwrap_or_default().into_iter().map(Tag::from_stored).collect::<Result<_>>()?;
        Ok(RecordedEvent {
            position: Position(unsigned(position, "position")?),
            stream: stream.clone(),
            version: Version(unsigned(version, "version")?),
            chain: chain(row, 8)?,
            data: EventData {
                id: EventId::from_uuid(value::<Uuid>(row, 2)?),
                event_type: self.event_type(value(row, 3)?)?,
                schema_version: SchemaVersion(schema_version),
                recorded_at: Timestamp::from_micros(value(row, 5)?),
                origin: value(row, 6)?,
                metadata: bytes(row, 7)?,
                payload: bytes(row, 10)?,
                tags,
            },
        })
    }

    fn event_type(&mut self, name: &str) -> Result<EventType> {
        if let Some(known) = self.types.iter().rev().find(|known| known.as_str() == name) {
            return Ok(known.clone());
        }
        let new = EventType::new(name)?;
        self.types.push(new.clone());
        Ok(new)
    }
}

/// A column that has to be of a type.
pub(crate) fn value<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|error| Error::corrupt(format!("column {column}")).caused_by(error))
}

pub(crate) fn bytes(row: &Row, column: usize) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(value(row, column)?))
}

pub(crate) fn chain(row: &Row, column: usize) -> Result<Chain> {
    let bytes: &[u8] = value(row, column)?;
    let sixteen = <[u8; 16]>::try_from(bytes);
    sixteen
        .map(Chain::from_bytes)
        .map_err(|_| Error::corrupt(format!("a chain has {} bytes instead of 16", bytes.len())))
}

/// Version and chain in two columns.
pub(crate) fn head(row: &Row, version: usize, chain: usize) -> Result<Head> {
    let version = Version(unsigned(value(row, version)?, "version")?);
    Ok(Head { version, chain: self::chain(row, chain)? })
}

/// The server's integers are signed: what is above them is above every version and position.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64, what: &str) -> Result<u64> {
    u64::try_from(number).map_err(|_| Error::corrupt(format!("{what} {number} is negative")))
}
