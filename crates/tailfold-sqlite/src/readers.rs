//! The connections that read. They never wait for the writer, and never on a thread of the async runtime.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tailfold::{Error, Outcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::SqliteConfig;
use crate::diagnosis::{self, Diagnosis};
use crate::error::{self, Failure, Result};
use crate::presence::Presence;
use crate::rows::Names;
use crate::schema::{self, Role};
use crate::unwritable::Immutable;

/// How long a thread that drops a store waits for reads that are under way.
const LONGEST_PAGE: Duration = Duration::from_secs(1);

pub(crate) struct Readers {
    config: SqliteConfig,
    presence: Arc<Presence>,
    diagnosis: Diagnosis,
    idle: Mutex<Vec<Reader>>,
    permits: Arc<Semaphore>,
    visited: Arc<Visited>,
}

/// A connection, and the names that its rows share.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) names: Names,
    pub(crate) visited: Arc<Visited>,
    immutable: Option<Immutable>,
}

/// What reads of the log looked at: counted where a row is stepped to, for tests and benchmarks.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    rows: AtomicU64,
    entries: AtomicU64,
}

impl Visited {
    /// Rows of the log, and entries of indexes.
    pub(crate) fn add(&self, rows: u64, entries: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
    }

    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed))
    }
}

impl Readers {
    pub(crate) fn new(config: SqliteConfig, presence: Arc<Presence>) -> Self {
        let permits = Arc::new(Semaphore::new(config.readers.min(Semaphore::MAX_PERMITS)));
        let (idle, visited) = (Mutex::default(), Arc::default());
        Self { config, presence, diagnosis: Diagnosis::default(), idle, permits, visited }
    }

    /// Fails if the path leads to another file by now.
    pub(crate) fn check_file(&self) -> tailfold::Result<()> {
        self.presence.look(Outcome::NotDone)
    }

    pub(crate) fn visited(&self) -> &Visited {
        &self.visited
    }

    /// Begins a read, at once if a connection is free; the future gives its result. The work is done again, on a new connection, if
    /// the file could not be read.
    pub(crate) fn start<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnMut(&mut Reader) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, tailfold::Result<T>> {
        let this = self.clone();
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => {
                let running = tokio::task::spawn_blocking(move || this.work(permit, work));
                Box::pin(async move { running.await.unwrap_or_else(|error| Err(stopped(error))) })
            }
            Err(_) => Box::pin(async move {
                let permit = this.permits.clone().acquire_owned().await.map_err(|_| error::closed())?;
                let running = tokio::task::spawn_blocking(move || this.work(permit, work));
                running.await.unwrap_or_else(|error| Err(stopped(error)))
            }),
        }
    }

    /// Lets no more reads begin, waits for those that run, and closes the connections.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(self.config.readers).unwrap_or(u32::MAX);
        // An error means that it is closed already.
        let permits = self.permits.acquire_many(all).await;
        self.permits.close();
        drop(permits);
        self.close_idle();
    }

    /// Closes the connections, after the pages that are being read now, as far as they take no longer than a second.
    pub(crate) fn close_after_pages(&self) {
        let begun = Instant::now();
        while self.permits.available_permits() < self.config.readers && begun.elapsed() < LONGEST_PAGE {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.close_idle();
    }

    /// Closes the connections that nobody reads from.
    pub(crate) fn close_idle(&self) {
        self.idle().clear();
    }

    fn work<T>(
        &self,
        permit: OwnedSemaphorePermit,
        mut work: impl FnMut(&mut Reader) -> Result<T>,
    ) -> tailfold::Result<T> {
        let result = self.diagnosis.insist(&self.config.path, "a read of a store's file", || {
            self.attempt(&mut work).inspect_err(|error| {
                if diagnosis::is_about_the_file(error) {
                    // What else was opened over the same file may have met the same.
                    self.close_idle();
                }
            })
        });
        drop(permit);
        result
    }

    fn attempt<T>(&self, work: &mut impl FnMut(&mut Reader) -> Result<T>) -> tailfold::Result<T> {
        self.presence.check()?;
        // The one used last: its cache is warm, and a long read stays on one connection.
        let idle = self.idle().pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => self.connect()?,
        };
        let result = work(&mut reader).map_err(Error::from);
        // What was read is worth nothing if somebody has written to a file that was taken for one that nobody writes to.
        if let Some(immutable) = &reader.immutable {
            immutable.check(&self.config.path)?;
        }
        if !result.as_ref().is_err_and(diagnosis::is_about_the_file) {
            self.idle().push(reader);
        }
        result
    }

    fn connect(&self) -> tailfold::Result<Reader> {
        let connected = if self.config.read_only {
            schema::connect_unwriting(&self.config, Role::Reader)
        } else {
            schema::connect(&self.config, Role::Reader).map(|connection| (connection, None))
        };
        let (connection, immutable) = self.presence.connected(connected)?;
        Ok(Reader { connection, names: Names::default(), visited: self.visited.clone(), immutable })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Several statements over one state of the store.
    pub(crate) fn consistent<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.connection.prepare_cached("BEGIN")?.raw_execute()?;
        let result = work(self);
        let ended = self.connection.prepare_cached("COMMIT")?.raw_execute();
        if ended.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        let value = result?;
        ended?;
        Ok(value)
    }
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Failure::Refused(Error::unavailable(Outcome::NotDone, "the read was stopped").caused_by(error)).into()
}
