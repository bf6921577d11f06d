//! Whether the server is at work for a connection on which nobody answers yet: a statement may take long, or
//! wait for somebody's lock; a connection that has fallen silent leaves a session behind that waits to be
//! told something.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, ObjectId};
use tokio_postgres::Row;

/// The number of a session's process, which another session asks for.
pub(crate) const OWN_PROCESS: &str = "SELECT pg_backend_pid()";

/// Whether a process works. An answer may be on its way for some time, and the next statement of a
/// transaction. What is not shown to this role, or not noted by this server, may be at work.
pub(crate) const IS_AT_WORK: &str = "SELECT coalesce((
    SELECT a.state IS NULL OR a.state NOT LIKE 'idle%'
        OR clock_timestamp() - a.state_change < make_interval(secs => $2)
    FROM pg_stat_activity AS a WHERE a.pid = $1), false)";

/// How long an answer may be on its way that the server has given.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// Sessions that are kept in mind, at least.
const MOST_KNOWN: usize = 1000;

/// What another session says of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    AtWork,
    /// It waits to be told something, or has ended.
    Idle,
    /// Nobody could be asked.
    Unknown,
}

impl Look {
    pub(crate) fn of(found: &[Row]) -> Self {
        match found.first().map(|row| row.try_get(0)) {
            Some(Ok(true)) => Self::AtWork,
            Some(Ok(false)) => Self::Idle,
            _ => Self::Unknown,
        }
    }
}

/// The process that serves a connection, once it has told its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session(Arc<OnceLock<i32>>);

impl Session {
    pub(crate) fn process(&self) -> Option<i32> {
        self.0.get().copied()
    }

    pub(crate) fn served_by(&self, process: i32) {
        // A connection has one session as long as it lasts.
        let _ = self.0.set(process);
    }
}

/// The sessions of a pool's connections.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<ObjectId, Session>>>);

impl Sessions {
    /// The session of a connection.
    pub(crate) fn of(&self, client: &Object) -> Session {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The pool does not tell which connections it has closed. Those of others are asked again.
        if known.len() > MOST_KNOWN {
            known.retain(|_, session| Arc::strong_count(&session.0) > 1);
        }
        known.entry(Object::id(client)).or_default().clone()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
