//! The one thread of a handle that writes: all that is queued shares one transaction and its sync.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rusqlite::{Connection, Statement};
use tailfold::{Error, Outcome, Result, StoreId};
use tokio::sync::watch;

use crate::checkpoint::CHECKPOINT_FRAMES;
use crate::config::SqliteConfig;
use crate::diagnosis::{self, Diagnosis};
use crate::error::{self, Failure};
use crate::housekeeper::Housekeeper;
use crate::ledger::Ledger;
use crate::presence::Presence;
use crate::queue::{self, GroupLimits, Queue, Request};
use crate::schema::{self, Role};

/// Bytes after which a group is full.
const GROUP_BYTES: usize = 16 << 20;
/// Bytes of snapshots that travel with a group of appends: what an append may have to wait for.
const BACKGROUND_BYTES: usize = 128 << 10;
/// The name of its thread.
pub(crate) const THREAD: &str = "tailfold-writer";

pub(crate) struct Writer {
    pub(crate) id: StoreId,
    pub(crate) config: SqliteConfig,
    pub(crate) queue: Arc<Queue>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) housekeeper: Arc<Housekeeper>,
    pub(crate) commits: Arc<watch::Sender<()>>,
    pub(crate) diagnosis: Diagnosis,
    /// The next position as of the last commit, over whatever connection.
    pub(crate) committed_next: Cell<i64>,
}

type Group = Vec<Box<dyn Request>>;
type Chores = Vec<Box<dyn queue::Chore>>;

