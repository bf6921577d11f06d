//! Reading the log in order of position. A page is found by the indexes of what its filter names, or by looking at event
//! after event where most of them match or the filter names nothing.

mod candidates;
mod page;

use rusqlite::Connection;
use tailfold::{Error, Filter, Follow, LogBatch, Position};

use crate::error::{Failure, Result};
use crate::pages::{After, Cursor, PAGE_EVENTS};
use crate::readers::Reader;
use crate::rows::{Names, signed};

use page::{Page, Way};

/// Rows from which on a page says how dense the matches are.
const TELLING: u64 = 64;

#[derive(Clone)]
pub(crate) struct LogCursor {
    filter: Filter,
    after: i64,
    follow: Follow,
    /// The last position when the read began; of a live one, when it last looked.
    end: Option<i64>,
    /// Whether the page before had so many matches that a scan is faster.
    dense: bool,
}

impl LogCursor {
    pub(crate) fn new(after: Position, filter: Filter, follow: Follow) -> Self {
        Self { filter, after: signed(after.0), follow, end: None, dense: false }
    }

    /// The next page up to `end`. By an index, an event costs about as much as four that are scanned; between a quarter and
    /// an eighth of all either way will do.
    fn page(&mut self, connection: &Connection, names: &mut Names, end: i64) -> Result<Page> {
        let way = if self.dense { Way::Scan } else { page::way(connection, names, &self.filter)? };
        let page = page::page(connection, names, &self.filter, &way, self.after..end, PAGE_EVENTS)?;
        if page.rows >= TELLING {
            self.dense = match way {
                // Positions of events that were removed count as events between: what is left of the matches may be
                // denser than it seems, and is read by the index.
                Way::Index(_) => page.rows * 4 >= (page.checked_to - self.after).unsigned_abs(),
                Way::Scan => page.events.len() as u64 * 8 >= page.rows,
            };
        }
        self.after = page.checked_to;
        Ok(page)
    }
}

impl Cursor for LogCursor {
    type Page = LogBatch;

    fn next(&mut self, reader: &mut Reader) -> Result<(Option<LogBatch>, After)> {
        // One state of the store: an index and the events that it names.
        reader.consistent(|Reader { connection, names, visited, .. }| {
            let end = match (self.follow, self.end) {
                (Follow::ToEnd, Some(end)) => end,
                (_, before) => {
                    let end = last_position(connection)?;
                    // Otherwise it would wait until the log gets there again, and miss what comes before that.
                    if let Some(before) = before.filter(|before| end < *before) {
                        return Err(went_back(end, before));
                    }
                    *self.end.insert(end)
                }
            };
            let at_end = match self.follow {
                Follow::ToEnd => After::End,
                Follow::Live => After::Wait,
            };
            if end <= self.after {
                return Ok((None, at_end));
            }
            let page = self.page(connection, names, end)?;
            visited.add(page.rows, page.entries);
            let checked_to = Position(page.checked_to.unsigned_abs());
            let batch = LogBatch { events: page.events, checked_to, visited: page.rows.max(page.entries) };
            Ok((Some(batch), if page.checked_to < end { After::More } else { at_end }))
        })
    }

    fn operation(&self) -> String {
        format!("read the log after position {}", self.after)
    }
}

/// The first event after a position that matches. In a transaction of the caller's.
pub(crate) fn first_match(
    connection: &Connection,
    names: &mut Names,
    filter: &Filter,
    after: Position,
) -> Result<Option<Position>> {
    let end = last_position(connection)?;
    let mut after = signed(after.0);
    let way = page::way(connection, names, filter)?;
    while after < end {
        let page = page::page(connection, names, filter, &way, after..end, 1)?;
        if let Some(event) = page.events.first() {
            return Ok(Some(event.position));
        }
        after = page.checked_to;
    }
    Ok(None)
}

/// Whatever is removed, the last event of the log stays, or another one follows it.
fn went_back(end: i64, before: i64) -> Failure {
    Error::corrupt(format!(
        "the log went back: it ended at position {before} and ends at position {end} now; an older copy was put in its place: \
         give it a new store id (`restore`) and open that"
    ))
    .into()
}

fn last_position(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(position), 0) FROM events")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}
