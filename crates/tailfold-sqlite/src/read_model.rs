//! A read model in an SQLite file: what its handler writes, and the checkpoint, move in one transaction.

mod listed;

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tailfold::{
    Batch, BoxError, Checkpoint, Claim, Claimed, Delivery, Error, Events, HandleError, Parked, ReadModel,
    Result, Timestamp,
};
use tokio::runtime::{Handle, RuntimeFlavor};

pub use self::listed::{checkpoints, drop_parked, parked_events, retry_parked};
use crate::erased_log;
use crate::error::{self, Failure};
use crate::path;
use crate::schema::{APPLICATION_ID, switch_to_wal};

const SCHEMA: &str = include_str!("read_model.sql");
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A read model in an SQLite file of its own, for a [`Subscription`](tailfold::Subscription): each batch of events is handled in
/// one transaction with the checkpoint, so that nothing is ever handled twice, however processes end.
///
/// The tables are the handler's own; beside them are `tailfold_checkpoints` and `tailfold_parked_events`. Several processes may
/// open the file: one of them works, the others wait for its lease to end. The file cannot be that of a store.
///
/// Transactions are done on the thread of the runtime that the subscription works on, beside its other threads; a runtime of one
/// thread waits meanwhile.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tailfold::{Event, Subscription};
/// # use tailfold_sqlite::SqliteStore;
/// use tailfold_sqlite::SqliteReadModel;
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "account")]
/// enum AccountEvent {
///     Deposited { cents: i64 },
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # std::env::set_current_dir(directory.path())?;
/// let model = SqliteReadModel::open("balances.sqlite", |transaction, delivery| {
///     if let Some(AccountEvent::Deposited { cents }) = delivery.event() {
///         transaction.execute(
///             "INSERT INTO balances VALUES (?1, ?2) ON CONFLICT DO UPDATE SET cents = cents + excluded.cents",
///             (delivery.recorded().stream.id(), cents),
///         )?;
///     }
///     Ok(())
/// })?;
/// model.prepare("CREATE TABLE IF NOT EXISTS balances (id TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT")?;
/// let store = SqliteStore::open("bank.tailfold").await?;
/// let balances = Subscription::builder(store, "balances", model).start()?;
/// balances.wait_until_current().await?;
/// balances.stop().await?;
/// # Ok(())
/// # }
/// ```
pub struct SqliteReadModel<E, H> {
    path: PathBuf,
    connection: Connection,
    /// Something was removed for an erased stream, and the log may still hold it.
    log_to_clear: bool,
    handler: H,
    event: PhantomData<fn() -> E>,
}

impl<E, H> SqliteReadModel<E, H>
where
    E: Events,
    H: FnMut(&Transaction<'_>, &Delivery<E>) -> Result<(), BoxError> + Send + 'static,
{
    /// Opens a file, or creates it. The handler is called for each event in order; an error, or a panic, rolls the batch back.
    /// Where the tables for checkpoints are there already, it does not wait for another worker's batch.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be opened or is a store; `Unavailable` if it is new and stays locked.
    pub fn open(path: impl AsRef<Path>, handler: H) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection = connect(&path).map_err(|failure| {
            Error::from(failure).during(format!("open read model `{}`", path.display()))
        })?;
        // A worker that was killed may have left something in the log.
        Ok(Self { path, connection, log_to_clear: true, handler, event: PhantomData })
    }

    /// Runs statements that make the handler's tables, in one transaction. Safe from several processes, if they are
    /// `CREATE .. IF NOT EXISTS`; where they find everything there, they do not wait for another worker's batch.
    ///
    /// # Errors
    /// `Invalid` for what SQLite does not understand; `Unavailable` if there is something to make and another worker's batch
    /// lasts for more than 5 seconds.
    pub fn prepare(&self, statements: &str) -> Result<()> {
        // Without a lock first: it takes one where something is missing, or is refused one that others have.
        let prepared = match self.run(&format!("BEGIN; {statements}; COMMIT")) {
            Err(error) if is_locked(&error) => self.run(&format!("BEGIN IMMEDIATE; {statements}; COMMIT")),
            prepared => prepared,
        };
        prepared.map_err(|error| {
            let error = match is_locked(&error) {
                true => Failure::from(error).into(),
                false => Error::invalid("the statements failed").caused_by(error),
            };
            error.during(format!("prepare read model `{}`", self.path.display()))
        })
    }

    fn run(&self, statements: &str) -> rusqlite::Result<()> {
        let done = self.connection.execute_batch(statements);
        if done.is_err() && !self.connection.is_autocommit() {
            // It stands open where a statement in its middle failed.
            self.connection.execute_batch("ROLLBACK")?;
        }
        done
    }
}

