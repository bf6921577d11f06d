//! The one thread of a handle that writes: all that is queued shares one transaction and its sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rusqlite::{Connection, Statement};
use tailfold::{Error, Outcome, Result, StoreId};
use tokio::sync::watch;

use crate::config::SqliteConfig;
use crate::error::{self, Failure};
use crate::housekeeper::Housekeeper;
use crate::ledger::Ledger;
use crate::queue::{GroupLimits, Queue, Request};

/// The name of its thread.
pub(crate) const THREAD: &str = "tailfold-writer";
/// Bytes after which a group is full.
const GROUP_BYTES: usize = 16 << 20;
/// Bytes of snapshots that travel with a group of appends: what an append may have to wait for.
const BACKGROUND_BYTES: usize = 128 << 10;
/// Frames (pages) in the log after which it is brought into the file: 64 MiB.
const CHECKPOINT_FRAMES: u32 = 16_000;

pub(crate) struct Writer {
    id: StoreId,
    pub(crate) queue: Arc<Queue>,
    pub(crate) housekeeper: Arc<Housekeeper>,
    pub(crate) commits: Arc<watch::Sender<()>>,
    frames: Arc<AtomicU32>,
    limits: GroupLimits,
}

impl Writer {
    /// Starts the thread; it ends when the queue is closed and all of it is done.
    pub(crate) fn start(
        mut connection: Connection,
        id: StoreId,
        config: &SqliteConfig,
        queue: Arc<Queue>,
        housekeeper: Arc<Housekeeper>,
        commits: Arc<watch::Sender<()>>,
    ) -> Result<JoinHandle<()>, Failure> {
        let frames = Arc::new(AtomicU32::new(0));
        let seen = frames.clone();
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, frames: std::ffi::c_int| {
            seen.store(u32::try_from(frames).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let limits = GroupLimits {
            requests: config.group_limit,
            bytes: GROUP_BYTES,
            background_bytes: BACKGROUND_BYTES,
        };
        let writer = Self { id, queue, housekeeper, commits, frames, limits };
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || writer.run(connection)).map_err(
            |error| {
                Error::unavailable(Outcome::NotDone, "the writer's thread could not be started")
                    .caused_by(error)
                    .into()
            },
        )
    }

    fn run(self, connection: Connection) {
        let abandon = AbandonOnDrop(&self.queue);
        if let Err(error) = self.serve(&connection) {
            tracing::error!(%error, "the writer of a store stopped");
        }
        drop(abandon);
        self.housekeeper.stop();
        // Others may still read; then the log stays for the next who opens the store.
        let left = connection
            .busy_timeout(std::time::Duration::from_millis(100))
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        if let Err(error) = left {
            tracing::warn!(%error, "the log of a store could not be brought into its file on close");
        }
    }

    fn serve(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let mut transactions = Transactions::new(connection)?;
        let mut ledger = Ledger::new(connection, self.id)?;
        let (mut group, mut chores) = (Vec::new(), Vec::new());
        let mut checkpoints = Checkpoints { next: CHECKPOINT_FRAMES, last_frames: 0 };
        while self.queue.take(self.limits, &mut group, &mut chores) {
            if !group.is_empty() {
                self.commit_group(&mut transactions, &mut ledger, &mut group);
            }
            chores.drain(..).for_each(|chore| chore(connection));
            let frames = self.frames.load(Ordering::Relaxed);
            if checkpoints.is_due(frames) {
                self.housekeeper.ask_for_checkpoint();
            }
            if self.housekeeper.wants_last_frames() {
                // A few frames; then the log starts over with the next commit.
                transactions.checkpoint()?;
            }
        }
        Ok(())
    }

    /// All in one transaction; if one request breaks it, each in its own.
    fn commit_group(
        &self,
        transactions: &mut Transactions<'_>,
        ledger: &mut Ledger<'_>,
        group: &mut Vec<Box<dyn Request>>,
    ) {
        let fate = self.commit_together(transactions, ledger, group.iter_mut().map(Box::as_mut));
        match fate {
            Fate::Settled(fate) => group.drain(..).for_each(|request| request.settle(fate.clone())),
            Fate::Broken(error) if group.len() == 1 => {
                group.drain(..).for_each(|request| request.settle(Err(error.clone())));
            }
            Fate::Broken(_) => {
                for mut request in group.drain(..) {
                    let fate = self.commit_together(transactions, ledger, std::iter::once(request.as_mut()));
                    let (Fate::Settled(Err(error)) | Fate::Broken(error)) = fate else {
                        request.settle(Ok(()));
                        continue;
                    };
                    request.settle(Err(error));
                }
            }
        }
    }

    fn commit_together<'r>(
        &self,
        transactions: &mut Transactions<'_>,
        ledger: &mut Ledger<'_>,
        requests: impl Iterator<Item = &'r mut (dyn Request + 'static)>,
    ) -> Fate {
        let begun = transactions.begin().map_err(Failure::Sqlite).and_then(|()| ledger.begin());
        if let Err(error) = begun {
            transactions.roll_back();
            ledger.roll_back();
            return Fate::Settled(Err(error.into()));
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

    fn checkpoint(&mut self) -> Result<(), rusqlite::Error> {
        match self.checkpoint.query_row([], |_| Ok(())) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "checkpoint failed; the log keeps growing until one succeeds");
                Ok(())
            }
        }
    }
}

/// When to ask for a checkpoint: each time the log has grown by so many frames. It starts over once all of it is in the
/// file and no reader needs it.
struct Checkpoints {
    next: u32,
    last_frames: u32,
}

impl Checkpoints {
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
