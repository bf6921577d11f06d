//! Reading the log in order of position, with a filter evaluated by indexes where a clause allows it.

use rusqlite::{Connection, OptionalExtension as _, Params};
use tailfold::{Clause, Error, Filter, Follow, LogBatch, Position, RecordedEvent, StreamId, Tag};

use crate::error::Result;
use crate::pages::{After, Cursor, PAGE_BYTES, PAGE_EVENTS};
use crate::readers::Reader;
use crate::rows::{self, Names, Rows, signed};

/// Rows that a page looks at, whether they match or not.
const SCANNED: usize = 4096;
/// Steps that the search for events with several tags takes for a page.
const STEPS: usize = 10_000;

pub(crate) struct LogCursor {
    filter: Filter,
    after: i64,
    follow: Follow,
    /// The last position when the read began.
    end: Option<i64>,
}

impl LogCursor {
    pub(crate) fn new(after: Position, filter: Filter, follow: Follow) -> Self {
        Self { filter, after: signed(after.0), follow, end: None }
    }
}

impl Cursor for LogCursor {
    type Page = LogBatch;

    fn next(&mut self, reader: &mut Reader) -> Result<(Option<LogBatch>, After)> {
        let Reader { connection, names } = reader;
        let end = match (self.follow, self.end) {
            (Follow::ToEnd, Some(end)) => end,
            _ => *self.end.insert(last_position(connection)?),
        };
        let at_end = match self.follow {
            Follow::ToEnd => After::End,
            Follow::Live => After::Wait,
        };
        if end <= self.after {
            return Ok((None, at_end));
        }
        let page = page(connection, names, &self.filter, self.after, end, PAGE_EVENTS)?;
        self.after = page.checked_to;
        let batch = LogBatch {
            events: page.events,
            checked_to: Position(page.checked_to.unsigned_abs()),
            visited: page.visited,
        };
        Ok((Some(batch), if page.checked_to < end { After::More } else { at_end }))
    }

    fn operation(&self) -> String {
        format!("read the log after position {}", self.after)
    }
}

/// The first event after a position that matches.
pub(crate) fn first_match(
    connection: &Connection,
    names: &mut Names,
    filter: &Filter,
    after: Position,
) -> Result<Option<Position>> {
    let end = last_position(connection)?;
    let mut after = signed(after.0);
    while after < end {
        let page = page(connection, names, filter, after, end, 1)?;
        if let Some(event) = page.events.first() {
            return Ok(Some(event.position));
        }
        after = page.checked_to;
    }
    Ok(None)
}

fn last_position(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(position), 0) FROM events")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

struct Page {
    events: Vec<RecordedEvent>,
    checked_to: i64,
    /// Events that were looked at.
    visited: u64,
}

/// Up to `limit` events that match, after `after`, up to `end`.
fn page(
    connection: &Connection,
    names: &mut Names,
    filter: &Filter,
    after: i64,
    end: i64,
    limit: usize,
) -> Result<Page> {
    let by_index =
        filter.clauses().iter().all(|clause| !clause.tags.is_empty() || !clause.streams.is_empty());
    if by_index {
        page_by_index(connection, names, filter, after, end, limit)
    } else {
        page_by_scan(connection, names, filter, after, end, limit)
    }
}

fn page_by_scan(
    connection: &Connection,
    names: &mut Names,
    filter: &Filter,
    after: i64,
    end: i64,
    limit: usize,
) -> Result<Page> {
    let mut statement = connection.prepare_cached(SCAN)?;
    let mut found = statement.query((after, end, SCANNED as i64))?;
    let mut events = Vec::new();
    let mut decoder = Rows::new();
    let mut checked_to = after;
    let mut scanned = 0;
    while events.len() < limit && decoder.bytes() < PAGE_BYTES {
        let Some(row) = found.next()? else {
            if scanned < SCANNED {
                checked_to = end;
            }
            break;
        };
        scanned += 1;
        let stream = names.stream(connection, rows::stream_ref(row)?)?;
        // Payloads of what cannot match stay where they are.
        if may_match(filter, &stream, rows::type_name(row)?) {
            let event = decoder.event(row, &stream)?;
            checked_to = signed(event.position.0);
            if filter.matches(&event) {
                events.push(event);
            }
        } else {
            checked_to = row.get(0)?;
        }
    }
    Ok(Page { events, checked_to, visited: scanned as u64 })
}

