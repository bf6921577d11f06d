//! The index of tags. It is kept behind the log: an append notes an event's tags in one short row at the end of
//! `tags_behind`, where a group of commits touches one page, and not a page of the index for each tag. When enough have
//! gathered, they go into `event_tags` in the order of their tags, a part with each commit. Whoever searches looks into
//! `tags_behind` first and then into `event_tags`: what moves meanwhile is found once at least.

use rusqlite::{Connection, Statement};
use tailfold::Error;

use crate::error::Result;

/// Events whose tags gather before they are indexed: what a search has to look through, twice over at most.
const GATHERED: u64 = 2048;
/// Commits over which the indexing of these is spread, so that none takes long.
const PARTS: usize = 16;

pub(crate) struct TagIndex<'c> {
    note: Statement<'c>,
    insert: Statement<'c>,
    /// Rows of `tags_behind`, where that is known.
    behind: Option<u64>,
    moving: Option<Moving>,
}

struct Moving {
    entries: std::vec::IntoIter<(String, i64)>,
    part: usize,
    /// All rows up to this position are among the entries.
    up_to: i64,
}

impl<'c> TagIndex<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            note: connection.prepare("INSERT INTO tags_behind (position, tags) VALUES (?1, ?2)")?,
            // Not what was removed, or moved by another process, since the entries were read.
            insert: connection.prepare(
                "INSERT OR IGNORE INTO event_tags (tag, position)
                 SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM tags_behind WHERE position = ?2)",
            )?,
            behind: None,
            moving: None,
        })
    }

    /// Notes the tags of a new event, a JSON array.
    pub(crate) fn note(&mut self, position: i64, tags: &str) -> Result<()> {
        self.note.execute((position, tags))?;
        self.behind = self.behind.map(|behind| behind + 1);
        Ok(())
    }

    /// Another process, or a removal, may have changed the number of rows.
    pub(crate) fn recount(&mut self) {
        self.behind = None;
    }

    /// What was moved in a transaction that was rolled back is to be moved again.
    pub(crate) fn start_over(&mut self) {
        self.behind = None;
        self.moving = None;
    }

    /// Within a transaction: moves a part, if enough have gathered.
    pub(crate) fn advance(&mut self, connection: &Connection) -> Result<()> {
        let behind = match self.behind {
            Some(behind) => behind,
            None => {
                let mut count = connection.prepare_cached("SELECT count(*) FROM tags_behind")?;
                let count: i64 = count.query_row([], |row| row.get(0))?;
                *self.behind.insert(count.unsigned_abs())
            }
        };
        let mut moving = match self.moving.take() {
            Some(moving) => moving,
            None if behind >= GATHERED => gather(connection)?,
            None => return Ok(()),
        };
        for (tag, position) in moving.entries.by_ref().take(moving.part) {
            self.insert.execute((tag, position))?;
        }
        if moving.entries.len() > 0 {
            self.moving = Some(moving);
            return Ok(());
        }
        let mut remove = connection.prepare_cached("DELETE FROM tags_behind WHERE position <= ?1")?;
        let moved = remove.execute([moving.up_to])?;
        self.behind = Some(behind.saturating_sub(moved as u64));
        Ok(())
    }
}

fn gather(connection: &Connection) -> Result<Moving> {
    let mut statement =
        connection.prepare_cached("SELECT position, tags FROM tags_behind ORDER BY position")?;
    let mut rows = statement.query([])?;
    let mut entries = Vec::new();
    let mut up_to = 0;
    while let Some(row) = rows.next()? {
        up_to = row.get(0)?;
        let tags: Vec<String> =
            serde_json::from_str(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)
                .map_err(|error| Error::corrupt(format!("the tags at position {up_to}")).caused_by(error))?;
        entries.extend(tags.into_iter().map(|tag| (tag, up_to)));
    }
    entries.sort_unstable();
    let part = entries.len().div_ceil(PARTS);
    Ok(Moving { entries: entries.into_iter(), part, up_to })
}

/// Builds the index anew from the tags of the events.
pub(crate) fn rebuild(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "DELETE FROM tags_behind;
         DELETE FROM event_tags;
         INSERT INTO event_tags (tag, position)
         SELECT DISTINCT tag.value, e.position FROM events e, json_each(e.tags) tag
         WHERE e.tags IS NOT NULL ORDER BY 1, 2;",
    )?;
    Ok(())
}

/// Removes the tags of a life's events before a version.
pub(crate) fn remove(connection: &Connection, life: i64, before: i64) -> Result<()> {
    let has_tags = connection
        .prepare_cached(
            "SELECT 1 FROM events WHERE stream = ?1 AND version < ?2 AND tags IS NOT NULL LIMIT 1",
        )?
        .exists((life, before))?;
    if !has_tags {
        return Ok(());
    }
    connection.execute(
        "DELETE FROM event_tags WHERE (tag, position) IN (
             SELECT tag.value, e.position FROM events e, json_each(e.tags) tag
             WHERE e.stream = ?1 AND e.version < ?2 AND e.tags IS NOT NULL)",
        (life, before),
    )?;
    connection.execute(
        "DELETE FROM tags_behind WHERE position IN (
             SELECT position FROM events WHERE stream = ?1 AND version < ?2 AND tags IS NOT NULL)",
        (life, before),
    )?;
    write_anew(connection)
}

/// Writes what is not indexed yet on new pages. Where rows go again and again, SQLite merges pages, and leaves copies of what it
/// moves between the rows of a page, where `secure_delete` does not find them. Emptied pages are overwritten as a whole.
fn write_anew(connection: &Connection) -> Result<()> {
    let rows = connection
        .prepare_cached("SELECT position, tags FROM tags_behind ORDER BY position")?
        .query_map([], |row| row.try_into())?
        .collect::<Result<Vec<(i64, String)>, _>>()?;
    connection.prepare_cached("DELETE FROM tags_behind")?.execute([])?;
    let mut insert = connection.prepare_cached("INSERT INTO tags_behind (position, tags) VALUES (?1, ?2)")?;
    for row in rows {
        insert.execute(row)?;
    }
    Ok(())
}