impl Writer {
    /// Starts the thread; it ends when the queue is closed and all of it is done.
    pub(crate) fn start(self, connection: Connection) -> Result<JoinHandle<()>> {
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || self.run(connection)).map_err(
            |error| {
                Error::unavailable(Outcome::NotDone, "the writer's thread could not be started")
                    .caused_by(error)
            },
        )
    }

    fn run(self, connection: Connection) {
        let abandon = AbandonOnDrop(&self.queue);
        let connection = self.work(connection);
        drop(abandon);
        self.housekeeper.stop();
        let Some(connection) = connection else { return };
        if let Err(error) = self.presence.look(Outcome::NotDone) {
            // Another file may have its log by that name.
            return tracing::warn!(%error, "the log of a store was not brought into its file on close");
        }
        // Others may still read; then the log stays for the next who opens the store.
        let left = connection
            .busy_timeout(std::time::Duration::from_millis(100))
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        if let Err(error) = left {
            tracing::warn!(%error, "the log of a store could not be brought into its file on close");
        }
    }

    /// Serves the queue until it is closed, on a new connection after one that the file could not be read by; the last one. What was
    /// not committed then is tried again, and answered with the error after some attempts.
    fn work(&self, connection: Connection) -> Option<Connection> {
        let (mut connection, mut group, mut chores, mut attempt) =
            (Some(connection), Group::new(), Chores::new(), 1);
        loop {
            let served = match connection.take().map_or_else(|| self.connect(), Ok) {
                Ok(mut connection) => {
                    match self.serve(&mut connection, &mut group, &mut chores, &mut attempt) {
                        Ok(()) => return Some(connection),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let is_all_answered = group.is_empty() && chores.is_empty();
            if !is_all_answered && attempt < diagnosis::ATTEMPTS {
                tracing::warn!(error = %served, attempt, "a write to a store failed; another connection tries it again");
                attempt += 1;
                continue;
            }
            attempt = 1;
            if !is_all_answered {
                let error = self.diagnosis.of(&self.config.path, served);
                if group.is_empty() {
                    chores.drain(..).for_each(|chore| chore.settle(Err(error.clone())));
                }
                group.drain(..).for_each(|request| request.settle(Err(error.clone())));
                // What came with them may be what mends the file.
                if !chores.is_empty() {
                    continue;
                }
            }
            // There is no need of a connection before somebody asks for something.
            if !self.queue.take(self.limits(), &mut group, &mut chores) {
                return None;
            }
        }
    }

    fn connect(&self) -> Result<Connection> {
        let connected = schema::connect(&self.config, Role::Writer)
            .and_then(|connection| schema::set_up_writing(&connection, &self.config).map(|()| connection));
        self.presence.connected(connected)
    }

    fn limits(&self) -> GroupLimits {
        GroupLimits {
            requests: self.config.group_limit,
            bytes: GROUP_BYTES,
            background_bytes: BACKGROUND_BYTES,
        }
    }

    /// Serves the queue over one connection until it is closed, first what is left in the group. An error is one that the connection
    /// is not to be used after; the group holds what has no answer yet.
    fn serve(
        &self,
        connection: &mut Connection,
        group: &mut Group,
        chores: &mut Chores,
        attempt: &mut u32,
    ) -> Result<()> {
        let frames = Arc::new(AtomicU32::new(0));
        let seen = frames.clone();
        let failed = |error: rusqlite::Error| Error::from(Failure::Sqlite(error));
        connection
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, frames: std::ffi::c_int| {
                seen.store(u32::try_from(frames).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(failed)?;
        let connection: &Connection = connection;
        let mut transactions = Transactions::new(connection).map_err(failed)?;
        let mut ledger = Ledger::new(connection, self.id, &self.committed_next).map_err(failed)?;
        let mut growth = Growth { next: CHECKPOINT_FRAMES, last_frames: 0 };
        while !(group.is_empty() && chores.is_empty()) || self.queue.take(self.limits(), group, chores) {
            if !group.is_empty() {
                self.commit_group(&mut transactions, &mut ledger, group, attempt)?;
                *attempt = 1;
            }
            self.do_chores(connection, chores, attempt)?;
            *attempt = 1;
            if growth.is_due(frames.load(Ordering::Relaxed)) {
                self.housekeeper.ask_for_checkpoint();
            }
            if self.housekeeper.wants_last_frames() {
                // A few frames; then the log starts over with the next commit.
                transactions.checkpoint();
            }
        }
        Ok(())
    }

    /// All in one transaction; if one request breaks it, each in its own. An error is one that the connection is not to be used after;
    /// the group holds what has no answer yet.
    fn commit_group(
        &self,
        transactions: &mut Transactions<'_>,
        ledger: &mut Ledger<'_>,
        group: &mut Group,
        attempt: &mut u32,
    ) -> Result<()> {
        match self.commit_together(transactions, ledger, group.iter_mut().map(Box::as_mut)) {
            Fate::Settled(fate) => {
                let distrust =
                    fate.as_ref().err().filter(|error| diagnosis::is_about_the_file(error)).cloned();
                group.drain(..).for_each(|request| request.settle(fate.clone()));
                return distrust.map_or(Ok(()), Err);
            }
            // On the last attempt each is tried alone, so that a damaged page fails those alone that need it.
            Fate::Broken(error)
                if diagnosis::is_about_the_file(&error)
                    && (group.len() == 1 || *attempt < diagnosis::ATTEMPTS) =>
            {
                return Err(error);
            }
            Fate::Broken(error) if group.len() == 1 => {
                group.drain(..).for_each(|request| request.settle(Err(error.clone())));
                return Ok(());
            }
            Fate::Broken(_) => {}
        }
        let mut left = std::mem::take(group).into_iter();
        while let Some(mut request) = left.next() {
            let alone = std::iter::once(request.as_mut());
            let error = match self.commit_together(transactions, ledger, alone) {
                Fate::Settled(Ok(())) => {
                    request.settle(Ok(()));
                    continue;
                }
                Fate::Broken(error)
                    if diagnosis::is_about_the_file(&error) && *attempt < diagnosis::ATTEMPTS =>
                {
                    group.push(request);
                    group.extend(left);
                    return Err(error);
                }
                Fate::Settled(Err(error)) | Fate::Broken(error) => error,
            };
            if !diagnosis::is_about_the_file(&error) {
                request.settle(Err(error));
                continue;
            }
            request.settle(Err(self.diagnosis.of(&self.config.path, error.clone())));
            group.extend(left);
            // The others have all their attempts, on another connection.
            *attempt = 0;
            return Err(error);
        }
        Ok(())
    }

    /// An error is one that the connection is not to be used after; what is left has no answer yet.
    fn do_chores(&self, connection: &Connection, chores: &mut Chores, attempt: &mut u32) -> Result<()> {
        let mut left = std::mem::take(chores).into_iter();
        while let Some(mut chore) = left.next() {
            if let Err(gone) = self.presence.check() {
                chore.settle(Err(gone));
                continue;
            }
            let Err(error) = chore.attempt(connection) else {
                chore.settle(Ok(()));
                continue;
            };
            if *attempt < diagnosis::ATTEMPTS {
                chores.push(chore);
            } else {
                chore.settle(Err(self.diagnosis.of(&self.config.path, error.clone())));
                // The others have all their attempts, on another connection.
                *attempt = 0;
            }
            chores.extend(left);
            return Err(error);
        }
        Ok(())
    }

    fn commit_together<'r>(
        &self,
        transactions: &mut Transactions<'_>,
        ledger: &mut Ledger<'_>,
        requests: impl Iterator<Item = &'r mut (dyn Request + 'static)>,
    ) -> Fate {
        if let Err(error) = self.presence.check() {
            return Fate::Settled(Err(error));
        }
        let begun = transactions.begin().map_err(Failure::Sqlite).and_then(|()| ledger.begin());
        if let Err(error) = begun.map_err(Error::from) {
            transactions.roll_back();
            ledger.roll_back();
            let is_about_the_file = diagnosis::is_about_the_file(&error);
            return if is_about_the_file { Fate::Broken(error) } else { Fate::Settled(Err(error)) };
        }
        for request in requests {
            if let Err(error) = request.attempt(ledger) {
                transactions.roll_back();
                ledger.roll_back();
                return Fate::Broken(error);
            }
        }
        if let Err(error) = ledger.advance_tags() {
            transactions.roll_back();
            ledger.roll_back();
            return Fate::Broken(error.into());
        }
        match transactions.commit() {
            Ok(()) => {
                // A commit to a file that nobody finds any more is not acknowledged.
                if let Err(error) = self.presence.look(Outcome::Unknown) {
                    ledger.roll_back();
                    return Fate::Settled(Err(error));
                }
                ledger.committed();
                self.commits.send_replace(());
                Fate::Settled(Ok(()))
            }
            Err(error) => {
                transactions.roll_back();
                ledger.roll_back();
                let error = error::of_commit(error);
                if error.is_outcome_unknown() { Fate::Settled(Err(error)) } else { Fate::Broken(error) }
            }
        }
    }
}

/// What became of a transaction.
enum Fate {
    /// The same for all its requests.
    Settled(Result<()>),
    /// Rolled back because of one of them, or because all of them were too much.
    Broken(Error),
}

struct Transactions<'c> {
    connection: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    checkpoint: Statement<'c>,
}

impl<'c> Transactions<'c> {
    fn new(connection: &'c Connection) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            connection,
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            checkpoint: connection.prepare("PRAGMA wal_checkpoint(PASSIVE)")?,
        })
    }

    fn begin(&mut self) -> Result<(), rusqlite::Error> {
        self.begin.raw_execute().map(drop)
    }

    fn commit(&mut self) -> Result<(), rusqlite::Error> {
        self.commit.raw_execute().map(drop)
    }

    /// SQLite rolls some failures back by itself.
    fn roll_back(&self) {
        if self.connection.is_autocommit() {
            return;
        }
        if let Err(error) = self.connection.execute_batch("ROLLBACK") {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    fn checkpoint(&mut self) {
        if let Err(error) = self.checkpoint.query_row([], |_| Ok(())) {
            tracing::warn!(%error, "checkpoint failed; the log keeps growing until one succeeds");
        }
    }
}

/// When to ask for a checkpoint: each time the log has grown by so many frames. It starts over once all of it is in the
/// file and no reader needs it.
struct Growth {
    next: u32,
    last_frames: u32,
}

impl Growth {
    fn is_due(&mut self, frames: u32) -> bool {
        if frames < self.last_frames {
            self.next = CHECKPOINT_FRAMES;
        }
        self.last_frames = frames;
        let due = frames >= self.next;
        if due {
            self.next = frames + CHECKPOINT_FRAMES;
        }
        due
    }
}

/// However the thread ends, nobody may wait for it.
struct AbandonOnDrop<'q>(&'q Queue);

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
