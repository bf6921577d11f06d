//! Erasing a stream, and cutting off what lies before an origin.

use rusqlite::OptionalExtension as _;
use tailfold::{Digest, Error, EventId, Head, Removal, Removed, StreamId, Timestamp, Tombstone, Version};

use crate::error::Result;
use crate::ledger::Ledger;
use crate::rows::signed;
use crate::snapshots;

impl Ledger<'_> {
    pub(crate) fn remove(&mut self, stream: &StreamId, removal: &Removal) -> Result<Removed> {
        match *removal {
            Removal::Erase { id, recorded_at } => self.erase(stream, id, recorded_at),
            Removal::BeforeOrigin(version) => self.truncate(stream, version),
        }
    }

    fn erase(&mut self, stream: &StreamId, id: EventId, recorded_at: Timestamp) -> Result<Removed> {
        let life = self.life(stream)?;
        let (Some(reference), Some(erased)) = (life.reference, life.head) else {
            return Ok(Removed::default());
        };
        let tombstone = Tombstone::event(erased, id, recorded_at)?;
        // What is erased is overwritten with zeros, not only unlinked.
        self.connection.pragma_update(None, "secure_delete", true)?;
        let removed = self
            .delete_events(reference, i64::MAX)
            .and_then(|events| Ok((events, snapshots::forget(self.connection, stream.as_str())?)));
        self.connection.pragma_update(None, "secure_delete", false)?;
        let (events, snapshots) = removed?;
        let chain = erased.chain.link(Digest::of(&tombstone));
        let head = Head { version: erased.version.next(), chain };
        let position = self.insert(stream, reference, head, &tombstone)?;
        self.connection
            .execute("UPDATE streams SET erased = ?2 WHERE ref = ?1", (reference, signed(position.0)))?;
        // The tombstone's position is the highest, so this covers what went, too.
        self.raise_floor()?;
        self.forget(stream);
        Ok(Removed { events, snapshots: snapshots.snapshots, tombstone: Some(position) })
    }

    fn truncate(&mut self, stream: &StreamId, before: Version) -> Result<Removed> {
        let life = self.life(stream)?;
        let origin: Option<bool> = match life.reference {
            None => None,
            Some(reference) => self
                .connection
                .query_row(
                    "SELECT origin FROM events WHERE stream = ?1 AND version = ?2",
                    (reference, signed(before.0)),
                    |row| row.get(0),
                )
                .optional()?,
        };
        let (Some(reference), Some(true)) = (life.reference, origin) else {
            let why = if origin.is_some() { "the event there is no origin" } else { "there is no event" };
            return Err(Error::invalid(format!("cannot cut before version {before}: {why}")).into());
        };
        self.raise_floor()?;
        let events = self.delete_events(reference, signed(before.0))?;
        let snapshots = snapshots::forget_before(self.connection, stream.as_str(), before)?;
        Ok(Removed { events, snapshots: snapshots.snapshots, tombstone: None })
    }

    /// Positions up to the last one are never given out again, whatever is removed.
    fn raise_floor(&self) -> Result<()> {
        self.connection.execute(
            "UPDATE meta SET positions_used = max(positions_used, (SELECT coalesce(max(position), 0) FROM events))",
            [],
        )?;
        Ok(())
    }
}
