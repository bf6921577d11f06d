//! The handle, and what it holds together.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tailfold::{Error, Outcome, Result, StoreId};
use tokio::sync::watch;

use crate::config::SqliteConfig;
use crate::diagnosis::Diagnosis;
use crate::erased_log;
use crate::error::{self, Failure};
use crate::housekeeper::{self, Housekeeper};
use crate::ledger::Ledger;
use crate::path;
use crate::presence::Presence;
use crate::queue::{Queue, Urgency};
use crate::readers::Readers;
use crate::schema::{self, Role};
use crate::writer::{self, Writer};

/// Events and snapshots in one SQLite file. Cloning is cheap; clones share everything.
///
/// An append returns once it is on disk (see [`Synchronous`](crate::Synchronous)); appends that wait at the same time
/// share one sync. Reads neither wait for writes nor block the async runtime. Several processes may open the same file.
///
/// What is erased, cut off by a truncation or forgotten is overwritten in the file and taken out of the `-wal` file beside it
/// before the call returns. For the latter it waits for reads that may still need the log, at most for the
/// [busy timeout](crate::SqliteConfig::busy_timeout); where one goes on for longer (a backup by another process, say), that is
/// told in a warning, and it is done as soon as that has ended, or by [`close`](SqliteStore::close). Backups keep what they had.
///
/// Where SQLite has split or merged pages before, because something else was added or removed, it may have left a copy of what it
/// moved in an unused part of a page, which nothing overwrites at once: of a tag, and seldom of a small event.
/// [`reindex`](SqliteStore::reindex) writes the whole file anew, without any. A copy by [`backup_to`](SqliteStore::backup_to) has
/// none either.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> tailfold::Result<()> {
/// use tailfold::{Commit, EventData, EventStore, EventType, Expected, NewEvent};
/// use tailfold_sqlite::SqliteStore;
///
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("bank.tailfold");
/// let store = SqliteStore::open(&path).await?;
/// let event = NewEvent::new(EventData::new(EventType::new("account.opened")?, r#"{"owner":"ada"}"#))?;
/// let receipt = store.append(Commit::new("account/1".parse()?, Expected::NoStream, vec![event])).await?;
/// assert_eq!(store.head(&"account/1".parse()?).await?, Some(receipt.writes[0].head));
/// store.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    id: StoreId,
    busy_timeout: Duration,
    readers: Arc<Readers>,
    /// `None` if the store is open for reading only.
    queue: Option<Arc<Queue>>,
    housekeeper: Arc<Housekeeper>,
    commits: Arc<watch::Sender<()>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the store at `path`, which is created if it is missing, with the defaults of [`SqliteConfig`].
    ///
    /// # Errors
    /// As [`SqliteConfig::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        SqliteConfig::new(path).open().await
    }

    pub(crate) async fn open_with(config: SqliteConfig) -> Result<Self> {
        let path = config.path.clone();
        let opening = tokio::task::spawn_blocking(move || Shared::open(config));
        match opening.await {
            Ok(shared) => {
                Ok(Self { shared: Arc::new(shared.map_err(|error| error.during(error::opening(&path)))?) })
            }
            Err(stopped) => Err(Error::unavailable(Outcome::NotDone, "opening was stopped")
                .caused_by(stopped)
                .during(error::opening(&path))),
        }
    }

    /// Where the file is: the absolute path.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Finishes what is queued, brings the log into the file and closes it: all of the store is in the one file then, unless another
    /// process has it open. Whatever is asked of the store afterwards, by any clone, is `Unavailable`.
    ///
    /// Whoever opened the store closes it, after the repositories and subscriptions over it, which leave it open. Dropping the last
    /// clone does the same, and blocks its thread meanwhile.
    ///
    /// # Errors
    /// `Unavailable` if the writer had died.
    pub async fn close(&self) -> Result<()> {
        if let Some(queue) = &self.shared.queue {
            queue.close();
        }
        self.shared.readers.close().await;
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let housekeeper = self.shared.housekeeper.clone();
        let ended = tokio::task::spawn_blocking(move || {
            let ended = writer.map_or(Ok(()), JoinHandle::join);
            housekeeper.stop();
            ended.is_ok()
        });
        match ended.await {
            Ok(true) => Ok(()),
            _ => Err(Error::unavailable(Outcome::Unknown, "the writer died before the store was closed")
                .during(format!("close store `{}`", self.shared.path.display()))),
        }
    }

    /// Rows of the log that `read_all` has looked at over this handle, and entries of indexes: for tests and benchmarks.
    #[doc(hidden)]
    pub fn visited(&self) -> (u64, u64) {
        self.shared.readers.visited().so_far()
    }

    /// Has the writer do something that cannot be done in a transaction, and that may be done again.
    pub(crate) async fn between<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        match &self.shared.queue {
            Some(queue) => queue.between(work).await,
            None => Err(Error::unsupported("the store is open for reading only")),
        }
    }

    /// Takes what was removed out of the write-ahead log, too; never fails, since it was removed. Waits for readers that may
    /// need the log, within the busy timeout; where one is still in the way then, a task goes on trying.
    pub(crate) async fn clear_log(&self) {
        let Some(queue) = &self.shared.queue else { return };
        let path = self.shared.path.display();
        match erased_log::clear(queue, self.shared.busy_timeout).await {
            Ok(true) => return,
            Ok(false) => tracing::warn!(
                %path,
                "what was erased stays in the store's log until a reader that is in the way has ended, or the store is closed"
            ),
            Err(error) => tracing::warn!(
                %path, %error,
                "what was erased could not be taken out of the store's log yet, and is as soon as that can be done"
            ),
        }
        tokio::spawn(erased_log::keep_clearing(Arc::downgrade(queue)));
    }

    pub(crate) fn id(&self) -> StoreId {
        self.shared.id
    }

    pub(crate) fn readers(&self) -> &Arc<Readers> {
        &self.shared.readers
    }

    /// Told of each commit from now on, by whatever process.
    pub(crate) fn watch_commits(&self) -> watch::Receiver<()> {
        let commits = self.shared.commits.subscribe();
        self.shared.housekeeper.wake();
        commits
    }

    /// Has the writer do something; `operation` names it in errors.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> String + Send,
        urgency: Urgency,
        weight: usize,
        work: impl FnMut(&mut Ledger<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let Some(queue) = &self.shared.queue else {
            return Err(Error::unsupported("the store is open for reading only").during(operation()));
        };
        queue.ask(urgency, weight, work).await.map_err(|error| error.during(operation()))
    }
}

