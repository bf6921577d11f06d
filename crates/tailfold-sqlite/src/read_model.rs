//! A read model in an SQLite file: what its handler writes, and the checkpoint, move in one transaction.

mod file;
mod listed;

use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tailfold::{
    Batch, BoxError, Checkpoint, Claim, Claimed, Delivery, Error, Events, HandleError, Outcome, Parked,
    ReadModel, Result, Timestamp,
};
use tokio::runtime::{Handle, RuntimeFlavor};

use self::file::ModelFile;
pub use self::listed::{checkpoints, drop_parked, parked_events, retry_parked};
use crate::diagnosis;
use crate::erased_log;
use crate::error::{self, Failure};

/// A read model in an SQLite file of its own, for a [`Subscription`](tailfold::Subscription): each batch of events is handled in
/// one transaction with the checkpoint, so that nothing is ever handled twice, however processes end.
///
/// The tables are the handler's own; beside them are `tailfold_checkpoints` and `tailfold_parked_events`. Several processes may
/// open the file: one of them works, the others wait for its lease to end. The file cannot be that of a store.
///
/// It is one file by one name: one with several (hard links) is refused. Where it, or the `-wal` beside it,
/// is removed or replaced while it is open, nothing more is told as handled: each attempt is `Unavailable`
/// until the model is opened again. The same is told, with the system's error, where the file cannot be read
/// or written: no event is parked for that, or for a full disk.
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
    file: ModelFile,
    /// Something was removed for an erased stream, and the log may still hold it.
    log_to_clear: bool,
    /// Whether the lease was this model's when it was last asked for.
    leads: bool,
    handler: H,
    event: PhantomData<fn() -> E>,
}

