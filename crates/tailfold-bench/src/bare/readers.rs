//! Loads with rusqlite alone: the statements of a snapshot load, on pooled connections, in blocking tasks.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::Semaphore;

use super::settings;
use crate::harness::Result;
use crate::trade::Account;

const READERS: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct BareReaders {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

/// Which snapshot, and where the encoded state lies in its envelope.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotQuery {
    pub(crate) fold: Arc<str>,
    pub(crate) serial: Arc<str>,
    pub(crate) stream: Arc<str>,
    pub(crate) payload: std::ops::Range<usize>,
}

impl BareReaders {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// The state of a snapshot, and the chain of the stream's event at its version.
    pub(crate) async fn load(&self, query: &SnapshotQuery) -> Result<(Account, [u8; 16])> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.permits.clone().acquire_owned().await?,
        };
        let (this, query) = (self.clone(), query.clone());
        let (encoded, anchor) = tokio::task::spawn_blocking(move || {
            let idle = this.lock().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => settings::reader(&this.path)?,
            };
            let loaded = load(&connection, &query);
            this.lock().push(connection);
            drop(permit);
            loaded
        })
        .await??;
        // Here, where the state is used: memory that one thread takes and another gives back costs more than the copy.
        Ok((rmp_serde::from_slice(&encoded)?, anchor))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(connection: &Connection, query: &SnapshotQuery) -> Result<(Vec<u8>, [u8; 16])> {
    connection.prepare_cached("BEGIN")?.raw_execute()?;
    let loaded = load_in_transaction(connection, query);
    connection.prepare_cached("COMMIT")?.raw_execute()?;
    loaded
}

fn load_in_transaction(connection: &Connection, query: &SnapshotQuery) -> Result<(Vec<u8>, [u8; 16])> {
    let mut snapshot = connection.prepare_cached(
        "SELECT s.version, s.chain, s.used, p.envelope
         FROM snapshots s LEFT JOIN snapshot_payloads p ON p.snapshot = s.ref
         WHERE s.fold = ?1 AND s.serial = ?2 AND s.key = ?3 AND s.version <= ?4 ORDER BY s.version DESC LIMIT 1",
    )?;
    let mut found = snapshot.query((&*query.fold, &*query.serial, &*query.stream, i64::MAX))?;
    let row = found.next()?.ok_or("no snapshot")?;
    let version: i64 = row.get(0)?;
    let envelope = row.get_ref(3)?.as_blob()?;
    let encoded = envelope.get(query.payload.clone()).ok_or("a shorter envelope")?.to_vec();
    drop(found);
    let reference: i64 = connection
        .prepare_cached("SELECT ref FROM streams WHERE stream = ?1 AND erased IS NULL")?
        .query_row([&*query.stream], |row| row.get(0))?;
    let mut tail = connection.prepare_cached(
        "SELECT position, version, stream, type, id, schema_version, recorded_at, origin, metadata, chain, tags, payload
         FROM events WHERE stream = ?1 AND version BETWEEN ?2 AND ?3 ORDER BY version LIMIT ?4",
    )?;
    let mut events = tail.query((reference, version, i64::MAX, 1000))?;
    let anchor = events.next()?.ok_or("no event at the snapshot's version")?.get(9)?;
    while events.next()?.is_some() {}
    drop(events);
    connection
        .prepare_cached("SELECT erased FROM streams WHERE ref = ?1")?
        .query_row([reference], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok((encoded, anchor))
}

/// How a bare read finds the events of a type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// By looking at the type of every event.
    ByScan,
    /// By the index of kinds.
    ByIndex,
}

/// All events of a type in the order of the log: every column is read, each payload is handed out.
pub(crate) fn events_of_type(
    path: &Path,
    event_type: &str,
    found: Found,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<u64> {
    let place = match found {
        Found::ByScan => "events e WHERE e.type = ?1 ORDER BY e.position",
        Found::ByIndex => {
            "event_kinds k CROSS JOIN events e ON e.position = k.position
             WHERE k.kind = (SELECT ref FROM kinds WHERE type = ?1) ORDER BY k.position"
        }
    };
    let connection = settings::reader(path)?;
    let mut select = connection.prepare(&format!(
        "SELECT e.position, version, stream, e.type, id, schema_version, recorded_at, origin, metadata, chain, tags,
                payload FROM {place}"
    ))?;
    let mut found = select.query([event_type])?;
    let mut events = 0;
    while let Some(row) = found.next()? {
        for column in 0..11 {
            black_box(row.get_ref(column)?);
        }
        take(row.get_ref(11)?.as_blob()?)?;
        events += 1;
    }
    Ok(events)
}
