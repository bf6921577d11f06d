//! A call of the function `append` in the database: any commit there is.

use std::sync::atomic::Ordering;

use tailfold::{
    Commit, Committed, Error, Expected, Head, Keep, Position, Result, Saved, StreamWrite, Version, Written,
};
use tokio_postgres::Row;

use crate::append::Columns;
use crate::connections::Connection;
use crate::error::Failure;
use crate::filter::first_match;
use crate::locks::LockSet;
use crate::rows::{self, signed, unsigned};
use crate::store::Inner;

/// Between two tags of an event, on the way: no tag holds it.
const BETWEEN_TAGS: &str = "\u{1f}";

pub(crate) struct Call<'c> {
    commit: &'c Commit,
    streams: Vec<&'c str>,
    expectations: Vec<i16>,
    versions: Vec<i64>,
    expected: Vec<Option<&'c [u8]>>,
    ends: Vec<i32>,
    columns: Columns<'c>,
    digests: Vec<[u8; 16]>,
    tags: Vec<Option<String>>,
    since: i64,
    locks: LockSet,
    unchanged: Option<(String, Vec<String>)>,
    after: Option<i64>,
    keep: Option<i64>,
    slot_lock: Option<i64>,
}

impl<'c> Call<'c> {
    pub(crate) fn of(commit: &'c Commit, inner: &Inner) -> Result<Self> {
        let events = || commit.writes.iter().flat_map(|write| &write.events);
        let tags = events().flat_map(|event| &event.data().tags);
        let mut end = 0;
        let unchanged = commit.unchanged.as_ref();
        Ok(Self {
            commit,
            streams: commit.writes.iter().map(|write| write.stream.as_str()).collect(),
            expectations: commit.writes.iter().map(|write| number(write.expected)).collect(),
            versions: commit.writes.iter().map(base).collect(),
            expected: commit.writes.iter().map(chain).collect(),
            ends: commit
                .writes
                .iter()
                .map(|write| {
                    end += write.events.len() as i32;
                    end
                })
                .collect(),
            columns: Columns::of(events()),
            digests: events().map(|event| *event.digest().as_bytes()).collect(),
            tags: events()
                .map(|event| {
                    let tags: Vec<_> = event.data().tags.iter().map(|tag| tag.as_str()).collect();
                    (!tags.is_empty()).then(|| tags.join(BETWEEN_TAGS))
                })
                .collect(),
            since: inner.seen.load(Ordering::Acquire),
            locks: inner.locks.commit(tags, unchanged.map(|unchanged| &unchanged.filter)),
            unchanged: unchanged.map(|unchanged| first_match(&unchanged.filter, &inner.schema)),
            after: unchanged.map(|unchanged| signed(unchanged.after.0)),
            keep: commit.snapshot.as_ref().map(|inline| count(inline.save.keep)).transpose()?,
            slot_lock: commit.snapshot.as_ref().map(|inline| inner.locks.slot(&inline.slot)),
        })
    }

    /// The position after which its own events are looked for where anything is expected.
    pub(crate) fn since(&self) -> i64 {
        self.since
    }

    pub(crate) async fn send(&self, connection: &Connection, sql: &str) -> Result<Vec<Row>, Failure> {
        let digests: Vec<_> = self.digests.iter().map(<[u8; 16]>::as_slice).collect();
        let (query, values) = self.unchanged.as_ref().map(|(query, values)| (query, values)).unzip();
        let inline = self.commit.snapshot.as_ref();
        let columns = &self.columns;
        connection
            .rows(
                sql,
                &[
                    &self.streams,
                    &self.expectations,
                    &self.versions,
                    &self.expected,
                    &self.ends,
                    &columns.ids,
                    &columns.types,
                    &columns.schema_versions,
                    &columns.recorded_ats,
                    &columns.origins,
                    &columns.metadatas,
                    &digests,
                    &self.tags,
                    &columns.payloads,
                    &self.since,
                    &self.locks.numbers,
                    &self.locks.exclusive,
                    &self.locks.whole_log,
                    &query,
                    &self.after,
                    &values,
                    &inline.map(|inline| inline.slot.fold()),
                    &inline.map(|inline| inline.slot.serial().as_str()),
                    &inline.map(|inline| inline.slot.key()),
                    &inline.map(|inline| signed(inline.save.head.version.0)),
                    &inline.map(|inline| inline.save.head.chain.as_bytes().as_slice()),
                    &inline.map(|inline| &*inline.save.bytes),
                    &self.keep,
                    &inline.map(|inline| inline.save.day.0),
                    &self.slot_lock,
                ],
            )
            .await
    }

    /// What the function answered.
    pub(crate) fn receipt(&self, answer: &[Row]) -> Result<Committed> {
        let last = answer.last().ok_or_else(|| Error::corrupt("the server says nothing about a commit"))?;
        match rows::value::<&str>(last, 0)? {
            "conflict" => {
                let write = usize::try_from(rows::value::<i32>(last, 1)? - 1).ok();
                let write = write.and_then(|write| self.commit.writes.get(write));
                let write =
                    write.ok_or_else(|| Error::corrupt("the server names a write that there is not"))?;
                let head = rows::head(last, 3, 4)?;
                let actual = (head.version > Version::ZERO).then_some(head);
                Err(Error::conflict(write.stream.clone(), write.expected, actual))
            }
            "changed" => Err(Error::changed(position(last)?)),
            outcome => self.recorded(answer, outcome == "repeated"),
        }
    }

    fn recorded(&self, answer: &[Row], repeated: bool) -> Result<Committed> {
        let mut writes = Vec::with_capacity(answer.len());
        let mut end = Position::ZERO;
        for (write, row) in self.commit.writes.iter().zip(answer) {
            let first = Version(unsigned(rows::value(row, 2)?, "version")?);
            writes.push(Written { stream: write.stream.clone(), first, head: rows::head(row, 3, 4)? });
            end = end.max(position(row)?);
        }
        let snapshot = match (answer.first(), &self.commit.snapshot) {
            (Some(row), Some(_)) if !repeated => Some(saved(row, 6)?),
            _ => None,
        };
        Ok(Committed { writes, position: end, snapshot, repeated })
    }
}

/// What became of a save: how many were pruned, or the newer head, in three columns.
pub(crate) fn saved(row: &Row, column: usize) -> Result<Saved> {
    Ok(match rows::value::<Option<i64>>(row, column)? {
        Some(pruned) => Saved::Stored { pruned: unsigned(pruned, "count")? },
        None => Saved::Superseded(rows::head(row, column + 1, column + 2)?),
    })
}

/// How many snapshots are kept of a slot.
pub(crate) fn count(keep: Keep) -> Result<i64> {
    match keep {
        Keep::Newest => Ok(1),
        Keep::Last(count) => Ok(count.get().into()),
        Keep::All => Ok(i64::MAX),
        _ => Err(Error::unsupported("this retention is newer than the store")),
    }
}

fn position(row: &Row) -> Result<Position> {
    Ok(Position(unsigned(rows::value(row, 5)?, "position")?))
}

fn number(expected: Expected) -> i16 {
    match expected {
        Expected::Head(_) => 0,
        Expected::NoStream => 1,
        Expected::Version(_) => 2,
        Expected::Any => 3,
    }
}

fn base(write: &StreamWrite) -> i64 {
    write.expected.base_version().map_or(0, |version| signed(version.0))
}

fn chain(write: &StreamWrite) -> Option<&[u8]> {
    match &write.expected {
        Expected::Head(Head { chain, .. }) => Some(chain.as_bytes()),
        _ => None,
    }
}
