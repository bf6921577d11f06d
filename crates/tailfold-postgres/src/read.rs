//! Reading one stream by version, page by page, with the snapshot that it goes on from where that is wanted. A gap is an error,
//! never a short answer.

mod pages;
mod statements;

use std::sync::Arc;

use bytes::Bytes;
use tailfold::{
    Day, Direction, Error, EventBatches, EventType, Head, Outcome, RecordedEvent, Result, Slot,
    StoredSnapshot, StreamId, Version, VersionRange,
};
use tokio_postgres::Row;

use self::pages::batches;
pub(crate) use self::statements::Statements;
use self::statements::TAIL_EVENTS;
use crate::rows::{self, COLUMN_COUNT, PAGE_EVENTS, Rows, signed};
use crate::store::{Inner, another};

impl Inner {
    /// The last event of a stream that is not empty.
    pub(crate) async fn head_of(&self, stream: &StreamId) -> Result<Option<Head>> {
        let row = self.connections.row(&self.statements.read.head, &[&stream.as_str()]).await?;
        self.check_own(&row, 0)?;
        match rows::value::<Option<&str>>(&row, 3)? {
            None | Some(EventType::TOMBSTONE) => Ok(None),
            Some(_) => rows::head(&row, 1, 2).map(Some),
        }
    }

    /// Fails if a row says that the schema holds another store by now, whose streams may have the same names.
    pub(crate) fn check_own(&self, row: &Row, column: usize) -> Result<()> {
        match rows::value::<bool>(row, column)? {
            true => Ok(()),
            false => Err(another(&self.schema, self.id)),
        }
    }

    /// The newest snapshot of a slot.
    pub(crate) async fn newest_snapshot(
        &self,
        slot: &Slot,
        bound: Option<Version>,
    ) -> Result<Option<StoredSnapshot>> {
        let bound = bound.map_or(i64::MAX, |version| signed(version.0));
        let rows = self
            .connections
            .rows(
                &self.statements.read.snapshot,
                &[&slot.fold(), &slot.serial().as_str(), &slot.key(), &bound],
            )
            .await?;
        let row = header(&rows)?;
        self.check_own(row, 4)?;
        match rows::value::<Option<i64>>(row, 0)? {
            Some(_) => snapshot(row, 0, 1, 2, 3).map(Some),
            None => Ok(None),
        }
    }
}

/// A snapshot in a row. One whose envelope is lost comes back empty, so that its reader rejects and removes it.
fn snapshot(row: &Row, version: usize, chain: usize, used: usize, envelope: usize) -> Result<StoredSnapshot> {
    let bytes: Option<&[u8]> = rows::value(row, envelope)?;
    Ok(StoredSnapshot {
        head: rows::head(row, version, chain)?,
        bytes: bytes.map(Bytes::copy_from_slice).unwrap_or_default(),
        used: Day(rows::value(row, used)?),
    })
}

/// A read of one stream that goes on where it stopped.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    inner: Arc<Inner>,
    stream: StreamId,
    direction: Direction,
    /// Lowest and highest version still wanted.
    from: i64,
    to: i64,
    /// The life that is read, once it is known.
    life: Option<i32>,
    /// The version handed out last.
    last: Option<i64>,
    /// Whether there was a large event, so that pages are measured from now on.
    by_size: bool,
}

/// A page, and how to go on after it.
type Page = (Vec<RecordedEvent>, Option<Reading>);

impl Reading {
    pub(crate) fn new(
        inner: Arc<Inner>,
        stream: StreamId,
        range: VersionRange,
        direction: Direction,
    ) -> Self {
        let from = signed(range.from.0).max(1);
        let to = range.to.map_or(i64::MAX, |to| signed(to.0));
        Self { inner, stream, direction, from, to, life: None, last: None, by_size: false }
    }

    /// All pages. While the caller works on one, the next is being read.
    pub(crate) fn into_batches(self) -> EventBatches {
        batches(Vec::new(), Some(self))
    }

