//! Long reads, page by page: while the caller works on one, the next is being read. No transaction is held in between.

use std::sync::Arc;

use futures_core::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tailfold::Result;
use tokio::sync::watch;

use crate::error::{self, Failure};
use crate::readers::{Reader, Readers};

/// Most events of a page.
pub(crate) const PAGE_EVENTS: usize = 1000;
/// Bytes of payload after which a page ends.
pub(crate) const PAGE_BYTES: usize = 1 << 20;

/// A read that goes on where it stopped.
pub(crate) trait Cursor: Clone + Send + 'static {
    type Page: Send + 'static;

    /// Reads one page, if there is anything to hand out, and says how it goes on.
    fn next(&mut self, reader: &mut Reader) -> Result<(Option<Self::Page>, After), Failure>;

    /// What the read does, for errors: ``read stream `a/1` ``.
    fn operation(&self) -> String;
}

/// How a read goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    More,
    End,
    /// With what is committed next.
    Wait,
}

type Running<C> = BoxFuture<'static, Result<(C, Option<<C as Cursor>::Page>, After)>>;

enum State<C: Cursor> {
    Running(Running<C>),
    Go(C),
    Wait(C),
    Ended,
}

/// Reads on from a cursor. `commits` wakes a read that waits.
pub(crate) fn read<C: Cursor>(
    readers: Arc<Readers>,
    cursor: C,
    commits: Option<watch::Receiver<()>>,
) -> impl Stream<Item = Result<C::Page>> + Send + 'static {
    read_after(readers, None, Some(cursor), commits)
}

/// Hands out a page that is there already and reads on from a cursor, if there is more.
pub(crate) fn read_after<C: Cursor>(
    readers: Arc<Readers>,
    first: Option<C::Page>,
    cursor: Option<C>,
    mut commits: Option<watch::Receiver<()>>,
) -> impl Stream<Item = Result<C::Page>> + Send + 'static {
    let state = match (cursor, &first) {
        (None, _) => State::Ended,
        // The first page is worked on while the second is read.
        (Some(cursor), Some(_)) => State::Running(start(&readers, cursor, &mut commits)),
        (Some(cursor), None) => State::Go(cursor),
    };
    stream::unfold((state, first, commits), move |(mut state, first, mut commits)| {
        let readers = readers.clone();
        async move {
            if let Some(page) = first {
                return Some((Ok(page), (state, None, commits)));
            }
            loop {
                let running = match state {
                    State::Ended => return None,
                    State::Running(running) => running,
                    State::Go(cursor) => start(&readers, cursor, &mut commits),
                    State::Wait(cursor) => {
                        let woken = match &mut commits {
                            Some(commits) => commits.changed().await.is_ok(),
                            None => false,
                        };
                        if !woken {
                            let error = error::closed().during(cursor.operation());
                            return Some((Err(error), (State::Ended, None, commits)));
                        }
                        start(&readers, cursor, &mut commits)
                    }
                };
                let (cursor, page, after) = match running.await {
                    Ok(read) => read,
                    Err(error) => return Some((Err(error), (State::Ended, None, commits))),
                };
                state = match after {
                    After::More => State::Running(start(&readers, cursor, &mut commits)),
                    After::End => State::Ended,
                    After::Wait => State::Wait(cursor),
                };
                if let Some(page) = page {
                    return Some((Ok(page), (state, None, commits)));
                }
            }
        }
    })
}

fn start<C: Cursor>(
    readers: &Arc<Readers>,
    cursor: C,
    commits: &mut Option<watch::Receiver<()>>,
) -> Running<C> {
    if let Some(commits) = commits {
        // Before the read: what is committed from now on wakes it again.
        commits.borrow_and_update();
    }
    let operation = cursor.operation();
    let running = readers.start(move |reader| {
        // Another attempt begins where this one did.
        let mut cursor = cursor.clone();
        let (page, after) = cursor.next(reader)?;
        Ok((cursor, page, after))
    });
    Box::pin(async move { running.await.map_err(|error| error.during(operation)) })
}