fn may_match(filter: &Filter, stream: &StreamId, event_type: &str) -> bool {
    filter.clauses().iter().any(|clause| {
        clause.matches_stream(stream)
            && (clause.types.is_empty()
                || event_type == tailfold::EventType::TOMBSTONE
                || clause.types.iter().any(|wanted| wanted.as_str() == event_type))
    })
}

fn page_by_index(
    connection: &Connection,
    names: &mut Names,
    filter: &Filter,
    after: i64,
    end: i64,
    limit: usize,
) -> Result<Page> {
    // Enough that those which do not match do not make many pages of few events.
    let mut candidates =
        Candidates { connection, after, end, limit: limit.max(64), positions: Vec::new(), checked_to: end };
    for clause in filter.clauses() {
        candidates.add_clause(clause)?;
    }
    let Candidates { mut positions, mut checked_to, .. } = candidates;
    positions.sort_unstable();
    positions.dedup();
    let mut statement = connection.prepare_cached(AT)?;
    let (mut events, mut visited) = (Vec::new(), 0);
    let mut decoder = Rows::new();
    for position in positions.into_iter().take_while(|position| *position <= checked_to) {
        let mut found = statement.query([position])?;
        let Some(row) = found.next()? else {
            return Err(Error::corrupt(format!(
                "the index of tags names position {position}, where there is no event: run `reindex`"
            ))
            .into());
        };
        let stream = names.stream(connection, rows::stream_ref(row)?)?;
        let event = decoder.event(row, &stream)?;
        visited += 1;
        if filter.matches(&event) {
            events.push(event);
        }
        if events.len() == limit || decoder.bytes() >= PAGE_BYTES {
            checked_to = position;
            break;
        }
    }
    Ok(Page { events, checked_to, visited })
}

/// Positions where a filter may match, and how far they are complete.
struct Candidates<'c> {
    connection: &'c Connection,
    after: i64,
    end: i64,
    limit: usize,
    positions: Vec<i64>,
    checked_to: i64,
}

