//! A second thread with its own connection: brings the log into the file, so that no append waits for it, watches for what other
//! processes commit while somebody reads live, and notices a file that is taken away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tailfold::{Error, Outcome};
use tokio::sync::watch;

use crate::checkpoint::Checkpoints;
use crate::config::SqliteConfig;
use crate::diagnosis;
use crate::error::Failure;
use crate::presence::{Companions, Presence};
use crate::schema::{self, Role};
use crate::unwritable::Immutable;

/// The name of its thread.
pub(crate) const THREAD: &str = "tailfold-housekeeper";
/// How often it looks whether the file is where it was.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) struct Housekeeper {
    errands: Mutex<Errands>,
    called: Condvar,
    last_frames: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Errands {
    checkpoint: bool,
    stop: bool,
}

impl Housekeeper {
    /// Starts the thread. Every `poll_interval`, while there are live readers, it looks for foreign commits.
    pub(crate) fn start(
        config: SqliteConfig,
        presence: Arc<Presence>,
        commits: Arc<watch::Sender<()>>,
    ) -> Result<Arc<Self>, Error> {
        let housekeeper = Arc::new(Self {
            errands: Mutex::default(),
            called: Condvar::new(),
            last_frames: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let (connection, immutable) = connect(&config)?;
        let companions = companions(&connection, &config, &presence)?;
        let this = housekeeper.clone();
        let rounds = Rounds {
            connection: Some(connection),
            companions,
            immutable,
            seen: None,
            config,
            presence,
            commits,
        };
        let thread = std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || this.run(rounds))
            .map_err(|error| {
                Error::unavailable(Outcome::NotDone, "the housekeeper's thread could not be started")
                    .caused_by(error)
            })?;
        *housekeeper.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(housekeeper)
    }

    pub(crate) fn ask_for_checkpoint(&self) {
        self.errands().checkpoint = true;
        self.called.notify_one();
    }

    /// Whether a checkpoint is done but for the last frames: the writer is to add these between two commits, because
    /// only a log that is in the file as a whole starts over.
    pub(crate) fn wants_last_frames(&self) -> bool {
        self.last_frames.load(Ordering::Relaxed) && self.last_frames.swap(false, Ordering::Relaxed)
    }

    /// Tells it that somebody reads live now.
    pub(crate) fn wake(&self) {
        // The lock orders this after its last look at the number of readers.
        drop(self.errands());
        self.called.notify_one();
    }

    /// Ends the thread after what it is doing.
    pub(crate) fn tell_to_stop(&self) {
        self.errands().stop = true;
        self.called.notify_one();
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(&self) {
        self.tell_to_stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the housekeeper of a store panicked");
        }
    }

    fn run(&self, mut rounds: Rounds) {
        let mut checkpoints = Checkpoints::default();
        let mut was_there = true;
        while let Some(checkpoint) = self.next_errand(&rounds) {
            let here = rounds.look_around();
            if let (Err(error), true) = (&here, was_there) {
                tracing::error!(%error, "the file of a store is not found where it was");
                // Whoever reads live is told by the next read.
                rounds.commits.send_replace(());
            }
            was_there = here.is_ok();
            // What lies there now may be another store's.
            if checkpoint && was_there {
                let done =
                    rounds.on_connection(|connection, config| checkpoints.run(connection, &config.path));
                match done {
                    Some(Ok(true)) => self.last_frames.store(true, Ordering::Relaxed),
                    Some(Ok(false)) | None => {}
                    Some(Err(error)) => {
                        tracing::warn!(%error, "checkpoint failed; the log keeps growing until one succeeds");
                    }
                }
            }
            if was_there && !rounds.config.read_only {
                let cut = rounds.on_connection(|connection, config| checkpoints.shrink(connection, config));
                if let Some(Err(error)) = cut {
                    tracing::warn!(%error, "a long log could not be cut");
                }
            }
            if was_there && rounds.commits.receiver_count() > 0 {
                rounds.look_for_commits();
            }
        }
    }

    /// Waits for something to do; `None` once it is to stop.
    fn next_errand(&self, rounds: &Rounds) -> Option<bool> {
        let mut errands = self.errands();
        if !errands.stop && !errands.checkpoint {
            let pause = match rounds.commits.receiver_count() {
                0 => LOOK,
                _ => rounds.config.poll_interval.min(LOOK),
            };
            errands = self.called.wait_timeout(errands, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        (!errands.stop).then(|| std::mem::take(&mut errands.checkpoint))
    }

    fn errands(&self) -> MutexGuard<'_, Errands> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread needs for its rounds.
struct Rounds {
    /// `None` after one that the file could not be read by.
    connection: Option<Connection>,
    /// What the connection found beside the file, where it is open for writing.
    companions: Option<Companions>,
    /// How the file was, where the connection reads it as one that nobody writes to.
    immutable: Option<Immutable>,
    /// The version of the data that was seen last.
    seen: Option<i64>,
    config: SqliteConfig,
    presence: Arc<Presence>,
    commits: Arc<watch::Sender<()>>,
}

impl Rounds {
    /// Whether everything is where it was.
    fn look_around(&self) -> Result<(), Error> {
        match &self.companions {
            Some(companions) if self.connection.is_some() => {
                self.presence.look_around(companions, Outcome::NotDone)
            }
            _ => self.presence.look(Outcome::NotDone),
        }
    }

    fn look_for_commits(&mut self) {
        // Its connection would never see what somebody writes all the same.
        let changed = |immutable: &Immutable| immutable.check(&self.config.path).is_err();
        if self.immutable.as_ref().is_some_and(changed) {
            self.connection = None;
        }
        let version = self.on_connection(|connection, _| {
            connection.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0))
        });
        match version {
            Some(Ok(version)) => {
                if self.seen.replace(version) != Some(version) {
                    self.commits.send_replace(());
                }
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "looking for commits of other processes failed");
            }
            // Rather once too often than never.
            None => self.commits.send_replace(()),
        }
    }

    /// Does something on the connection, or on a new one after one that the file could not be read by; `None` if there is none.
    fn on_connection<T>(
        &mut self,
        work: impl FnOnce(&Connection, &SqliteConfig) -> rusqlite::Result<T>,
    ) -> Option<rusqlite::Result<T>> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // Versions are told apart on one connection only.
                self.seen = None;
                let connected = connect(&self.config).and_then(|(connection, immutable)| {
                    self.presence.look(Outcome::NotDone)?;
                    let companions = companions(&connection, &self.config, &self.presence)?;
                    Ok((connection, immutable, companions))
                });
                let (connection, immutable, companions) = connected
                    .inspect_err(
                        |error| tracing::warn!(%error, "the housekeeper of a store has no connection"),
                    )
                    .ok()?;
                (self.immutable, self.companions) = (immutable, companions);
                connection
            }
        };
        let done = work(&connection, &self.config);
        if !done.as_ref().is_err_and(diagnosis::is_failure_of_the_file) {
            self.connection = Some(connection);
        }
        Some(done)
    }
}

/// What lies beside the file, as long as the connection is open. Whoever only reads takes what there is.
fn companions(
    connection: &Connection,
    config: &SqliteConfig,
    presence: &Presence,
) -> Result<Option<Companions>, Error> {
    if config.read_only {
        return Ok(None);
    }
    // The first read opens them.
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .map_err(|error| Error::from(Failure::Sqlite(error)))?;
    presence.companions().map(Some)
}

fn connect(config: &SqliteConfig) -> Result<(Connection, Option<Immutable>), Error> {
    let connected = if config.read_only {
        schema::connect_unwriting(config, Role::Housekeeper)
    } else {
        schema::connect(config, Role::Housekeeper).and_then(|connection| {
            schema::set_up_writing(&connection, config)?;
            Ok((connection, None))
        })
    };
    connected.map_err(Failure::into)
}
