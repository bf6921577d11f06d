//! Bringing the log into the file, and saying who keeps it from that.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use crate::config::SqliteConfig;
use crate::lock_holders;
use crate::path;

/// Frames (pages) in the log after which it is brought into the file: 64 MiB.
pub(crate) const CHECKPOINT_FRAMES: u32 = 16_000;
/// Bytes that the log keeps on disk once all of it is in the file; it is cut to them when it starts over.
pub(crate) const LOG_BYTES: u64 = 64 << 20;
/// A checkpoint is repeated while the writer runs ahead of it, until this few frames are left.
const LAST_FRAMES: i64 = 256;
const MOST_PASSES: usize = 6;
/// From here on (512 MiB) a short log is worth more than an append that does not wait.
const MOST_FRAMES: i64 = 128 << 10;
/// From here on (128 MiB) a log that somebody keeps from starting over is told of.
const STUCK_FRAMES: i64 = 32 << 10;
/// How often.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// How often a long log is tried to be cut while nobody asks for a checkpoint.
const SHRUNK_EVERY: Duration = Duration::from_secs(5);

/// Frames from which on a log is dealt with in another way.
#[derive(Clone, Copy, Debug)]
struct Limits {
    most: i64,
    stuck: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { most: MOST_FRAMES, stuck: STUCK_FRAMES }
    }
}

/// What the housekeeper remembers of checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    limits: Limits,
    told: Option<Instant>,
    shrunk: Option<Instant>,
}

impl Checkpoints {
    /// Brings what it can into the file. Returns whether the writer is to add the last frames.
    pub(crate) fn run(&mut self, connection: &Connection, path: &Path) -> Result<bool, rusqlite::Error> {
        let (mut before, mut long) = (None, false);
        for _ in 0..MOST_PASSES {
            let (busy, frames, done) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            })?;
            if busy != 0 {
                // Another process is at it.
                return Ok(false);
            }
            let left = frames - done;
            if left <= LAST_FRAMES {
                return Ok(true);
            }
            long = frames > self.limits.most;
            let is_much = left >= self.limits.stuck;
            // Nothing was done between two passes: it is not that the writer was faster.
            let is_stuck = is_much && before.replace(done) == Some(done);
            if is_stuck {
                self.tell(path, left);
            }
            if is_stuck || (long && !is_much) {
                break;
            }
        }
        // Unless the log is long, the writer just asks again when it has grown further.
        Ok(long)
    }

    /// Cuts a log that has become long, for whatever reason, once all of it is in the file and nobody reads from it: not only when the
    /// next append begins it anew.
    pub(crate) fn shrink(
        &mut self,
        connection: &Connection,
        config: &SqliteConfig,
    ) -> Result<(), rusqlite::Error> {
        let long = path::log_bytes(&config.path).is_ok_and(|bytes| bytes > LOG_BYTES);
        if !long || self.shrunk.is_some_and(|shrunk| shrunk.elapsed() < SHRUNK_EVERY) {
            return Ok(());
        }
        self.shrunk = Some(Instant::now());
        if !self.run(connection, &config.path)? {
            return Ok(());
        }
        // Appends wait meanwhile, so it does not wait itself.
        connection.busy_timeout(Duration::ZERO)?;
        let cut = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        connection.busy_timeout(config.busy_timeout)?;
        match cut {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
            other => other,
        }
    }

    fn tell(&mut self, path: &Path, left: i64) {
        if self.told.is_some_and(|told| told.elapsed() < TOLD_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let held_by = lock_holders::readers_of(path);
        tracing::warn!(
            store = %path.display(),
            log = %path::companion(path, "-wal").display(),
            megabytes = left / 256,
            held_by = %held_by,
            "the log cannot be brought into the file and grows: somebody has been reading since before it began, in a transaction \
             that is still open; end it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_log_of_any_length_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)")
            .unwrap();
        let reader = Connection::open(&path).unwrap();
        for most in [i64::MAX, 400] {
            reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
            let mut checkpoints =
                Checkpoints { limits: Limits { most, stuck: 300 }, ..Checkpoints::default() };
            writer.execute("INSERT INTO t VALUES (zeroblob(290 * 4096))", []).unwrap();
            assert!(!checkpoints.run(&writer, &path).unwrap());
            assert!(checkpoints.told.is_none(), "a short log is nobody's concern");
            writer.execute("INSERT INTO t VALUES (zeroblob(290 * 4096))", []).unwrap();
            assert_eq!(checkpoints.run(&writer, &path).unwrap(), most == 400);
            assert!(checkpoints.told.is_some(), "nothing is said from {most} frames on");
            reader.execute_batch("COMMIT").unwrap();
            assert!(checkpoints.run(&writer, &path).unwrap(), "it goes on once the reader has ended");
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        }
    }
}
