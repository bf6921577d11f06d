//! What the writer's thread knows while it writes: statements, heads, the next position.

use std::cell::Cell;
use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Statement};
use tailfold::{Chain, Error, EventData, Head, Position, StoreId, StreamId, Version};

use crate::error::Result;
use crate::kind_index::{self, KindIndex};
use crate::rows::{self, Names, signed};
use crate::schema;
use crate::tag_index::{self, TagIndex};

/// Heads that are remembered, twice over.
const HEADS: usize = 32 << 10;

pub(crate) struct Ledger<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) names: Names,
    data_version: Statement<'c>,
    find_life: Statement<'c>,
    begin_life: Statement<'c>,
    head: Statement<'c>,
    insert_event: Statement<'c>,
    kinds: KindIndex<'c>,
    tags: TagIndex<'c>,
    lives: Lives,
    next_position: Option<i64>,
    /// The next position as of this handle's last commit.
    committed_next: &'c Cell<i64>,
    store_id: StoreId,
    seen_data_version: i64,
}

/// A stream's current life, which may not have begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// `streams.ref`, once there is an event.
    pub(crate) reference: Option<i64>,
    pub(crate) head: Option<Head>,
    /// The chain that the next event links from.
    pub(crate) chain: Chain,
}

impl<'c> Ledger<'c> {
    pub(crate) fn new(
        connection: &'c Connection,
        store_id: StoreId,
        committed_next: &'c Cell<i64>,
    ) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            connection,
            names: Names::default(),
            data_version: connection.prepare("PRAGMA data_version")?,
            find_life: connection.prepare("SELECT ref FROM streams WHERE stream = ?1 AND erased IS NULL")?,
            begin_life: connection.prepare("INSERT INTO streams (stream, genesis) VALUES (?1, ?2)")?,
            head: connection
                .prepare("SELECT version, chain FROM events WHERE stream = ?1 ORDER BY version DESC LIMIT 1")?,
            insert_event: connection.prepare(
                "INSERT INTO events (position, stream, version, id, type, schema_version, recorded_at, origin, metadata,
                                     chain, tags, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            kinds: KindIndex::new(connection)?,
            tags: TagIndex::new(connection)?,
            lives: Lives::default(),
            next_position: None,
            committed_next,
            store_id,
            seen_data_version: 0,
        })
    }

    /// Within a new transaction: forgets what another process may have changed. Fails if the file is not the one any more, or not
    /// any longer, that this process has written to: a copy may have been put in its place.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let data_version = self.data_version.query_row([], |row| row.get(0))?;
        if data_version != self.seen_data_version {
            self.forget_caches();
            self.check_history()?;
            self.seen_data_version = data_version;
        }
        Ok(())
    }

    /// Once the transaction is on disk.
    pub(crate) fn committed(&mut self) {
        if let Some(next) = self.next_position {
            self.committed_next.set(next);
        }
    }

    fn check_history(&mut self) -> Result<()> {
        let found = schema::store_id(self.connection)?;
        if found != self.store_id {
            return Err(Error::corrupt(format!(
                "the file holds store {found} now, and held store {} when it was opened: open it again",
                self.store_id
            ))
            .into());
        }
        let next = self.next_position()?;
        let committed_next = self.committed_next.get();
        if next < committed_next {
            return Err(Error::corrupt(format!(
                "the log went back: the file ends at position {}, and position {} was acknowledged before; an older copy was \
                 put in its place: give it a new store id (`restore`) and open that",
                next - 1,
                committed_next - 1
            ))
            .into());
        }
        Ok(())
    }

    /// After a rollback nothing that was remembered may be true.
    pub(crate) fn roll_back(&mut self) {
        self.forget_caches();
        self.kinds.forget();
        self.tags.start_over();
    }

    fn forget_caches(&mut self) {
        self.lives.clear();
        self.names = Names::default();
        self.next_position = None;
        self.tags.recount();
    }

    /// Before the end of a transaction: work on the index of tags, if there is some.
    pub(crate) fn advance_tags(&mut self) -> Result<()> {
        self.tags.advance(self.connection)
    }

    /// Keeps positions up to the last one from being given out again, whatever is removed afterwards.
    pub(crate) fn raise_floor(&self) -> Result<()> {
        self.connection.execute(
            "UPDATE meta SET positions_used = max(positions_used, (SELECT coalesce(max(position), 0) FROM events))",
            [],
        )?;
        Ok(())
    }

    /// Removes the events of a life before a version, and what the indexes have of them.
    pub(crate) fn delete_events(&mut self, life: i64, before: i64) -> Result<u64> {
        // Before anything goes: what is left does not tell which positions the last events had, and this process may not
        // remember the next one, since another process wrote last or the file was opened just now.
        self.raise_floor()?;
        kind_index::remove(self.connection, life, before)?;
        tag_index::remove(self.connection, life, before)?;
        self.tags.recount();
        let mut delete =
            self.connection.prepare_cached("DELETE FROM events WHERE stream = ?1 AND version < ?2")?;
        Ok(delete.execute((life, before))? as u64)
    }

    /// Builds the indexes anew.
    pub(crate) fn rebuild_indexes(&mut self) -> Result<()> {
        self.tags.start_over();
        tag_index::rebuild(self.connection)?;
        kind_index::rebuild(self.connection)
    }

    /// Rows changed over this connection so far.
    pub(crate) fn changes(&self) -> u64 {
        self.connection.total_changes()
    }

    pub(crate) fn life(&mut self, stream: &StreamId) -> Result<Life> {
        if let Some(life) = self.lives.find(stream) {
            return Ok(life);
        }
        let reference: Option<i64> =
            self.find_life.query_row([stream.as_str()], |row| row.get(0)).optional()?;
        let Some(reference) = reference else {
            return Ok(Life { reference: None, head: None, chain: self.genesis(stream)? });
        };
        let head = self
            .head
            .query_row([reference], |row| {
                Ok((row.get::<_, i64>(0)?, row.get_ref(1)?.as_blob().map(rows::chain)?))
            })
            .optional()?;
        let Some((version, chain)) = head else {
            return Err(
                Error::corrupt(format!("stream `{stream}` is listed, but its events are gone")).into()
            );
        };
        let version = rows::unsigned(version, "version").map_err(Error::corrupt)?;
        let head = Head { version: Version(version), chain: chain? };
        let life = Life { reference: Some(reference), head: Some(head), chain: head.chain };
        self.lives.remember(stream, life);
        Ok(life)
    }

    /// Where the next life of an empty stream starts.
    fn genesis(&self, stream: &StreamId) -> Result<Chain> {
        let tombstone = self
            .connection
            .prepare_cached(
                "SELECT e.chain FROM streams s JOIN events e ON e.position = s.erased
                 WHERE s.stream = ?1 AND s.erased IS NOT NULL ORDER BY s.erased DESC LIMIT 1",
            )?
            .query_row([stream.as_str()], |row| Ok(row.get_ref(0)?.as_blob().map(rows::chain)?))
            .optional()?;
        Ok(match tombstone {
            Some(chain) => Chain::genesis_after(stream, chain?),
            None => Chain::genesis(stream),
        })
    }

    /// The ref of a life, which begins if it has not yet.
    pub(crate) fn begin_life(&mut self, stream: &StreamId, life: &Life) -> Result<i64> {
        match life.reference {
            Some(reference) => Ok(reference),
            None => Ok(self.begin_life.insert((stream.as_str(), life.chain.as_bytes()))?),
        }
    }

    /// Notes what a stream's life has come to; only after its rows are written.
    pub(crate) fn remember(&mut self, stream: &StreamId, reference: i64, head: Head) {
        let life = Life { reference: Some(reference), head: Some(head), chain: head.chain };
        self.lives.remember(stream, life);
    }

    pub(crate) fn forget(&mut self, stream: &StreamId) {
        self.lives.forget(stream);
    }

    /// Writes an event of a stream at the next position.
    pub(crate) fn insert(
        &mut self,
        stream: &StreamId,
        reference: i64,
        head: Head,
        event: &EventData,
    ) -> Result<Position> {
        let position = self.next_position()?;
        let tags = rows::tags_to_json(&event.tags)?;
        self.insert_event.execute(rusqlite::params![
            position,
            reference,
            signed(head.version.0),
            event.id.as_uuid().as_bytes(),
            event.event_type.as_str(),
            event.schema_version.0,
            event.recorded_at.as_micros(),
            event.origin,
            &*event.metadata,
            head.chain.as_bytes(),
            tags,
            &*event.payload,
        ])?;
        self.kinds.note(stream.category(), event.event_type.as_str(), position)?;
        if let Some(tags) = &tags {
            self.tags.note(position, tags)?;
        }
        self.next_position = Some(position + 1);
        Ok(Position(position.unsigned_abs()))
    }

    fn next_position(&mut self) -> Result<i64> {
        match self.next_position {
            Some(position) => Ok(position),
            None => Ok(schema::last_position_used(self.connection)? + 1),
        }
    }
}

/// Heads of the streams last written to: when the young ones are many, the old ones go.
#[derive(Default)]
struct Lives {
    young: HashMap<StreamId, Life>,
    old: HashMap<StreamId, Life>,
}

impl Lives {
    fn find(&mut self, stream: &StreamId) -> Option<Life> {
        if let Some(life) = self.young.get(stream) {
            return Some(*life);
        }
        let life = self.old.remove(stream)?;
        self.remember(stream, life);
        Some(life)
    }

    fn remember(&mut self, stream: &StreamId, life: Life) {
        if let Some(known) = self.young.get_mut(stream) {
            *known = life;
            return;
        }
        if self.young.len() >= HEADS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream.clone(), life);
    }

    fn forget(&mut self, stream: &StreamId) {
        self.young.remove(stream);
        self.old.remove(stream);
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}
