//! Taking what was erased out of the write-ahead log.
//!
//! A checkpoint brings the log into the file and leaves the log's old bytes where they are, until later commits happen to
//! overwrite them. After an erase the log is therefore truncated, which needs a moment in which nobody reads from it.

use std::sync::Weak;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use crate::error::Result;
use crate::queue::Queue;

/// How long the writer waits for a reader at a time: appends wait as long.
const ATTEMPT: Duration = Duration::from_millis(20);
/// Between two attempts; while a reader stays, the pauses grow up to the longest.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Truncates the log; false if somebody was in the way for as long as `patience`.
pub(crate) async fn clear(queue: &Queue, patience: Duration) -> tailfold::Result<bool> {
    let deadline = Instant::now() + patience;
    while !queue.between(truncate).await? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(true)
}

/// Goes on until it is done or the store is closed, which does it as well.
pub(crate) async fn keep_clearing(queue: Weak<Queue>) {
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let Some(queue) = queue.upgrade() else { return };
        match queue.between(truncate).await {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) if queue.is_closed() => return tracing::debug!(%error, "the log is left as it is"),
            Err(error) => tracing::debug!(%error, "the log could not be emptied yet"),
        }
    }
}

/// Brings the log into the file and makes it empty; false if a reader or another process is in the way.
pub(crate) fn truncate(connection: &Connection) -> Result<bool> {
    let patience: i64 = connection.query_row("PRAGMA busy_timeout", [], |row| row.get(0))?;
    connection.busy_timeout(ATTEMPT)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(Duration::from_millis(patience.unsigned_abs()))?;
    Ok(busy? == 0)
}
