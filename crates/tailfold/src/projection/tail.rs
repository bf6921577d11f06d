//! The matching events that are still to be folded, with what a cursor saves of the way.

use std::sync::Arc;

use futures_util::TryStreamExt as _;

use super::anchor::{Anchors, just_before};
use super::cursor::Cursor;
use crate::error::Result;
use crate::event::{Position, RecordedEvent};
use crate::filter::Filter;
use crate::store::{EventStore, Follow, LogBatch, LogBatches};
use crate::stream::Version;

/// Batches of the log, in order.
pub(crate) struct LogTail {
    events: Arc<dyn EventStore>,
    filter: Filter,
    anchors: Anchors,
    peeked: Option<LogBatch>,
    rest: LogBatches,
    /// Not used up yet.
    cursor: Option<Cursor>,
    /// What comes next is of a second read, which began later than the first.
    jumped: bool,
    /// Events that the store looked at.
    pub(crate) visited: u64,
}

impl LogTail {
    /// What comes after a position.
    pub(crate) fn after(
        events: &Arc<dyn EventStore>,
        filter: &Filter,
        anchors: &Anchors,
        position: Position,
    ) -> Self {
        let rest = events.read_all(position, filter.clone(), Follow::ToEnd);
        let (events, filter, anchors) = (events.clone(), filter.clone(), anchors.clone());
        Self { events, filter, anchors, peeked: None, rest, cursor: None, jumped: false, visited: 0 }
    }

    /// From the event at a position on, inclusive.
    pub(crate) fn from(
        events: &Arc<dyn EventStore>,
        filter: &Filter,
        anchors: &Anchors,
        position: Version,
    ) -> Self {
        Self::after(events, filter, anchors, just_before(position))
    }

    /// Lets a cursor save what it can.
    pub(crate) fn with_cursor(mut self, cursor: Option<Cursor>) -> Self {
        self.cursor = cursor;
        self
    }

    /// Whether what comes next was read later than what came before: in between events may have been removed.
    pub(crate) fn has_jumped(&self) -> bool {
        self.jumped
    }

    /// The next event without taking it.
    pub(crate) async fn peek(&mut self) -> Result<Option<&RecordedEvent>> {
        while self.peeked.as_ref().is_none_or(|batch| batch.events.is_empty()) {
            match self.read().await? {
                Some(batch) => self.peeked = Some(batch),
                None => return Ok(None),
            }
        }
        Ok(self.peeked.as_ref().and_then(|batch| batch.events.first()))
    }

    /// The next batch; it may hold no event.
    pub(crate) async fn next(&mut self) -> Result<Option<LogBatch>> {
        let Some(cursor) = self.cursor else { return self.take().await };
        if cursor.last.is_none() {
            // Nothing matches up to there: begin there.
            return match self.jump(&cursor).await? {
                Some(position) => Ok(Some(LogBatch { events: Vec::new(), checked_to: position, visited: 0 })),
                None => self.take().await,
            };
        }
        let Some(mut batch) = self.take().await? else { return Ok(None) };
        let last = batch.events.iter().position(|event| Some(self.anchors.at(event)) == cursor.last);
        if let Some(last) = last {
            let contradicted =
                batch.events.get(last + 1).is_some_and(|event| event.position.0 <= cursor.checked.version.0);
            if contradicted {
                self.cursor = None;
            } else if batch.checked_to.0 < cursor.checked.version.0
                && let Some(position) = self.jump(&cursor).await?
            {
                batch.checked_to = position;
            }
        } else if batch.checked_to.0 >= cursor.checked.version.0 {
            // It was passed without being met.
            self.cursor = None;
        }
        Ok(Some(batch))
    }

    /// Goes on after what a cursor has looked at, if it can be trusted.
    async fn jump(&mut self, cursor: &Cursor) -> Result<Option<Position>> {
        self.cursor = None;
        if !cursor.stands(&*self.events, &self.anchors).await? {
            return Ok(None);
        }
        let position = Position(cursor.checked.version.0);
        self.peeked = None;
        self.rest = self.events.read_all(position, self.filter.clone(), Follow::ToEnd);
        self.jumped = true;
        Ok(Some(position))
    }

    async fn take(&mut self) -> Result<Option<LogBatch>> {
        match self.peeked.take() {
            Some(batch) => Ok(Some(batch)),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Option<LogBatch>> {
        let batch = self.rest.try_next().await?;
        self.visited += batch.as_ref().map_or(0, |batch| batch.visited);
        Ok(batch)
    }
}