impl<E, H> SqliteReadModel<E, H>
where
    E: Events,
    H: FnMut(&Transaction<'_>, &Delivery<E>) -> Result<(), BoxError> + Send + 'static,
{
    /// Opens a file, or creates it. The handler is called for each event in order; an error, or a panic,
    /// rolls the batch back. It must not end the transaction, nor pass over an error of SQLite that does
    /// (`ON CONFLICT ROLLBACK`): it has failed then. Where the tables for checkpoints are there already,
    /// opening does not wait for another worker's batch.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be opened, is a store or has several names, and where the log of another file is left beside
    /// it; `Unavailable` if it is new and stays locked, or the system cannot read it; `Corrupt` if it is damaged.
    pub fn open(path: impl AsRef<Path>, handler: H) -> Result<Self> {
        let path = path.as_ref();
        let file = ModelFile::open(path)
            .map_err(|error| error.during(format!("open read model `{}`", path.display())))?;
        Ok(Self { file, log_to_clear: false, leads: false, handler, event: PhantomData })
    }

    /// Runs statements that make the handler's tables, in one transaction. Safe from several processes, if they are
    /// `CREATE .. IF NOT EXISTS`; where they find everything there, they do not wait for another worker's batch.
    ///
    /// # Errors
    /// `Invalid` for what SQLite does not understand; `Unavailable` if there is something to make and another worker's batch
    /// lasts for more than 5 seconds.
    pub fn prepare(&self, statements: &str) -> Result<()> {
        let prepared = self.file.work(Outcome::Unknown, |connection| {
            // Without a lock first: it takes one where something is missing, or is refused one that others
            // have.
            let prepared = match run(connection, &format!("BEGIN; {statements}; COMMIT")) {
                Err(error) if is_locked(&error) => {
                    run(connection, &format!("BEGIN IMMEDIATE; {statements}; COMMIT"))
                }
                prepared => prepared,
            };
            prepared.map_err(|error| match is_locked(&error) || is_of_the_file(&error) {
                true => error.into(),
                false => Error::invalid("the statements failed").caused_by(error).into(),
            })
        });
        prepared.map_err(|error| error.during(format!("prepare read model `{}`", self.file.path().display())))
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
        let claimed =
            beside_others(|| self.file.work(Outcome::Unknown, |connection| claimed(connection, claim)));
        let leads = matches!(claimed, Ok(Claimed::Granted(_)));
        // Whoever had the lease before may have ended when something was removed, and was still in the log.
        self.log_to_clear |= leads && !self.leads;
        self.leads = leads;
        if leads {
            beside_others(|| self.clear_log());
        }
        claimed.map_err(|error| error.during(format!("claim `{}`", self.file.path().display())))
    }

    async fn handle(&mut self, claim: &Claim, batch: Batch<'_, E>) -> Result<(), HandleError> {
        let Self { file, handler, .. } = self;
        let handled = beside_others(|| {
            file.work(Outcome::Unknown, |connection| handle(connection, handler, claim, &batch))
        });
        let path = file.path();
        handled.map_err(|error| {
            HandleError::Store(error.during(format!("write read model `{}`", path.display())))
        })??;
        if batch.erased().next().is_some() {
            self.log_to_clear = true;
            beside_others(|| self.clear_log());
        }
        Ok(())
    }

    async fn parked(&mut self, name: &str) -> Result<Vec<Parked>> {
        let parked =
            beside_others(|| self.file.work(Outcome::NotDone, |connection| listed::parked(connection, name)));
        parked
            .map_err(|error| error.during(format!("list what is parked in `{}`", self.file.path().display())))
    }

    async fn release(&mut self, claim: &Claim) -> Result<()> {
        let released = beside_others(|| {
            let sql = "UPDATE tailfold_checkpoints SET lease_until = 0 WHERE name = ?1 AND owner = ?2";
            self.file.work(Outcome::Unknown, |connection| {
                Ok(connection.execute(sql, (&*claim.name, claim.owner.as_uuid().as_bytes()))?)
            })
        });
        self.leads = false;
        released.map(drop)
    }
}

impl<E, H> SqliteReadModel<E, H> {
    /// Takes what was removed for an erased stream out of the write-ahead log, too. Where a reader is in the way, it is tried
    /// again with each claim.
    fn clear_log(&mut self) {
        if !self.log_to_clear {
            return;
        }
        match self.file.work(Outcome::NotDone, |connection| erased_log::truncate(connection)) {
            Ok(cleared) => self.log_to_clear = !cleared,
            Err(error) => {
                let path = self.file.path().display();
                tracing::warn!(%path, %error, "what was erased could not be taken out of the read model's log");
            }
        }
    }
}

/// Runs statements that begin and end a transaction.
fn run(connection: &Connection, statements: &str) -> rusqlite::Result<()> {
    let done = connection.execute_batch(statements);
    if done.is_err() && !connection.is_autocommit() {
        // It stands open where a statement in its middle failed.
        connection.execute_batch("ROLLBACK")?;
    }
    done
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

/// Whether a statement failed for something that the next one would fail for, too: the file cannot be read or
/// written.
fn is_of_the_file(error: &rusqlite::Error) -> bool {
    // Virtual tables say "malformed" of themselves alone.
    let is_of_a_module = error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_CORRUPT_VTAB);
    let is_full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
    is_full || (diagnosis::is_failure_of_the_file(error) && !is_of_a_module)
}

/// What a handler has failed for, if that was the file and not the event.
fn of_the_file(error: &(dyn StdError + 'static)) -> Option<rusqlite::Error> {
    let (mut found, mut next) = (None, Some(error));
    while let (None, Some(error)) = (found, next) {
        (found, next) = (error.downcast_ref::<rusqlite::Error>(), error.source());
    }
    let found = found?;
    let code = *found.sqlite_error().filter(|_| is_of_the_file(found))?;
    Some(rusqlite::Error::SqliteFailure(code, Some(format!("the handler met: {found}"))))
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

/// The outer error is that of the file.
fn handle<E>(
    connection: &mut Connection,
    handler: &mut impl FnMut(&Transaction<'_>, &Delivery<E>) -> Result<(), BoxError>,
    claim: &Claim,
    batch: &Batch<'_, E>,
) -> Result<Result<(), HandleError>, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if standing(&transaction, &claim.name)?.as_ref() != batch.before {
        return Ok(Err(HandleError::Lost));
    }
    for delivery in batch.deliveries {
        let position = delivery.position();
        // The transaction is rolled back.
        match catch_unwind(AssertUnwindSafe(|| handler(&transaction, delivery))) {
            // What comes next would be committed without what was written before.
            Ok(Ok(())) if transaction.is_autocommit() => {
                let error = "its handler has ended the transaction, or passed over an error that did".into();
                return Ok(Err(HandleError::Event { position, error }));
            }
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return match of_the_file(&*error) {
                    Some(failure) => Err(failure.into()),
                    None => Ok(Err(HandleError::Event { position, error })),
                };
            }
            Err(panic) => return Ok(Err(HandleError::of_panic(position, &*panic))),
        }
    }
    if let Some(position) = batch.unparked {
        let sql = "DELETE FROM tailfold_parked_events WHERE name = ?1 AND position = ?2";
        let there = transaction.execute(sql, (&*claim.name, position.0.cast_signed()))?;
        if there == 0 {
            // Somebody has dropped it meanwhile, so that it is not to be handled.
            transaction.rollback()?;
            return Ok(Ok(()));
        }
    }
    for (stream, position) in batch.erased() {
        transaction.execute(
            "DELETE FROM tailfold_parked_events WHERE name = ?1 AND stream = ?2 AND position < ?3",
            (&*claim.name, stream.as_str(), position.0.cast_signed()),
        )?;
    }
    if let Some(parked) = batch.parked {
        // One that was tried again stays only if nobody has dropped it meanwhile.
        let is_new = batch.before != Some(batch.after);
        park(&transaction, &claim.name, parked, is_new)?;
    }
    let json =
        serde_json::to_string(batch.after).map_err(|error| Error::codec(format!("a checkpoint: {error}")))?;
    let now = now();
    let moved = transaction.execute(
        "UPDATE tailfold_checkpoints SET checkpoint = ?1, lease_until = ?2, updated_at = ?3
             WHERE name = ?4 AND owner = ?5",
        params![
            json,
            until(now, claim.lease),
            now,
            &*claim.name,
            claim.owner.as_uuid().as_bytes().as_slice()
        ],
    )?;
    if moved != 1 {
        return Ok(Err(HandleError::Lost));
    }
    transaction.commit().map_err(error::of_commit)?;
    Ok(Ok(()))
}

fn park(transaction: &Transaction<'_>, name: &str, parked: &Parked, is_new: bool) -> rusqlite::Result<usize> {
    let Parked { position, stream, version, event_type, error, attempts, parked_at, retry_requested } =
        parked;
    transaction.execute(
        "INSERT OR REPLACE INTO tailfold_parked_events
             (name, position, stream, version, type, error, attempts, parked_at, retry_requested)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
         WHERE ?10 OR EXISTS (SELECT 1 FROM tailfold_parked_events WHERE name = ?1 AND position = ?2)",
        params![
            name,
            position.0.cast_signed(),
            stream.as_str(),
            version.0.cast_signed(),
            event_type.as_str(),
            error,
            attempts,
            parked_at.as_micros(),
            retry_requested,
            is_new
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
        f.debug_struct("SqliteReadModel").field("path", &self.file.path()).finish_non_exhaustive()
    }
}