#[async_trait]
impl<E, H> ReadModel for SqliteReadModel<E, H>
where
    E: Events,
    H: FnMut(&Transaction<'_>, &Delivery<E>) -> Result<(), BoxError> + Send + 'static,
{
    type Event = E;

    async fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let claimed = beside_others(|| {
            self.clear_log();
            claimed(&mut self.connection, claim)
        });
        claimed.map_err(|failure| Error::from(failure).during(format!("claim `{}`", self.path.display())))
    }

    async fn handle(&mut self, claim: &Claim, batch: Batch<'_, E>) -> Result<(), HandleError> {
        let Self { connection, handler, .. } = self;
        let handled = beside_others(|| handle(connection, handler, claim, &batch));
        if handled.is_ok() && batch.erased().next().is_some() {
            self.log_to_clear = true;
            beside_others(|| self.clear_log());
        }
        let path = &self.path;
        handled.map_err(|error| match error {
            HandleError::Store(error) => {
                HandleError::Store(error.during(format!("write read model `{}`", path.display())))
            }
            other => other,
        })
    }

    async fn parked(&mut self, name: &str) -> Result<Vec<Parked>> {
        let parked = beside_others(|| listed::parked(&self.connection, name));
        parked.map_err(|failure| {
            Error::from(failure).during(format!("list what is parked in `{}`", self.path.display()))
        })
    }

    async fn release(&mut self, claim: &Claim) -> Result<()> {
        let released = beside_others(|| {
            let sql = "UPDATE tailfold_checkpoints SET lease_until = 0 WHERE name = ?1 AND owner = ?2";
            Ok::<_, Failure>(self.connection.execute(sql, (&*claim.name, claim.owner.as_uuid().as_bytes()))?)
        });
        released.map(drop).map_err(Error::from)
    }
}

impl<E, H> SqliteReadModel<E, H> {
    /// Takes what was removed for an erased stream out of the write-ahead log, too. Where a reader is in the way, it is tried
    /// again with each claim.
    fn clear_log(&mut self) {
        if !self.log_to_clear {
            return;
        }
        match erased_log::truncate(&self.connection) {
            Ok(cleared) => self.log_to_clear = !cleared,
            Err(failure) => {
                let (error, path) = (Error::from(failure), self.path.display());
                tracing::warn!(%path, %error, "what was erased could not be taken out of the read model's log");
            }
        }
    }
}

/// Whether another connection keeps the file locked.
fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Does what blocks; other tasks of a runtime with several threads go on meanwhile.
fn beside_others<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open(path::absolute(path)?)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_no_store(&connection)?;
    switch_to_wal(&connection, BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "full")?;
    // What came from an erased stream is not to stay in free pages.
    connection.pragma_update(None, "secure_delete", true)?;
    // Making them takes a lock, which a worker may have for as long as its batch takes.
    if !has_tables(&connection)? {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT"))?;
    }
    add_retries(&connection)?;
    Ok(connection)
}

