//! What waits for the writer: bounded, appends before snapshots.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tailfold::{Error, Outcome, Result};
use tokio::sync::{Semaphore, oneshot};

use crate::diagnosis;
use crate::error::{self, Failure};
use crate::ledger::Ledger;

/// One request to the writer. It may be attempted twice: in a group, and alone if the group had to be rolled back.
pub(crate) trait Request: Send {
    /// Does the work within the writer's transaction. An error means that the transaction must be rolled back.
    fn attempt(&mut self, ledger: &mut Ledger<'_>) -> Result<()>;

    /// Answers the caller, once the fate of the transaction is known.
    fn settle(self: Box<Self>, fate: Result<()>);

    /// About how many bytes it writes.
    fn weight(&self) -> usize;
}

/// Something that the writer does between two transactions, because it cannot be done in one. It may be attempted again, on
/// another connection.
pub(crate) trait Chore: Send {
    /// Does it. An error is one that the connection is not to be used after.
    fn attempt(&mut self, connection: &Connection) -> Result<()>;

    /// Answers the caller: with what the last attempt has given, or with an error.
    fn settle(self: Box<Self>, fate: Result<()>);
}

/// Which requests go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A command waits for it.
    Command,
    /// Housekeeping of snapshots: nobody's command waits.
    Background,
}

/// How much the writer takes at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
    /// Bytes of background requests in a group that carries commands; one is always taken.
    pub(crate) background_bytes: usize,
}

pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    room: Semaphore,
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Box<dyn Request>>,
    background: VecDeque<Box<dyn Request>>,
    chores: Vec<Box<dyn Chore>>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            room: Semaphore::new(limit.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// Has the writer do something and waits for the answer. A caller that stops waiting changes nothing: what is
    /// queued happens as a whole or not at all.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        urgency: Urgency,
        weight: usize,
        work: impl FnMut(&mut Ledger<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let room = self.room.acquire().await.map_err(|_| error::closed())?;
        let (reply, answer) = oneshot::channel();
        self.push(urgency, Box::new(Asked { work, weight, answer: None, reply }))?;
        // The writer gives the room back.
        room.forget();
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Has the writer do something after what was queued before, outside of any transaction, and waits for the answer. It is
    /// done again, on another connection, where the file could not be read.
    pub(crate) async fn between<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.push_chore(Box::new(Between { work, answer: None, reply }))?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn push_chore(&self, chore: Box<dyn Chore>) -> Result<()> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(error::closed());
        }
        waiting.chores.push(chore);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    fn push(&self, urgency: Urgency, request: Box<dyn Request>) -> Result<()> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(error::closed());
        }
        match urgency {
            Urgency::Command => waiting.commands.push_back(request),
            Urgency::Background => waiting.background.push_back(request),
        }
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for something to do, moves the next group of requests to `group` and all chores to `chores`; false once the
    /// queue is closed and empty.
    pub(crate) fn take(
        &self,
        limits: GroupLimits,
        group: &mut Vec<Box<dyn Request>>,
        chores: &mut Vec<Box<dyn Chore>>,
    ) -> bool {
        let mut waiting = self.lock();
        while waiting.commands.is_empty() && waiting.background.is_empty() && waiting.chores.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let mut bytes = 0;
        while group.len() < limits.requests && bytes < limits.bytes {
            let Some(request) = waiting.commands.pop_front() else { break };
            bytes += request.weight();
            group.push(request);
        }
        let mut bytes = 0;
        while bytes < limits.background_bytes {
            let Some(request) = waiting.background.pop_front() else { break };
            bytes += request.weight();
            group.push(request);
        }
        chores.append(&mut waiting.chores);
        drop(waiting);
        self.room.add_permits(group.len());
        true
    }

    /// Lets no more in; what waits is still done.
    pub(crate) fn close(&self) {
        self.room.close();
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Lets no more in and drops what waits, so that nobody waits for a writer that is gone.
    pub(crate) fn abandon(&self) {
        self.close();
        let left = std::mem::take(&mut *self.lock());
        self.lock().closed = true;
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopped() -> Error {
    Error::unavailable(Outcome::Unknown, "the store's writer stopped before it answered")
}

struct Asked<T, W> {
    work: W,
    weight: usize,
    answer: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, W> Request for Asked<T, W>
where
    T: Send,
    W: FnMut(&mut Ledger<'_>) -> Result<T, Failure> + Send,
{
    fn attempt(&mut self, ledger: &mut Ledger<'_>) -> Result<()> {
        let changes_before = ledger.changes();
        self.answer = Some(match (self.work)(ledger) {
            Ok(answer) => Ok(answer),
            // Checks precede writes, so a refusal leaves the transaction as it was.
            Err(Failure::Refused(error)) if ledger.changes() == changes_before => Err(error),
            Err(failure) => return Err(failure.into()),
        });
        Ok(())
    }

    fn settle(self: Box<Self>, fate: Result<()>) {
        answer(self.reply, fate, self.answer);
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

struct Between<T, W> {
    work: W,
    answer: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, W> Chore for Between<T, W>
where
    T: Send,
    W: FnMut(&Connection) -> Result<T, Failure> + Send,
{
    fn attempt(&mut self, connection: &Connection) -> Result<()> {
        let answer = (self.work)(connection).map_err(Error::from);
        let distrust = answer.as_ref().err().filter(|error| diagnosis::is_about_the_file(error)).cloned();
        self.answer = Some(answer);
        distrust.map_or(Ok(()), Err)
    }

    fn settle(self: Box<Self>, fate: Result<()>) {
        answer(self.reply, fate, self.answer);
    }
}

/// Tells a caller what became of its work.
fn answer<T>(reply: oneshot::Sender<Result<T>>, fate: Result<()>, answer: Option<Result<T>>) {
    let answer = match (fate, answer) {
        (Err(error), _) => Err(error),
        (Ok(()), Some(answer)) => answer,
        (Ok(()), None) => Err(Error::unavailable(Outcome::NotDone, "the writer never tried")),
    };
    // A caller that is gone does not want the answer.
    drop(reply.send(answer));
}