    /// The newest snapshot of a slot, and the stream from its version on, all in one statement.
    pub(crate) async fn with_snapshot(
        mut self,
        slot: &Slot,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)> {
        let statement = &self.inner.statements.read.with_snapshot;
        let found = self
            .inner
            .connections
            .rows(
                statement,
                &[&self.stream.as_str(), &self.to, &slot.fold(), &slot.serial().as_str(), &slot.key()],
            )
            .await?;
        self.inner.check_own(header(&found)?, COLUMN_COUNT + 5)?;
        let snapshot = self.snapshot_among(&found, slot).await?;
        if let Some(snapshot) = &snapshot {
            self.from = signed(snapshot.head.version.0).max(1);
        }
        let (events, rest) = self.tail(&found).await?;
        Ok((snapshot, batches(events, rest)))
    }

    /// The snapshot that came with events.
    async fn snapshot_among(&self, found: &[Row], slot: &Slot) -> Result<Option<StoredSnapshot>> {
        const VERSION: usize = COLUMN_COUNT + 1;
        let first = header(found)?;
        let Some(version) = rows::value::<Option<i64>>(first, VERSION)? else { return Ok(None) };
        if rows::value::<Option<&[u8]>>(first, VERSION + 3)?.is_none() {
            // The event that it is anchored at was cut off, or its envelope is lost.
            let bound = Version(rows::unsigned(version, "version")?);
            return self.inner.newest_snapshot(slot, Some(bound)).await;
        }
        snapshot(first, VERSION, VERSION + 1, VERSION + 2, VERSION + 3).map(Some)
    }

    /// The events that came with a snapshot.
    async fn tail(mut self, found: &[Row]) -> Result<Page> {
        let first = header(found)?;
        let Some(life) = rows::value::<Option<i32>>(first, COLUMN_COUNT)? else {
            return Ok((Vec::new(), None));
        };
        if rows::value::<&str>(first, 3)? == EventType::TOMBSTONE {
            return Ok((Vec::new(), None));
        }
        self.life = Some(life);
        let end = match found.last() {
            Some(last) if found.len() < TAIL_EVENTS && self.to == i64::MAX => rows::value(last, 1)?,
            _ => {
                let head = self.inner.head_of(&self.stream).await?;
                signed(head.ok_or_else(|| self.erased_meanwhile())?.version.0)
            }
        };
        self.to = self.to.min(end);
        self.take(found).await
    }

    /// What one page holds, and what comes after it. Of a stream whose life and end are known.
    fn split(mut self) -> (Self, Option<Self>) {
        let versions = PAGE_EVENTS as i64 - 1;
        if self.life.is_none() || self.to - self.from <= versions {
            return (self, None);
        }
        let mut page = self.clone();
        match self.direction {
            Direction::Forward => {
                page.to = page.from + versions;
                (self.from, self.last) = (page.to + 1, Some(page.to));
            }
            Direction::Backward => {
                page.from = page.to - versions;
                (self.to, self.last) = (page.from - 1, Some(page.from));
            }
        }
        (page, Some(self))
    }

    async fn page(self) -> Result<Page> {
        let operation = format!("read stream `{}`", self.stream);
        self.read_page().await.map_err(|error| error.during(operation))
    }

    async fn read_page(self) -> Result<Page> {
        match self.read_once().await? {
            // It began with a large event.
            (events, Some(rest)) if events.is_empty() => rest.read_once().await,
            page => Ok(page),
        }
    }

    async fn read_once(self) -> Result<Page> {
        let order = match self.direction {
            Direction::Forward => 0,
            Direction::Backward => 1,
        };
        let statements = &self.inner.statements.read;
        let stream = self.stream.as_str();
        match self.life {
            None => {
                let statement = statements.first.get(order).map_or("", String::as_str);
                let found = self.inner.connections.rows(statement, &[&stream, &self.from, &self.to]).await?;
                self.first_page(&found).await
            }
            Some(life) => {
                let next = if self.by_size { &statements.next_by_size } else { &statements.next };
                let statement = next.get(order).map_or("", String::as_str);
                let found =
                    self.inner.connections.rows(statement, &[&stream, &life, &self.from, &self.to]).await?;
                self.take(&found).await
            }
        }
    }

