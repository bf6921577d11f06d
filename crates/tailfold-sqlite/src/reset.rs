//! Throwing all snapshots away, whatever has become of their tables.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tailfold::{Error, Result, Slot};

use crate::erased_log;
use crate::error::{self, Failure};
use crate::schema;
use crate::store::SqliteStore;
use crate::vacuum::vacuum;

impl SqliteStore {
    /// Throws all snapshots away and makes their tables new, for a file in which [`check`](SqliteStore::check) finds pages of
    /// snapshots damaged. No event is touched: states are replayed, and snapshots taken anew when they are due. Checkpoints and
    /// parked events of `ByPosition` are kept as far as they can be read; what cannot is told in a warning, and such a
    /// subscription begins again.
    ///
    /// The damaged pages are not looked at: the file is then written anew without them, which takes about twice its size of
    /// free disk meanwhile. Appends wait; those of other processes fail as unavailable after their busy timeout.
    ///
    /// # Errors
    /// `Corrupt` if more than snapshots is damaged: a backup has to be restored; `Unavailable` if the disk is full or another
    /// process keeps the file locked. Calling it again is safe.
    pub async fn reset_snapshots(&self) -> Result<()> {
        let operation = format!("make the snapshots of store `{}` new", self.path().display());
        self.between(reset).await.map_err(|error| error.during(operation))
    }
}

fn reset(connection: &Connection) -> error::Result<()> {
    // Before the transaction: SQLite lets nothing be written in one that has met a damaged page.
    let kept = kept(connection);
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    forget_tables(&transaction)?;
    transaction.execute_batch(schema::SNAPSHOTS)?;
    for Kept { serial, key, version, chain, used, envelope } in kept {
        transaction.execute(
            "INSERT INTO snapshots (fold, serial, key, version, chain, used, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![Slot::LASTING, serial, key, version, chain, used, envelope.len() as i64],
        )?;
        transaction.execute(
            "INSERT INTO snapshot_payloads (snapshot, envelope) VALUES (last_insert_rowid(), ?1)",
            [envelope],
        )?;
    }
    transaction.commit()?;
    vacuum(connection)?;
    erased_log::truncate(connection)?;
    Ok(())
}

/// Dropping a table walks through all its pages, and a damaged one may lead to those of events: the schema forgets the tables
/// instead, and the file is written anew without what nothing leads to.
fn forget_tables(transaction: &Transaction<'_>) -> error::Result<()> {
    transaction.pragma_update(None, "writable_schema", true)?;
    let forgotten = transaction
        .execute("DELETE FROM sqlite_schema WHERE tbl_name IN ('snapshots', 'snapshot_payloads')", []);
    // Reads the schema again, and ends that it can be written.
    transaction.execute_batch("PRAGMA writable_schema = RESET")?;
    forgotten?;
    Ok(())
}

struct Kept {
    serial: String,
    key: String,
    version: i64,
    chain: Vec<u8>,
    used: i64,
    envelope: Vec<u8>,
}

/// What there is of subscriptions, by the index or, where that is damaged, without it.
fn kept(connection: &Connection) -> Vec<Kept> {
    let (mut kept, by_index) = read_kept(connection, "");
    let Some(failure) = by_index else { return kept };
    let (by_scan, by_table) = read_kept(connection, "NOT INDEXED");
    if by_table.is_none() || by_scan.len() > kept.len() {
        kept = by_scan;
    }
    if by_table.is_some() {
        let (error, read) = (Error::from(failure), kept.len());
        tracing::warn!(
            %error, read,
            "not everything that subscriptions have kept among the snapshots could be read: some may begin again"
        );
    }
    kept
}

/// What could be read before the first failure, and that.
fn read_kept(connection: &Connection, how: &str) -> (Vec<Kept>, Option<Failure>) {
    let mut kept = Vec::new();
    let mut read = || {
        let mut statement = connection.prepare(&format!(
            "SELECT s.serial, s.key, s.version, s.chain, s.used, p.envelope
             FROM snapshots s {how} JOIN snapshot_payloads p ON p.snapshot = s.ref WHERE s.fold = ?1"
        ))?;
        let mut found = statement.query([Slot::LASTING])?;
        while let Some(row) = found.next()? {
            kept.push(Kept {
                serial: row.get(0)?,
                key: row.get(1)?,
                version: row.get(2)?,
                chain: row.get(3)?,
                used: row.get(4)?,
                envelope: row.get(5)?,
            });
        }
        Ok::<_, rusqlite::Error>(())
    };
    let failure = read().err().map(Failure::from);
    (kept, failure)
}
