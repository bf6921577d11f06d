//! The index of kinds, as it is written. A kind is a type of event in a category of streams; each event has a row in
//! `event_kinds`, at the right edge of its kind's part. `kinds.rs` reads it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Statement};

use crate::error::Result;

pub(crate) struct KindIndex<'c> {
    find: Statement<'c>,
    begin: Statement<'c>,
    note: Statement<'c>,
    /// By category, then by type. Another process adds kinds and never changes one.
    refs: HashMap<String, HashMap<String, i64>>,
}

impl<'c> KindIndex<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            find: connection.prepare("SELECT ref FROM kinds WHERE category = ?1 AND type = ?2")?,
            begin: connection.prepare("INSERT INTO kinds (category, type) VALUES (?1, ?2)")?,
            note: connection.prepare("INSERT INTO event_kinds (kind, position) VALUES (?1, ?2)")?,
            refs: HashMap::new(),
        })
    }

    /// Notes the kind of a new event.
    pub(crate) fn note(&mut self, category: &str, event_type: &str, position: i64) -> Result<()> {
        let kind = self.reference(category, event_type)?;
        self.note.execute((kind, position))?;
        Ok(())
    }

    /// After a rollback: kinds that began in it are not there.
    pub(crate) fn forget(&mut self) {
        self.refs.clear();
    }

    fn reference(&mut self, category: &str, event_type: &str) -> Result<i64> {
        if let Some(kind) = self.refs.get(category).and_then(|types| types.get(event_type)) {
            return Ok(*kind);
        }
        let found = self.find.query_row((category, event_type), |row| row.get(0)).optional()?;
        let kind = match found {
            Some(kind) => kind,
            None => self.begin.insert((category, event_type))?,
        };
        self.refs.entry(category.to_owned()).or_default().insert(event_type.to_owned(), kind);
        Ok(kind)
    }
}

/// Builds the index anew from the events. In the order of the log, so that nothing has to be sorted in memory.
pub(crate) fn rebuild(connection: &Connection) -> Result<()> {
    // CROSS JOIN keeps the order of the tables: `events` once from end to end. Kinds keep their refs, which others remember.
    connection.execute_batch(
        "DELETE FROM event_kinds;
         INSERT OR IGNORE INTO kinds (category, type)
         SELECT DISTINCT substr(s.stream, 1, instr(s.stream, '/') - 1), e.type
         FROM events e CROSS JOIN streams s ON s.ref = e.stream;
         INSERT INTO event_kinds (kind, position)
         SELECT k.ref, e.position
         FROM events e CROSS JOIN streams s ON s.ref = e.stream
         CROSS JOIN kinds k ON k.category = substr(s.stream, 1, instr(s.stream, '/') - 1) AND k.type = e.type;",
    )?;
    Ok(())
}

/// Removes the entries of a life's events before a version.
pub(crate) fn remove(connection: &Connection, life: i64, before: i64) -> Result<()> {
    connection.execute(
        "DELETE FROM event_kinds WHERE (kind, position) IN (
             SELECT k.ref, e.position
             FROM streams s CROSS JOIN events e ON e.stream = s.ref AND e.version < ?2
             CROSS JOIN kinds k ON k.category = substr(s.stream, 1, instr(s.stream, '/') - 1) AND k.type = e.type
             WHERE s.ref = ?1)",
        (life, before),
    )?;
    Ok(())
}
