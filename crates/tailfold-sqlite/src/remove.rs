//! Erasing a stream, and cutting off what lies before an origin.

use rusqlite::OptionalExtension as _;
use tailfold::{
    Digest, Error, EventId, EventType, Head, Position, Removal, Removed, StreamId, Timestamp, Tombstone,
    Truncation, Version,
};

use crate::error::Result;
use crate::ledger::Ledger;
use crate::rows::{self, signed};
use crate::snapshots;

impl Ledger<'_> {
    pub(crate) fn remove(&mut self, stream: &StreamId, removal: &Removal) -> Result<Removed> {
        match *removal {
            Removal::Erase { id, recorded_at } => self.erase(stream, id, recorded_at),
            Removal::BeforeOrigin { version, id, recorded_at } => {
                self.truncate(stream, version, id, recorded_at)
            }
        }
    }

    fn erase(&mut self, stream: &StreamId, id: EventId, recorded_at: Timestamp) -> Result<Removed> {
        let life = self.life(stream)?;
        let (Some(reference), Some(erased)) = (life.reference, life.head) else {
            return Ok(Removed::default());
        };
        let tombstone = Tombstone::event(erased, id, recorded_at)?;
        let events = self.delete_events(reference, i64::MAX)?;
        self.delete_marker(stream)?;
        let snapshots = snapshots::forget(self.connection, stream.as_str())?;
        let chain = erased.chain.link(Digest::of(&tombstone));
        let head = Head { version: erased.version.next(), chain };
        let position = self.insert(stream, reference, head, &tombstone)?;
        self.connection
            .execute("UPDATE streams SET erased = ?2 WHERE ref = ?1", (reference, signed(position.0)))?;
        self.raise_floor()?;
        self.forget(stream);
        Ok(Removed { events, snapshots: snapshots.snapshots, tombstone: Some(position), marker: None })
    }

    fn truncate(
        &mut self,
        stream: &StreamId,
        before: Version,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Removed> {
        let life = self.life(stream)?;
        let origin: Option<(bool, Vec<u8>)> = match life.reference {
            None => None,
            Some(reference) => self
                .connection
                .query_row(
                    "SELECT origin, chain FROM events WHERE stream = ?1 AND version = ?2",
                    (reference, signed(before.0)),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?,
        };
        let (Some(reference), Some((true, chain))) = (life.reference, &origin) else {
            let why = if origin.is_some() { "the event there is no origin" } else { "there is no event" };
            return Err(Error::invalid(format!("cannot cut before version {before}: {why}")).into());
        };
        let origin = Head { version: before, chain: rows::chain(chain)? };
        let earlier = self.marker_of(stream)?;
        let truncation = self.noted(stream, reference, origin, earlier.as_ref())?;
        let events = self.delete_events(reference, signed(before.0))?;
        let snapshots = snapshots::forget_before(self.connection, stream.as_str(), before)?.snapshots;
        if events == 0 {
            return Ok(Removed { events, snapshots, tombstone: None, marker: None });
        }
        let marker = truncation.event(id, recorded_at)?;
        // As if it was a life of the stream that ended with it: that is how indexes find it, and reads of the stream do not.
        let row = match earlier {
            Some(MarkerRow { reference, .. }) => {
                self.delete_events(reference, i64::MAX)?;
                reference
            }
            None => self
                .connection
                .prepare_cached("INSERT INTO streams (stream, genesis, erased) VALUES (?1, ?2, 0)")?
                .insert((stream.as_str(), origin.chain.as_bytes()))?,
        };
        let position = self.insert(stream, row, truncation.place(&marker), &marker)?;
        self.connection.execute(
            "UPDATE streams SET erased = ?2, genesis = ?3 WHERE ref = ?1",
            (row, signed(position.0), origin.chain.as_bytes()),
        )?;
        self.raise_floor()?;
        Ok(Removed { events, snapshots, tombstone: None, marker: Some(position) })
    }

    /// The row of `streams` that stands for the marker of a stream. It stays when the marker goes.
    fn marker_of(&self, stream: &StreamId) -> Result<Option<MarkerRow>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT s.ref, e.payload FROM streams s LEFT JOIN events e ON e.position = s.erased
             WHERE s.stream = ?1 AND s.erased IS NOT NULL AND (s.erased = 0 OR e.type = ?2)",
        )?;
        let found = statement
            .query_row((stream.as_str(), EventType::TRUNCATED), |row| {
                Ok(MarkerRow { reference: row.get(0)?, payload: row.get(1)? })
            })
            .optional()?;
        Ok(found)
    }

    fn delete_marker(&mut self, stream: &StreamId) -> Result<()> {
        let Some(MarkerRow { reference, .. }) = self.marker_of(stream)? else { return Ok(()) };
        self.delete_events(reference, i64::MAX)?;
        self.connection.execute("UPDATE streams SET erased = 0 WHERE ref = ?1", [reference])?;
        Ok(())
    }

    /// What the marker says once the events before an origin are gone.
    fn noted(
        &self,
        stream: &StreamId,
        life: i64,
        origin: Head,
        earlier: Option<&MarkerRow>,
    ) -> Result<Truncation> {
        let earlier =
            earlier.and_then(|row| row.payload.as_deref()).map(Truncation::from_payload).transpose()?;
        let mut notes = Truncation::begin(stream, origin, earlier);
        let mut statement = self.connection.prepare_cached(
            "SELECT version, position, id, tags FROM events WHERE stream = ?1 AND version < ?2 ORDER BY version",
        )?;
        let mut found = statement.query((life, signed(origin.version.0)))?;
        while let Some(row) = found.next()? {
            let version = rows::unsigned(row.get(0)?, "version").map_err(Error::corrupt)?;
            let position = rows::unsigned(row.get(1)?, "position").map_err(Error::corrupt)?;
            let id = rows::event_id(row.get_ref(2)?)?;
            let tags = rows::tags(row.get_ref(3)?)?;
            notes.note(Version(version), Position(position), id, &tags);
        }
        Ok(notes.finish())
    }
}

/// A row of `streams` that stands for a marker, and the marker's payload while there is one.
struct MarkerRow {
    reference: i64,
    payload: Option<Vec<u8>>,
}
