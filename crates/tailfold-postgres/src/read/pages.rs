//! Handing out pages while the next ones are read.

use std::collections::VecDeque;

use futures_util::stream::{self, StreamExt as _};
use tailfold::{Error, EventBatches, Outcome, RecordedEvent, Result};
use tokio::task::JoinHandle;

use super::{Page, Reading};

/// Hands out a page that is there already, then the rest. The caller works on one page while the next ones are read.
pub(super) fn batches(first: Vec<RecordedEvent>, rest: Option<Reading>) -> EventBatches {
    let pages = Pages { begun: VecDeque::new(), rest };
    stream::try_unfold((first, pages), |(ready, mut pages)| async move {
        let events = if ready.is_empty() { pages.next().await? } else { ready };
        if events.is_empty() {
            return Ok(None);
        }
        pages.begin();
        Ok(Some((events, (Vec::new(), pages))))
    })
    .boxed()
}

/// Pages that are being read at the same time: the server has the next one to do while one is on its way.
const AHEAD: usize = 2;

struct Pages {
    begun: VecDeque<Next>,
    /// What nobody has begun with.
    rest: Option<Reading>,
}

impl Pages {
    /// The next events; none at the end.
    async fn next(&mut self) -> Result<Vec<RecordedEvent>> {
        loop {
            let next = match (self.begun.pop_front(), self.rest.take()) {
                (Some(next), rest) => {
                    self.rest = rest;
                    next
                }
                (None, Some(reading)) => Next::Later(reading),
                (None, None) => return Ok(Vec::new()),
            };
            let (events, rest) = next.finish().await?;
            match rest {
                // A page ends where its events have become large, and before what it has left.
                Some(rest) if self.begun.is_empty() && self.rest.is_none() => self.rest = Some(rest),
                Some(rest) => self.begun.push_front(Next::Later(rest)),
                None => {}
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Begins with what comes next.
    fn begin(&mut self) {
        while self.begun.len() < AHEAD
            && let Some(reading) = self.rest.take()
        {
            let (page, rest) = reading.split();
            self.begun.push_back(Next::Later(page));
            self.rest = rest;
        }
        let begun = self.begun.drain(..).map(Next::begin).collect();
        self.begun = begun;
    }
}

/// The next page.
enum Next {
    /// Nobody has asked for it.
    Later(Reading),
    /// It is being read. Dropping it stops that.
    Running(Running),
}

struct Running(JoinHandle<Result<Page>>);

impl Next {
    fn begin(self) -> Self {
        match self {
            Self::Later(reading) => Self::Running(Running(tokio::spawn(reading.page()))),
            running => running,
        }
    }

    async fn finish(self) -> Result<Page> {
        match self {
            Self::Later(reading) => reading.page().await,
            Self::Running(mut running) => (&mut running.0).await.map_err(|error| {
                Error::unavailable(Outcome::NotDone, "the read was stopped").caused_by(error)
            })?,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
