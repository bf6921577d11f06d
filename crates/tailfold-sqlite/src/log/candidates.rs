//! Positions where events may match, from the indexes of kinds, tags and streams.

use rusqlite::{Connection, OptionalExtension as _, Params};
use tailfold::{Clause, Error, StreamId, Tag};

use crate::error::Result;
use crate::kinds::{self, MERGED};

/// Steps that the search for events with several tags takes for a page.
const STEPS: usize = 10_000;

/// Positions where a filter may match, and how far they are complete.
pub(crate) struct Candidates<'c> {
    connection: &'c Connection,
    after: i64,
    end: i64,
    limit: usize,
    /// Entries of indexes that were read.
    pub(crate) entries: u64,
    pub(crate) positions: Vec<i64>,
    pub(crate) checked_to: i64,
}

impl<'c> Candidates<'c> {
    /// None yet, of up to `limit` from each place that is searched.
    pub(crate) fn new(connection: &'c Connection, after: i64, end: i64, limit: usize) -> Self {
        Self { connection, after, end, limit, entries: 0, positions: Vec::new(), checked_to: end }
    }

    /// Those of kinds.
    pub(crate) fn add_kinds(&mut self, kinds: &[i64]) -> Result<()> {
        for kinds in kinds.chunks(MERGED) {
            let kinds = kinds::padded(kinds);
            let mut parameters = vec![self.after, self.end, self.limit as i64];
            parameters.extend(&kinds);
            self.add(&kinds::positions_of(kinds.len()), rusqlite::params_from_iter(parameters))?;
        }
        Ok(())
    }

    /// Those of a clause's tags or else of its streams.
    pub(crate) fn add_clause(&mut self, clause: &Clause) -> Result<()> {
        match clause.tags.as_slice() {
            // Of none as well: a clause without both is a matter of kinds.
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
            self.entries += 1;
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
            self.entries += 1;
            count += 1;
            if count == self.limit {
                self.checked_to = self.checked_to.min(position);
            }
        }
        Ok(())
    }
}
