//! The kinds of events that a filter can match, and where they are in the log.

use std::iter;

use rusqlite::Connection;
use tailfold::{Clause, EventType, Filter};

use crate::error::Result;
use crate::schema;

/// Kinds that one statement merges by position.
pub(crate) const MERGED: usize = 64;

/// The kinds that a connection has seen. They are never removed, so that only new ones are read.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// False in a file of format 1, until somebody brings it up to date.
    indexed: bool,
    known: Vec<Kind>,
}

#[derive(Debug)]
struct Kind {
    reference: i64,
    category: String,
    event_type: String,
}

impl Kinds {
    /// Refs of the kinds that clauses without streams and tags can match; `None` if the index is no help: they can match
    /// every kind, or the file has no index.
    ///
    /// The end of a page must be read before: its events have kinds that are seen here.
    pub(crate) fn matching(&mut self, connection: &Connection, filter: &Filter) -> Result<Option<Vec<i64>>> {
        let clauses: Vec<_> = filter
            .clauses()
            .iter()
            .filter(|clause| clause.tags.is_empty() && clause.streams.is_empty())
            .collect();
        if clauses.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let whole = |clause: &&Clause| clause.categories.is_empty() && clause.types.is_empty();
        if clauses.iter().any(whole) || !self.read_new(connection)? {
            return Ok(None);
        }
        let wanted = |kind: &&Kind| clauses.iter().any(|clause| kind.can_match(clause));
        let refs: Vec<_> = self.known.iter().filter(wanted).map(|kind| kind.reference).collect();
        Ok((refs.is_empty() || refs.len() < self.known.len()).then_some(refs))
    }

    /// Whether there is an index at all.
    fn read_new(&mut self, connection: &Connection) -> Result<bool> {
        self.indexed = self.indexed || schema::has_kinds(connection)?;
        if !self.indexed {
            return Ok(false);
        }
        let mut statement =
            connection.prepare_cached("SELECT ref, category, type FROM kinds WHERE ref > ?1 ORDER BY ref")?;
        let last = self.known.last().map_or(0, |kind| kind.reference);
        let mut found = statement.query([last])?;
        while let Some(row) = found.next()? {
            let kind = Kind { reference: row.get(0)?, category: row.get(1)?, event_type: row.get(2)? };
            self.known.push(kind);
        }
        Ok(true)
    }
}

impl Kind {
    fn can_match(&self, clause: &Clause) -> bool {
        (clause.categories.is_empty() || clause.categories.contains(&self.category))
            && (clause.types.is_empty()
                || [EventType::TOMBSTONE, EventType::TRUNCATED].contains(&self.event_type.as_str())
                || clause.types.iter().any(|wanted| wanted.as_str() == self.event_type))
    }
}

/// The first `?3` positions after `?1` up to `?2` of so many kinds, bound from `?4` on: their parts of the index, merged as
/// they are read, so that nothing is read that is not handed out, but for one entry of each.
pub(crate) fn positions_of(kinds: usize) -> String {
    let part = |number| {
        format!(
            "SELECT position FROM event_kinds WHERE kind = ?{number} AND position > ?1 AND position <= ?2"
        )
    };
    let parts: Vec<_> = (4..).take(kinds).map(part).collect();
    parts.join(" UNION ALL ") + " ORDER BY position LIMIT ?3"
}

/// Kinds for a statement of few different lengths, so that it is found prepared: none has the ref 0.
pub(crate) fn padded(kinds: &[i64]) -> Vec<i64> {
    let length = kinds.len().next_power_of_two();
    kinds.iter().copied().chain(iter::repeat(0)).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_searches_the_index_for_each_kind_and_sorts_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema.sql")).unwrap();
        for kinds in [1, 2, 8, MERGED] {
            let mut statement =
                connection.prepare(&format!("EXPLAIN QUERY PLAN {}", positions_of(kinds))).unwrap();
            let lines = statement.query_map(rusqlite::params_from_iter(vec![1; 3 + kinds]), |row| row.get(3));
            let plan: Vec<String> = lines.unwrap().map(Result::unwrap).collect();
            let search = "SEARCH event_kinds USING PRIMARY KEY (kind=? AND position>? AND position<?)";
            assert_eq!(plan.iter().filter(|line| *line == search).count(), kinds, "{plan:#?}");
            let reads = |line: &&String| line.contains("SCAN") || line.contains("TEMP B-TREE");
            assert_eq!(plan.iter().find(reads), None, "{plan:#?}");
        }
    }

    #[test]
    fn kinds_are_padded_to_a_power_of_two() {
        assert_eq!(padded(&[7]), [7]);
        assert_eq!(padded(&[7, 8, 9]), [7, 8, 9, 0]);
    }
}
