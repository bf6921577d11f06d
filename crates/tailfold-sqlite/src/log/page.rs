//! One page of the log, in either way.

use std::ops::Range;

use rusqlite::Connection;
use tailfold::{Error, EventType, Filter, RecordedEvent, StreamId};

use super::candidates::Candidates;
use crate::error::Result;
use crate::pages::PAGE_BYTES;
use crate::rows::{self, Names, Rows, signed};

/// Rows that a page looks at by scan, whether they match or not.
const SCANNED: usize = 4096;

const SCAN: &str = "SELECT position, version, stream, type, id, schema_version, recorded_at, origin, metadata, chain, \
                    tags, payload FROM events WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3";
const AT: &str = "SELECT position, version, stream, type, id, schema_version, recorded_at, origin, metadata, chain, \
                  tags, payload FROM events WHERE position = ?1";

/// How a page is found.
#[derive(Debug)]
pub(super) enum Way {
    /// By the tags and streams of the clauses that have some, and by these kinds for the others.
    Index(Vec<i64>),
    Scan,
}

#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: Vec<RecordedEvent>,
    /// Up to here nothing else matches.
    pub(super) checked_to: i64,
    /// Rows of the log that were looked at.
    pub(super) rows: u64,
    /// Entries of indexes that were read.
    pub(super) entries: u64,
}

/// The way for a filter of which is not known how much it matches.
pub(super) fn way(connection: &Connection, names: &mut Names, filter: &Filter) -> Result<Way> {
    Ok(names.kinds.matching(connection, filter)?.map_or(Way::Scan, Way::Index))
}

/// Up to `limit` events that match, after the start of a range, up to its end. An index and the log are read one after the
/// other: in a transaction.
pub(super) fn page(
    connection: &Connection,
    names: &mut Names,
    filter: &Filter,
    way: &Way,
    range: Range<i64>,
    limit: usize,
) -> Result<Page> {
    match way {
        Way::Index(kinds) => page_by_index(connection, names, filter, kinds, range, limit),
        Way::Scan => page_by_scan(connection, names, filter, range, limit),
    }
}

fn page_by_scan(
    connection: &Connection,
    names: &mut Names,
    filter: &Filter,
    Range { start: after, end }: Range<i64>,
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
    Ok(Page { events, checked_to, rows: scanned as u64, entries: 0 })
}

fn may_match(filter: &Filter, stream: &StreamId, event_type: &str) -> bool {
    filter.clauses().iter().any(|clause| {
        clause.matches_stream(stream)
            && (clause.types.is_empty()
                || [EventType::TOMBSTONE, EventType::TRUNCATED].contains(&event_type)
                || clause.types.iter().any(|wanted| wanted.as_str() == event_type))
    })
}

fn page_by_index(
    connection: &Connection,
    names: &mut Names,
    filter: &Filter,
    kinds: &[i64],
    Range { start: after, end }: Range<i64>,
    limit: usize,
) -> Result<Page> {
    // Enough that those which do not match do not make many pages of few events.
    let mut candidates = Candidates::new(connection, after, end, limit.max(64));
    candidates.add_kinds(kinds)?;
    for clause in filter.clauses() {
        candidates.add_clause(clause)?;
    }
    let Candidates { mut positions, mut checked_to, entries, .. } = candidates;
    positions.sort_unstable();
    positions.dedup();
    let mut statement = connection.prepare_cached(AT)?;
    let mut events = Vec::new();
    let mut decoder = Rows::new();
    let mut visited = 0;
    for position in positions.into_iter().take_while(|position| *position <= checked_to) {
        let mut found = statement.query([position])?;
        let Some(row) = found.next()? else {
            return Err(Error::corrupt(format!(
                "an index names position {position}, where there is no event: run `reindex`"
            ))
            .into());
        };
        visited += 1;
        let stream = names.stream(connection, rows::stream_ref(row)?)?;
        let event = decoder.event(row, &stream)?;
        if filter.matches(&event) {
            events.push(event);
        }
        if events.len() == limit || decoder.bytes() >= PAGE_BYTES {
            checked_to = position;
            break;
        }
    }
    Ok(Page { events, checked_to, rows: visited, entries })
}

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
