//! Reading one stream by version. A gap is an error, never a short answer.

use rusqlite::{Connection, OptionalExtension as _};
use tailfold::{Direction, Error, Head, Outcome, RecordedEvent, StreamId, Version, VersionRange};

use crate::error::{Failure, Result};
use crate::pages::{After, Cursor, PAGE_BYTES, PAGE_EVENTS};
use crate::readers::Reader;
use crate::rows::{self, Rows, signed};

#[derive(Clone)]
pub(crate) struct StreamCursor {
    stream: StreamId,
    direction: Direction,
    /// Lowest and highest version still wanted.
    from: i64,
    to: i64,
    /// The life that is read, once it is known.
    life: Option<i64>,
    /// Whether `to` is known to exist: a read of several pages ends where the stream ended when it began.
    to_exists: bool,
    /// The version handed out last.
    last: Option<i64>,
}

impl StreamCursor {
    pub(crate) fn new(stream: StreamId, range: VersionRange, direction: Direction) -> Self {
        Self {
            stream,
            direction,
            from: signed(range.from.0).max(1),
            to: range.to.map_or(i64::MAX, |to| signed(to.0)),
            life: None,
            to_exists: false,
            last: None,
        }
    }

    pub(crate) fn page(&mut self, reader: &mut Reader) -> Result<(Vec<RecordedEvent>, After)> {
        let life = match self.life {
            Some(life) => life,
            None => match living(reader, &self.stream)? {
                Some(life) => *self.life.insert(life),
                None => return Ok((Vec::new(), After::End)),
            },
        };
        if self.direction == Direction::Backward
            && self.last.is_none()
            && let Some((lowest, true)) = lowest(&reader.connection, life)?
        {
            // Where the stream begins as the read begins. What is missing above that later on was cut off
            // meanwhile.
            self.from = self.from.max(lowest);
        }
        if self.from > self.to {
            return Ok((Vec::new(), After::End));
        }
        let connection = &reader.connection;
        let mut statement = match self.direction {
            Direction::Forward => connection.prepare_cached(FORWARD)?,
            Direction::Backward => connection.prepare_cached(BACKWARD)?,
        };
        // After a first page the next is likely to be full.
        let mut events = Vec::with_capacity(if self.last.is_some() { PAGE_EVENTS } else { 0 });
        let mut decoder = Rows::new();
        // The page's own, as the names in `decoder` are.
        let stream: StreamId = self.stream.as_str().parse()?;
        let mut exhausted = false;
        let mut found = statement.query((life, self.from, self.to, PAGE_EVENTS as i64))?;
        while events.len() < PAGE_EVENTS && decoder.bytes() < PAGE_BYTES {
            let Some(row) = found.next()? else {
                exhausted = true;
                break;
            };
            let event = decoder.event(row, &stream)?;
            if event.data.event_type.is_tombstone() {
                return Err(self.erased_meanwhile());
            }
            let version = signed(event.version.0);
            let expected = match (self.last, self.direction) {
                (Some(last), Direction::Forward) => last + 1,
                (Some(last), Direction::Backward) => last - 1,
                (None, Direction::Forward) => self.from,
                (None, Direction::Backward) => version,
            };
            if version != expected {
                self.explain_gap(connection, life, expected, version, event.data.origin)?;
            }
            if self.last.is_none() && self.direction == Direction::Backward && version < self.to {
                self.refuse_later_than(connection, life, self.to, version + 1)?;
            }
            self.last = Some(version);
            events.push(event);
        }
        drop(found);
        drop(statement);
        let after = if exhausted {
            self.check_end(reader, life)?;
            After::End
        } else {
            match (self.direction, self.last) {
                (Direction::Forward, Some(last)) => self.from = last + 1,
                (Direction::Backward, Some(last)) => self.to = last - 1,
                (_, None) => {}
            }
            if !self.to_exists && self.direction == Direction::Forward {
                let head = head_of_life(&reader.connection, life)?.ok_or_else(|| self.erased_meanwhile())?;
                self.to = self.to.min(signed(head.version.0));
            }
            self.to_exists = true;
            if self.from > self.to { After::End } else { After::More }
        };
        Ok((events, after))
    }

    /// Versions may be missing only before an origin, where they were cut off, and only before the read began.
    fn explain_gap(
        &self,
        connection: &Connection,
        life: i64,
        expected: i64,
        version: i64,
        origin: bool,
    ) -> Result<()> {
        let is_lowest = lowest(connection, life)?.is_some_and(|(lowest, _)| lowest == version);
        if is_lowest && origin && self.direction == Direction::Forward {
            return match self.last {
                None => Ok(()),
                Some(_) => Err(self.cut_off_meanwhile(expected)),
            };
        }
        Err(self.gap(expected.min(version + 1), expected.max(version - 1)))
    }

