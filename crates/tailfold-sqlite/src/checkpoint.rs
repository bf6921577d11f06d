//! Bringing the log into the file.

use rusqlite::Connection;

/// Frames (pages) in the log after which it is brought into the file: 64 MiB.
pub(crate) const CHECKPOINT_FRAMES: u32 = 16_000;
/// A checkpoint is repeated while the writer runs ahead of it, until this few frames are left.
const LAST_FRAMES: i64 = 256;
const MOST_PASSES: usize = 6;
/// From here on (512 MiB) a short log is worth more than an append that does not wait.
const MOST_FRAMES: i64 = 128 << 10;

/// Brings what it can into the file. Returns whether the writer is to add the last frames.
pub(crate) fn run(connection: &Connection) -> Result<bool, rusqlite::Error> {
    for _ in 0..MOST_PASSES {
        let (busy, frames, done) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        if busy != 0 {
            // Another process is at it.
            return Ok(false);
        }
        if frames - done <= LAST_FRAMES || frames > MOST_FRAMES {
            return Ok(true);
        }
    }
    // The writer was faster; it asks again when the log has grown further.
    Ok(false)
}