/// Files of before have parked events that nobody could ask to try again.
fn add_retries(connection: &Connection) -> Result<(), Failure> {
    if has_retries(connection)? {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let added = has_retries(connection).and_then(|is_there| match is_there {
        // Another process was first.
        true => Ok(()),
        false => connection.execute_batch(
            "ALTER TABLE tailfold_parked_events ADD COLUMN retry_requested INTEGER NOT NULL DEFAULT 0",
        ),
    });
    match added {
        Ok(()) => Ok(connection.execute_batch("COMMIT")?),
        Err(error) => {
            connection.execute_batch("ROLLBACK")?;
            Err(error.into())
        }
    }
}

fn has_retries(connection: &Connection) -> rusqlite::Result<bool> {
    let sql =
        "SELECT count(*) FROM pragma_table_info('tailfold_parked_events') WHERE name = 'retry_requested'";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Whether the tables of checkpoints and parked events are there.
fn has_tables(connection: &Connection) -> Result<bool, Failure> {
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('tailfold_checkpoints', 'tailfold_parked_events')";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))? == 2)
}

fn check_no_store(connection: &Connection) -> Result<(), Failure> {
    let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if application_id == APPLICATION_ID {
        return Err(
            Error::invalid("the file is a tailfold store: a read model needs a file of its own").into()
        );
    }
    Ok(())
}

fn claimed(connection: &mut Connection, claim: &Claim) -> Result<Claimed, Failure> {
    let now = now();
    let owner = claim.owner.as_uuid().as_bytes().as_slice();
    // Whose lease lasts may be in the middle of a batch, which nobody else has to wait for.
    let is_held: Option<bool> = connection
        .query_row(
            "SELECT owner <> ?2 AND lease_until > ?3 FROM tailfold_checkpoints WHERE name = ?1",
            params![&*claim.name, owner, now],
            |row| row.get(0),
        )
        .optional()?;
    if is_held == Some(true) {
        return Ok(Claimed::Held(standing(connection, &claim.name)?));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken = transaction.execute(
        "INSERT INTO tailfold_checkpoints (name, owner, lease_until, updated_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
         WHERE owner = excluded.owner OR lease_until <= ?4",
        params![&*claim.name, owner, until(now, claim.lease), now],
    )?;
    let checkpoint = standing(&transaction, &claim.name)?;
    transaction.commit()?;
    Ok(if taken == 1 { Claimed::Granted(checkpoint) } else { Claimed::Held(checkpoint) })
}

fn standing(connection: &Connection, name: &str) -> Result<Option<Checkpoint>, Failure> {
    let found: Option<Option<String>> = connection
        .query_row("SELECT checkpoint FROM tailfold_checkpoints WHERE name = ?1", [name], |row| row.get(0))
        .optional()?;
    found.flatten().map(|json| checkpoint(name, &json)).transpose()
}

fn checkpoint(name: &str, json: &str) -> Result<Checkpoint, Failure> {
    serde_json::from_str(json)
        .map_err(|error| Error::corrupt(format!("the checkpoint of `{name}`: {error}")).into())
}

fn handle<E>(
    connection: &mut Connection,
    handler: &mut impl FnMut(&Transaction<'_>, &Delivery<E>) -> Result<(), BoxError>,
    claim: &Claim,
    batch: &Batch<'_, E>,
) -> Result<(), HandleError> {
    let store = |error: rusqlite::Error| HandleError::Store(Failure::from(error).into());
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store)?;
    let standing =
        standing(&transaction, &claim.name).map_err(|failure| HandleError::Store(failure.into()))?;
    if standing.as_ref() != batch.before {
        return Err(HandleError::Lost);
    }
    for delivery in batch.deliveries {
        let position = delivery.position();
        // The transaction is rolled back.
        match catch_unwind(AssertUnwindSafe(|| handler(&transaction, delivery))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(HandleError::Event { position, error }),
            Err(panic) => return Err(HandleError::of_panic(position, &*panic)),
        }
    }
    if let Some(position) = batch.unparked {
        let sql = "DELETE FROM tailfold_parked_events WHERE name = ?1 AND position = ?2";
        transaction.execute(sql, (&*claim.name, position.0.cast_signed())).map_err(store)?;
    }
    for (stream, position) in batch.erased() {
        transaction
            .execute(
                "DELETE FROM tailfold_parked_events WHERE name = ?1 AND stream = ?2 AND position < ?3",
                (&*claim.name, stream.as_str(), position.0.cast_signed()),
            )
            .map_err(store)?;
    }
    if let Some(parked) = batch.parked {
        park(&transaction, &claim.name, parked).map_err(store)?;
    }
    let json = serde_json::to_string(batch.after)
        .map_err(|error| HandleError::Store(Error::codec(format!("a checkpoint: {error}"))))?;
    let now = now();
    let moved = transaction
        .execute(
            "UPDATE tailfold_checkpoints SET checkpoint = ?1, lease_until = ?2, updated_at = ?3
             WHERE name = ?4 AND owner = ?5",
            params![
                json,
                until(now, claim.lease),
                now,
                &*claim.name,
                claim.owner.as_uuid().as_bytes().as_slice()
            ],
        )
        .map_err(store)?;
    if moved != 1 {
        return Err(HandleError::Lost);
    }
    transaction.commit().map_err(|error| HandleError::Store(error::of_commit(error)))
}

fn park(transaction: &Transaction<'_>, name: &str, parked: &Parked) -> rusqlite::Result<usize> {
    let Parked { position, stream, version, event_type, error, attempts, parked_at, retry_requested } =
        parked;
    transaction.execute(
        "INSERT OR REPLACE INTO tailfold_parked_events
             (name, position, stream, version, type, error, attempts, parked_at, retry_requested)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            name,
            position.0.cast_signed(),
            stream.as_str(),
            version.0.cast_signed(),
            event_type.as_str(),
            error,
            attempts,
            parked_at.as_micros(),
            retry_requested
        ],
    )
}

fn now() -> i64 {
    Timestamp::from(SystemTime::now()).as_micros()
}

fn until(now: i64, lease: Duration) -> i64 {
    now.saturating_add(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
}

impl<E, H> fmt::Debug for SqliteReadModel<E, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteReadModel").field("path", &self.path).finish_non_exhaustive()
    }
}
