//! A second thread with its own connection: brings the log into the file, so that no append waits for it, and watches
//! for what other processes commit while somebody reads live.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tailfold::{Error, Outcome};
use tokio::sync::watch;

use crate::error::Failure;

/// The name of its thread.
pub(crate) const THREAD: &str = "tailfold-housekeeper";
/// A checkpoint is repeated while the writer runs ahead of it, until this few frames (pages) are left.
const LAST_FRAMES: i64 = 256;
const MOST_PASSES: usize = 6;
/// From here on (512 MiB) a short log is worth more than an append that does not wait.
const MOST_FRAMES: i64 = 128 << 10;

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
        connection: Connection,
        poll_interval: Duration,
        commits: Arc<watch::Sender<()>>,
    ) -> Result<Arc<Self>, Failure> {
        let housekeeper = Arc::new(Self {
            errands: Mutex::default(),
            called: Condvar::new(),
            last_frames: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let this = housekeeper.clone();
        let thread = std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || this.run(&connection, poll_interval, &commits))
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

    fn run(&self, connection: &Connection, poll_interval: Duration, commits: &watch::Sender<()>) {
        let mut seen = None;
        while let Some(checkpoint) = self.next_errand(poll_interval, commits) {
            if checkpoint {
                match self.checkpoint(connection) {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, "checkpoint failed; the log keeps growing until one succeeds");
                    }
                }
            }
            if commits.receiver_count() == 0 {
                continue;
            }
            match connection.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)) {
                Ok(version) => {
                    if seen.replace(version) != Some(version) {
                        commits.send_replace(());
                    }
                }
                Err(error) => tracing::warn!(%error, "looking for commits of other processes failed"),
            }
        }
    }

    /// Waits for something to do; `None` once it is to stop.
    fn next_errand(&self, poll_interval: Duration, commits: &watch::Sender<()>) -> Option<bool> {
        let mut errands = self.errands();
        if !errands.stop && !errands.checkpoint {
            errands = if commits.receiver_count() == 0 {
                self.called.wait(errands).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.called.wait_timeout(errands, poll_interval).unwrap_or_else(PoisonError::into_inner).0
            };
        }
        (!errands.stop).then(|| std::mem::take(&mut errands.checkpoint))
    }

    fn checkpoint(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        for _ in 0..MOST_PASSES {
            let (busy, frames, done) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            })?;
            if busy != 0 {
                // Another process is at it.
                return Ok(());
            }
            let few_are_left = frames - done <= LAST_FRAMES;
            if few_are_left || frames > MOST_FRAMES {
                self.last_frames.store(true, Ordering::Relaxed);
                return Ok(());
            }
        }
        // The writer was faster; it asks again when the log has grown further.
        Ok(())
    }

    fn errands(&self) -> MutexGuard<'_, Errands> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