impl Candidates<'_> {
    fn add_clause(&mut self, clause: &Clause) -> Result<()> {
        match clause.tags.as_slice() {
            [] => {
                for stream in &clause.streams {
                    self.add_stream(stream)?;
                }
            }
            [first, more @ ..] => {
                // Before the index: what moves there meanwhile is found once at least.
                self.add_behind(first)?;
                match more {
                    [] => self.add_tag(first)?,
                    _ => self.add_all_tags(&clause.tags)?,
                }
                // A tombstone bears no tags and matches all the same.
                self.add(
                    "SELECT erased FROM streams WHERE erased IS NOT NULL AND erased > ?1 AND erased <= ?2
                     ORDER BY erased LIMIT ?3",
                    (self.after, self.end, self.limit as i64),
                )?;
            }
        }
        Ok(())
    }

    /// Those that are not indexed yet. Where several tags are wanted, one is enough to make a candidate.
    fn add_behind(&mut self, tag: &Tag) -> Result<()> {
        let quoted = serde_json::to_string(tag.as_str())
            .map_err(|error| Error::codec("encode a tag").caused_by(error))?;
        self.add(
            "SELECT position FROM tags_behind WHERE position > ?1 AND position <= ?2 AND instr(tags, ?4) > 0
             ORDER BY position LIMIT ?3",
            (self.after, self.end, self.limit as i64, quoted),
        )
    }

    fn add_tag(&mut self, tag: &Tag) -> Result<()> {
        self.add(
            "SELECT position FROM event_tags WHERE position > ?1 AND position <= ?2 AND tag = ?4
             ORDER BY position LIMIT ?3",
            (self.after, self.end, self.limit as i64, tag.as_str()),
        )
    }

    /// Leaps from tag to tag, so that the rarest one decides how much is looked at.
    fn add_all_tags(&mut self, tags: &[Tag]) -> Result<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT position FROM event_tags WHERE tag = ?1 AND position >= ?2 AND position <= ?3
             ORDER BY position LIMIT 1",
        )?;
        let mut candidate = self.after + 1;
        let (mut agreeing, mut found) = (0, 0);
        for (step, tag) in tags.iter().cycle().enumerate() {
            if step == STEPS || found == self.limit {
                self.checked_to = self.checked_to.min(candidate - 1);
                break;
            }
            let next: Option<i64> =
                statement.query_row((tag.as_str(), candidate, self.end), |row| row.get(0)).optional()?;
            let Some(next) = next else { break };
            agreeing = if next == candidate { agreeing + 1 } else { 1 };
            candidate = next;
            if agreeing == tags.len() {
                self.positions.push(candidate);
                found += 1;
                candidate += 1;
                agreeing = 0;
            }
        }
        Ok(())
    }

    fn add_stream(&mut self, stream: &StreamId) -> Result<()> {
        self.add(
            "SELECT erased FROM streams WHERE stream = ?4 AND erased IS NOT NULL AND erased > ?1 AND erased <= ?2
             ORDER BY erased LIMIT ?3",
            (self.after, self.end, self.limit as i64, stream.as_str()),
        )?;
        let life: Option<i64> = self
            .connection
            .prepare_cached("SELECT ref FROM streams WHERE stream = ?1 AND erased IS NULL")?
            .query_row([stream.as_str()], |row| row.get(0))
            .optional()?;
        let Some(life) = life else { return Ok(()) };
        let Some(version) = self.first_version_after(life)? else { return Ok(()) };
        self.add(
            "SELECT position FROM events WHERE stream = ?4 AND version >= ?5 AND +position > ?1 AND +position <= ?2
             ORDER BY version LIMIT ?3",
            (self.after, self.end, self.limit as i64, life, version),
        )
    }

    /// Positions grow with versions, and no index leads from one to the other: halve the range until it is found.
    fn first_version_after(&self, life: i64) -> Result<Option<i64>> {
        let bounds: (Option<i64>, Option<i64>) = self
            .connection
            .prepare_cached(
                "SELECT (SELECT min(version) FROM events WHERE stream = ?1),
                        (SELECT max(version) FROM events WHERE stream = ?1)",
            )?
            .query_row([life], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (Some(mut low), Some(mut high)) = bounds else { return Ok(None) };
        let mut position_at = self.connection.prepare_cached(
            "SELECT position FROM events WHERE stream = ?1 AND version >= ?2 ORDER BY version LIMIT 1",
        )?;
        let mut is_after = |version: i64| -> Result<bool> {
            let position: i64 = position_at.query_row((life, version), |row| row.get(0))?;
            Ok(position > self.after)
        };
        if !is_after(high)? {
            return Ok(None);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if is_after(middle)? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(Some(low))
    }

    fn add(&mut self, sql: &str, parameters: impl Params) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(parameters)?;
        let mut count = 0;
        while let Some(row) = found.next()? {
            let position = row.get(0)?;
            self.positions.push(position);
            count += 1;
            if count == self.limit {
                self.checked_to = self.checked_to.min(position);
            }
        }
        Ok(())
    }
}

const SCAN: &str = "SELECT position, version, stream, type, id, schema_version, recorded_at, origin, metadata, chain, \
                    tags, payload FROM events WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3";
const AT: &str = "SELECT position, version, stream, type, id, schema_version, recorded_at, origin, metadata, chain, \
                  tags, payload FROM events WHERE position = ?1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_read_the_columns_that_rows_are_decoded_from() {
        for statement in [SCAN, AT] {
            assert!(statement.starts_with(&format!("SELECT {} FROM", rows::COLUMNS)), "{statement}");
        }
    }
}
