//! Reading the log in order of position, up to where it is decided.

mod statements;

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use tailfold::{Filter, Follow, LogBatch, LogBatches, Position, Result, StreamId};
use tokio_postgres::Row;

use self::statements::Statements;
use crate::frontier;
use crate::rows::{self, COLUMN_COUNT, PAGE_BYTES, PAGE_EVENTS, Rows, signed};
use crate::store::Inner;
use crate::wake::{Follower, Wake};
use crate::went_back::went_back;

/// Positions that a page looks at at most where no index leads to what matches.
const SCANNED: i64 = 100_000;
/// Where at least one position in so many matches, looking at all of them is quicker than going from one to the next by an index.
const DENSE: u64 = 8;
/// Positions that a page looks at at most because the last one was dense: this one may not be.
const NEAR: i64 = DENSE as i64 * PAGE_EVENTS as i64;

/// A read of the log that goes on where it stopped.
struct LogReading {
    inner: Arc<Inner>,
    statements: Statements,
    /// What matches lay close together in the last page.
    dense: bool,
    after: Position,
    follow: Follow,
    /// Up to where it may read; with [`Follow::ToEnd`] that is its end.
    decided: Option<Position>,
    follower: Option<Arc<Follower>>,
}

pub(crate) fn read(inner: Arc<Inner>, after: Position, filter: &Filter, follow: Follow) -> LogBatches {
    let statements = Statements::new(filter, &inner.schema);
    let follower = (follow == Follow::Live).then(|| Wake::follow(&inner));
    let reading = LogReading { inner, statements, dense: false, after, follow, decided: None, follower };
    stream::try_unfold(reading, |mut reading| async move {
        let operation = format!("read the log after position {}", reading.after);
        match reading.next().await {
            Ok(batch) => Ok(batch.map(|batch| (batch, reading))),
            Err(error) => Err(error.during(operation)),
        }
    })
    .boxed()
}

impl LogReading {
    async fn next(&mut self) -> Result<Option<LogBatch>> {
        let decided = match (self.decided, &self.follower) {
            (Some(decided), _) if decided > self.after => decided,
            // Whoever begins after the end of the log has read another one, and would wait for what never comes.
            (None, Some(_)) if self.after > Position::ZERO && !self.is_reached().await? => {
                return Err(went_back(self.after, self.inner.end_of_log().await?));
            }
            (_, Some(follower)) => follower.decided_after(self.after).await?,
            (Some(_), None) => return Ok(None),
            (None, None) => {
                frontier::decided(&self.inner.connections, &self.inner.statements.frontier).await?
            }
        };
        self.decided = Some(decided);
        if decided <= self.after {
            debug_assert_eq!(self.follow, Follow::ToEnd, "a live read waits for more");
            return Ok(None);
        }
        let batch = self.page(decided).await?;
        self.after = batch.checked_to;
        Ok(Some(batch))
    }

    /// Whether the log reaches the position that the read begins after.
    async fn is_reached(&self) -> Result<bool> {
        Ok(self.inner.end_of_log().await? >= self.after)
    }

    async fn page(&mut self, decided: Position) -> Result<LogBatch> {
        let Statements { scan, by_index, values } = &self.statements;
        let (after, decided) = (signed(self.after.0), signed(decided.0));
        let (sql, to, is_bounded) = match by_index {
            Some(by_index) if !self.dense => (by_index, decided, true),
            Some(_) => (scan, decided.min(after.saturating_add(NEAR)), false),
            None => (scan, decided.min(after.saturating_add(SCANNED)), false),
        };
        let found = self.inner.connections.rows(sql, &[&after, &to, values]).await?;
        let (bound, found) = match found.split_last() {
            Some((end, found)) if is_bounded => (rows::value(end, 0)?, found),
            _ => (to, found.as_slice()),
        };
        let events = events(found)?;
        let bytes: usize =
            events.iter().map(|event| event.data.payload.len() + event.data.metadata.len()).sum();
        let is_full = events.len() == PAGE_EVENTS || bytes >= PAGE_BYTES;
        let checked_to = match events.last() {
            Some(last) if is_full => last.position,
            _ => Position(rows::unsigned(bound, "position")?),
        };
        self.dense = events.len() as u64 * DENSE >= checked_to.0.saturating_sub(self.after.0);
        // The server finds what matches; how many rows that takes, it does not tell.
        let visited = events.len() as u64;
        Ok(LogBatch { events, checked_to, visited })
    }
}

fn events(found: &[Row]) -> Result<Vec<tailfold::RecordedEvent>> {
    let mut decoder = Rows::default();
    let mut last: Option<StreamId> = None;
    let mut events = Vec::with_capacity(found.len());
    for row in found {
        let name: &str = rows::value(row, COLUMN_COUNT)?;
        let stream = match last.take() {
            Some(stream) if stream.as_str() == name => stream,
            _ => name.parse()?,
        };
        events.push(decoder.event(row, &stream)?);
        last = Some(stream);
    }
    Ok(events)
}