    /// Rows of which the first tells where the stream ends.
    async fn first_page(mut self, found: &[Row]) -> Result<Page> {
        let header = header(found)?;
        self.inner.check_own(header, COLUMN_COUNT + 3)?;
        let life: Option<i32> = rows::value(header, COLUMN_COUNT)?;
        let Some(life) = life else { return Ok((Vec::new(), None)) };
        self.life = Some(life);
        let end: i64 = rows::value(header, COLUMN_COUNT + 1)?;
        // The read ends where the stream ends now, however fast others append.
        self.to = self.to.min(end);
        // And backward where it begins now: what is missing above that later on was cut off meanwhile.
        if let Some(cut) = rows::value::<Option<i64>>(header, COLUMN_COUNT + 2)? {
            self.from = self.from.max(cut);
        }
        if self.from > self.to {
            return Ok((Vec::new(), None));
        }
        self.take(found.get(1..).unwrap_or_default()).await
    }

    async fn take(mut self, found: &[Row]) -> Result<Page> {
        let mut decoder = Rows::default();
        let mut events = Vec::with_capacity(found.len());
        for row in found {
            if rows::is_large(row)? {
                self.by_size = true;
                break;
            }
            let event = decoder.event(row, &self.stream)?;
            let version = signed(event.version.0);
            if event.data.event_type.is_tombstone() {
                return Err(self.erased_meanwhile());
            }
            let expected = match (self.last, self.direction) {
                (Some(last), Direction::Forward) => last + 1,
                (Some(last), Direction::Backward) => last - 1,
                (None, Direction::Forward) => self.from,
                (None, Direction::Backward) => self.to,
            };
            if version != expected {
                self.explain_gap(expected, version).await?;
            }
            self.last = Some(version);
            events.push(event);
        }
        let Some(last) = self.last.filter(|_| !events.is_empty()) else {
            if !found.is_empty() {
                return Ok((events, Some(self)));
            }
            self.explain_nothing().await?;
            return Ok((events, None));
        };
        match self.direction {
            Direction::Forward => self.from = last + 1,
            Direction::Backward => self.to = last - 1,
        }
        if self.from > self.to {
            return Ok((events, None));
        }
        Ok((events, Some(self)))
    }

    /// Versions may be missing only before an origin, where they were cut off, and only before the read began.
    async fn explain_gap(&self, expected: i64, found: i64) -> Result<()> {
        if self.direction == Direction::Forward && self.lowest().await? == Some((found, true)) {
            return match self.last {
                None => Ok(()),
                Some(_) => Err(self.cut_off_meanwhile(expected)),
            };
        }
        Err(self.gap(expected.min(found + 1), expected.max(found - 1)))
    }

    /// Nothing was found of what is wanted, although the stream goes on at least to its end: it was cut off.
    async fn explain_nothing(&self) -> Result<()> {
        match self.lowest().await? {
            None => Err(self.erased_meanwhile()),
            Some((lowest, _)) if lowest > self.to && self.last.is_none() && lowest == 1 => Ok(()),
            Some((lowest, true)) if lowest > self.to => match self.last {
                Some(_) => Err(self.cut_off_meanwhile(self.from)),
                None => Ok(()),
            },
            Some(_) => Err(self.gap(self.from, self.to)),
        }
    }

    /// The first event of the life that is left, unless that is the tombstone, and whether it is an origin.
    async fn lowest(&self) -> Result<Option<(i64, bool)>> {
        let found = self
            .inner
            .connections
            .rows(
                &self.inner.statements.read.lowest,
                &[&self.stream.as_str(), &self.life.unwrap_or_default()],
            )
            .await?;
        let Some(row) = found.first() else { return Ok(None) };
        let head = self.inner.head_of(&self.stream).await?;
        let version = rows::value(row, 0)?;
        Ok(match head {
            // Where the life has ended, its only event left is the tombstone.
            None => None,
            Some(head) if signed(head.version.0) < version => None,
            Some(_) => Some((version, rows::value(row, 1)?)),
        })
    }

    fn gap(&self, from: i64, to: i64) -> Error {
        Error::corrupt(format!("the events from version {from} to {to} are missing"))
    }

    fn erased_meanwhile(&self) -> Error {
        Error::unavailable(Outcome::NotDone, "the stream was erased while it was read; read again")
    }

    fn cut_off_meanwhile(&self, from: i64) -> Error {
        Error::unavailable(
            Outcome::NotDone,
            format!("the events from version {from} were cut off while they were read; read again"),
        )
    }
}

fn header(found: &[Row]) -> Result<&Row> {
    found.first().ok_or_else(|| Error::corrupt("the server answered with no row where there always is one"))
}