    /// Nothing more was found: is nothing missing?
    fn check_end(&self, reader: &mut Reader, life: i64) -> Result<()> {
        let connection = &reader.connection;
        let Some(last) = self.last else {
            // Events beyond the range mean that those in the range were cut off, or are missing.
            return match lowest(connection, life)? {
                Some((lowest, origin)) if lowest > self.to => {
                    if origin || lowest == 1 {
                        Ok(())
                    } else {
                        Err(self.gap(1, lowest - 1))
                    }
                }
                Some(_) => self.refuse_later_than(connection, life, self.to, self.from),
                None => Err(self.erased_meanwhile()),
            };
        };
        match self.direction {
            Direction::Forward if last < self.to && self.to_exists => {
                Err(self.why_missing(connection, life, last + 1, self.to)?)
            }
            Direction::Forward if last < self.to && self.to < i64::MAX => {
                self.refuse_later_than(connection, life, self.to, last + 1)
            }
            Direction::Backward if last > self.from => {
                Err(self.why_missing(connection, life, self.from, last - 1)?)
            }
            _ => Ok(()),
        }
    }

    /// Why events are not there that were when the read began: only what was erased or cut off may be gone.
    fn why_missing(&self, connection: &Connection, life: i64, from: i64, to: i64) -> Result<Failure> {
        if self.was_erased(connection, life)? {
            return Ok(self.erased_meanwhile());
        }
        Ok(match lowest(connection, life)? {
            Some((lowest, true)) if lowest > to => self.cut_off_meanwhile(from),
            _ => self.gap(from, to),
        })
    }

    fn was_erased(&self, connection: &Connection, life: i64) -> Result<bool> {
        let mut statement =
            connection.prepare_cached("SELECT erased IS NOT NULL FROM streams WHERE ref = ?1")?;
        Ok(statement.query_row([life], |row| row.get(0))?)
    }

    /// Events after `bound` mean that those up to it are missing.
    fn refuse_later_than(
        &self,
        connection: &Connection,
        life: i64,
        bound: i64,
        first_missing: i64,
    ) -> Result<()> {
        let later = connection
            .prepare_cached("SELECT 1 FROM events WHERE stream = ?1 AND version > ?2 LIMIT 1")?
            .exists((life, bound))?;
        if later { Err(self.gap(first_missing, bound)) } else { Ok(()) }
    }

    fn gap(&self, from: i64, to: i64) -> Failure {
        Error::corrupt(format!("events {from}..={to} of stream `{}` are missing", self.stream)).into()
    }

    fn cut_off_meanwhile(&self, from: i64) -> Failure {
        let message = format!("the events from version {from} were cut off while they were read; read again");
        Error::unavailable(Outcome::NotDone, message).into()
    }

    fn erased_meanwhile(&self) -> Failure {
        let message = format!("stream `{}` was erased while it was read; read again", self.stream);
        Error::unavailable(Outcome::NotDone, message).into()
    }
}

impl Cursor for StreamCursor {
    type Page = Vec<RecordedEvent>;

    fn next(&mut self, reader: &mut Reader) -> Result<(Option<Self::Page>, After)> {
        let (events, after) = self.page(reader)?;
        Ok(((!events.is_empty()).then_some(events), after))
    }

    fn operation(&self) -> String {
        format!("read stream `{}`", self.stream)
    }
}

/// The head of a stream; `None` if it is empty.
pub(crate) fn head(reader: &Reader, stream: &StreamId) -> Result<Option<Head>> {
    match living(reader, stream)? {
        Some(life) => head_of_life(&reader.connection, life),
        None => Ok(None),
    }
}

pub(crate) fn head_of_life(connection: &Connection, life: i64) -> Result<Option<Head>> {
    let mut statement = connection.prepare_cached(
        "SELECT version, chain FROM events WHERE stream = ?1 ORDER BY version DESC LIMIT 1",
    )?;
    let mut found = statement.query([life])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let version = rows::unsigned(row.get(0)?, "version").map_err(Error::corrupt)?;
    let chain = rows::chain(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
    Ok(Some(Head { version: Version(version), chain }))
}

/// Ref of the life that a stream is in; `None` if the stream is empty.
fn living(reader: &Reader, stream: &StreamId) -> Result<Option<i64>> {
    let mut statement =
        reader.connection.prepare_cached("SELECT ref FROM streams WHERE stream = ?1 AND erased IS NULL")?;
    Ok(statement.query_row([stream.as_str()], |row| row.get(0)).optional()?)
}

/// The first event of a life that is left, and whether it is an origin.
fn lowest(connection: &Connection, life: i64) -> Result<Option<(i64, bool)>> {
    let mut statement = connection
        .prepare_cached("SELECT version, origin FROM events WHERE stream = ?1 ORDER BY version LIMIT 1")?;
    Ok(statement.query_row([life], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

const FORWARD: &str = "SELECT position, version, stream, type, id, schema_version, recorded_at, origin, metadata, \
                       chain, tags, payload FROM events \
                       WHERE stream = ?1 AND version BETWEEN ?2 AND ?3 ORDER BY version LIMIT ?4";
const BACKWARD: &str = "SELECT position, version, stream, type, id, schema_version, recorded_at, origin, metadata, \
                        chain, tags, payload FROM events \
                        WHERE stream = ?1 AND version BETWEEN ?2 AND ?3 ORDER BY version DESC LIMIT ?4";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_read_the_columns_that_rows_are_decoded_from() {
        for statement in [FORWARD, BACKWARD] {
            assert!(statement.starts_with(&format!("SELECT {} FROM", rows::COLUMNS)), "{statement}");
        }
    }
}