/// Does something to its end, also if nobody waits for that any more: what was erased does not stay in the log because somebody
/// was in a hurry.
pub(crate) async fn finished<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(stopped) => {
            Err(Error::unavailable(Outcome::Unknown, "the runtime was shut down").caused_by(stopped))
        }
    }
}

impl Shared {
    fn open(mut config: SqliteConfig) -> Result<Self, Error> {
        config.path = path::absolute(&config.path)?;
        Diagnosis::default().insist(&config.path, "opening a store", || Self::opened(&config))
    }

    fn opened(config: &SqliteConfig) -> Result<Self, Error> {
        let failed = |failure: Failure| error::of_file(failure);
        path::check(&config.path, config.read_only || !config.create_if_missing)?;
        let mut connection = schema::connect(config, Role::Writer).map_err(failed)?;
        let id = schema::prepare(&mut connection, config).map_err(failed)?;
        let presence = Arc::new(Presence::of(&connection, &config.path)?);
        let readers = Arc::new(Readers::new(config.clone(), presence.clone()));
        let commits = Arc::new(watch::Sender::new(()));
        if !config.read_only {
            schema::set_up_writing(&connection, config).map_err(failed)?;
        }
        let housekeeper = Housekeeper::start(config.clone(), presence.clone(), commits.clone())?;
        let mut shared = Self {
            path: config.path.clone(),
            id,
            busy_timeout: config.busy_timeout,
            readers,
            queue: None,
            housekeeper,
            commits,
            writer: Mutex::default(),
        };
        if !config.read_only {
            let queue = Arc::new(Queue::new(config.queue_limit));
            let (housekeeper, commits) = (shared.housekeeper.clone(), shared.commits.clone());
            let writer = Writer {
                id,
                config: config.clone(),
                queue: queue.clone(),
                presence,
                housekeeper,
                commits,
                diagnosis: Diagnosis::default(),
                committed_next: Cell::new(0),
            };
            let writer = writer.start(connection)?;
            shared.queue = Some(queue);
            shared.writer = Mutex::new(Some(writer));
        }
        Ok(shared)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The writer brings the log into the file and removes it, if its connection is the last.
        self.readers.close_after_pages();
        let Some(queue) = &self.queue else {
            self.housekeeper.tell_to_stop();
            return;
        };
        queue.close();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // Whatever drops the last clone on a thread of a store's own, it cannot wait for such a thread.
        if matches!(std::thread::current().name(), Some(writer::THREAD | housekeeper::THREAD)) {
            return;
        }
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(path = %self.path.display(), "the writer of a store panicked");
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
