//! The file: how it is recognised, created, and how connections to it are set up.

use std::time::{Duration, Instant, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tailfold::{Error, StoreId, Timestamp};

use crate::checkpoint::LOG_BYTES;
use crate::config::{SqliteConfig, Synchronous};
use crate::error::Result;
use crate::kind_index;
use crate::unwritable::{self, Immutable};

/// `tail`, in ASCII.
pub(crate) const APPLICATION_ID: i32 = 0x7461_696C;
const FORMAT: i32 = 2;
/// Before the index of kinds; read as it is where the file may not be written.
const FORMAT_1: i32 = 1;
const SCHEMA: &str = concat!(include_str!("schema.sql"), include_str!("snapshots.sql"));
pub(crate) const SNAPSHOTS: &str = include_str!("snapshots.sql");
const TO_FORMAT_2: &str = include_str!("to_format_2.sql");

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    Housekeeper,
}

/// Opens one connection; the file must be a store already, unless [`prepare`] is to make it one. The path is absolute.
pub(crate) fn connect(config: &SqliteConfig, role: Role) -> Result<Connection> {
    if config.read_only {
        return Ok(connect_unwriting(config, role)?.0);
    }
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags |= match role {
        Role::Reader => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Role::Writer if config.create_if_missing => {
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
        }
        Role::Writer | Role::Housekeeper => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let connection = Connection::open_with_flags(&config.path, flags)?;
    set_up(&connection, config, role)?;
    Ok(connection)
}

/// As [`connect`], for a store that is open for reading only: where nothing may be written beside it, the file is read as it is.
pub(crate) fn connect_unwriting(
    config: &SqliteConfig,
    role: Role,
) -> Result<(Connection, Option<Immutable>)> {
    let (connection, immutable) = unwritable::open(&config.path)?;
    set_up(&connection, config, role)?;
    Ok((connection, immutable))
}

fn set_up(connection: &Connection, config: &SqliteConfig, role: Role) -> Result<()> {
    connection.busy_timeout(config.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise SQLite plans a statement with `LIMIT ?` anew each time that another number is bound, which takes longer
    // than a small read.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let cache_bytes = match role {
        Role::Writer => config.writer_cache_bytes,
        Role::Reader => config.reader_cache_bytes,
        Role::Housekeeper => 1 << 20,
    };
    // Negative: KiB instead of pages.
    let cache_kib = i64::try_from(cache_bytes / 1024).unwrap_or(i64::MAX).max(64);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(())
}

/// What only connections that write need, once the file is known to be a store.
pub(crate) fn set_up_writing(connection: &Connection, config: &SqliteConfig) -> Result<()> {
    let synchronous = match config.synchronous {
        Synchronous::Full => "full",
        Synchronous::Normal => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    set_up_log(connection)?;
    if let Some(pages) = config.page_limit {
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    Ok(())
}

/// What connections need that write by way of a log, whatever the file is.
pub(crate) fn set_up_log(connection: &Connection) -> Result<()> {
    // On macOS only this reaches the disk; elsewhere they change nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    // What is removed, moved or replaced is overwritten with zeros at once: an erase cannot find the copies that splitting a
    // page, or replacing a row, has left in free space before.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES.cast_signed())?;
    Ok(())
}

/// Makes sure that the file is a store of this format: creates it where there is nothing, brings one of an earlier format up
/// to date unless it is opened for reading only. A file of anybody else's is left untouched.
pub(crate) fn prepare(connection: &mut Connection, config: &SqliteConfig) -> Result<StoreId> {
    if format(connection)?.is_none() {
        check_not_cut_off(connection)?;
        if config.read_only || !config.create_if_missing {
            return Err(Error::invalid("the file is empty: there is no store in it").into());
        }
        create(connection)?;
    }
    if !config.read_only && connection.is_readonly("main")? {
        return Err(Error::invalid("the file is read-only; `read_only(true)` opens it for reading").into());
    }
    if !config.read_only {
        // A restored backup is not in this mode yet.
        switch_to_wal(connection, config.busy_timeout)?;
        migrate(connection)?;
        raise_low_floor(connection)?;
    }
    store_id(connection)
}

/// The format of the store in the file; `None` if the file is empty.
fn format(connection: &Connection) -> Result<Option<i32>> {
    // In one statement, since another process may be making the store just now.
    let sql = "SELECT application_id, (SELECT count(*) FROM sqlite_schema), user_version
               FROM pragma_application_id, pragma_user_version";
    let (application_id, tables, format): (i32, i32, i32) =
        connection.query_row(sql, [], |row| row.try_into())?;
    if application_id == 0 && tables == 0 {
        return Ok(None);
    }
    if application_id != APPLICATION_ID {
        return Err(Error::invalid("the file is an SQLite database, but not a tailfold store").into());
    }
    match format {
        format @ (FORMAT_1 | FORMAT) => Ok(Some(format)),
        newer if newer > FORMAT => Err(Error::unsupported(format!(
            "the file has format version {newer}, this program reads up to {FORMAT}: update it"
        ))
        .into()),
        other => Err(Error::corrupt(format!("the file has format version {other}, which never was")).into()),
    }
}

/// Whether the file has the index of kinds.
pub(crate) fn has_kinds(connection: &Connection) -> Result<bool> {
    Ok(format(connection)? != Some(FORMAT_1))
}

/// Brings a store of an earlier format up to this one, all or nothing. Writers wait for it, readers do not.
pub(crate) fn migrate(connection: &Connection) -> Result<()> {
    if format(connection)? != Some(FORMAT_1) {
        return Ok(());
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    // Another process may have been first.
    if format(&transaction)? == Some(FORMAT_1) {
        transaction.execute_batch(TO_FORMAT_2)?;
        kind_index::rebuild(&transaction)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    Ok(transaction.commit()?)
}

/// Refuses a database without tables that has had a write-ahead log: stores by earlier releases were in the log alone at first, and
/// this is one that was copied without it.
fn check_not_cut_off(connection: &Connection) -> Result<()> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    // Another process may have made the store meanwhile, which is done before the log.
    if mode.eq_ignore_ascii_case("wal") && format(connection)?.is_none() {
        return Err(Error::invalid(
            "the file was copied without the `-wal` file that lay beside it, and all that it held was in there: copy both, or \
             make a copy by `backup_to` or the command `backup`",
        )
        .into());
    }
    Ok(())
}

/// Before there is a log, so that the file alone says what it is, whenever it is copied.
fn create(connection: &mut Connection) -> Result<()> {
    connection.pragma_update(None, "page_size", 4096)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been first.
    if format(&transaction)?.is_none() {
        transaction.execute_batch(SCHEMA)?;
        transaction.execute(
            "INSERT INTO meta (one, store_id, created_at, positions_used) VALUES (1, ?1, ?2, 0)",
            (StoreId::fresh().as_uuid().as_bytes(), Timestamp::from(SystemTime::now()).as_micros()),
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    Ok(transaction.commit()?)
}

/// The switch needs the file for itself, and SQLite's busy timeout does not cover every lock on the way.
pub(crate) fn switch_to_wal(connection: &Connection, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = wal", [], |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => {
                return Err(Error::unsupported(format!(
                    "the file system does not support a write-ahead log (journal mode stays `{mode}`)"
                ))
                .into());
            }
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begun.elapsed() < patience =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The highest position that was ever given out.
pub(crate) fn last_position_used(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT max((SELECT coalesce(max(position), 0) FROM events), (SELECT positions_used FROM meta))",
    )?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Every removal raises the floor to what it has recorded. Where it is lower, something else has written to the file.
fn raise_low_floor(connection: &Connection) -> Result<()> {
    let sql = "UPDATE meta SET positions_used = (SELECT max(erased) FROM streams WHERE erased IS NOT NULL)
               WHERE positions_used < (SELECT coalesce(max(erased), 0) FROM streams WHERE erased IS NOT NULL)";
    let find = "SELECT positions_used, (SELECT coalesce(max(erased), 0) FROM streams WHERE erased IS NOT NULL) FROM meta";
    let (used, removed): (i64, i64) = connection.query_row(find, [], |row| row.try_into())?;
    if used < removed {
        tracing::warn!(
            positions_used = used,
            tombstone = removed,
            "a store's tombstone lies above the positions that count as used: something else has written to the file; run `verify`"
        );
        connection.execute(sql, [])?;
    }
    Ok(())
}

/// Finds positions that were given out twice, so that followers missed events: an erase by a process that had not appended just
/// before once did that. Every event that was ever recorded, whatever is left of it, has had a position of its own; the last version
/// of a life tells how many it had.
pub(crate) fn check_positions(connection: &Connection) -> Result<()> {
    let sql = "SELECT (SELECT coalesce(sum((
                   SELECT CASE e.type WHEN 'tailfold.truncated' THEN 1 ELSE e.version END
                   FROM events e WHERE e.stream = s.ref ORDER BY e.version DESC LIMIT 1)), 0) FROM streams s),
               (SELECT max((SELECT coalesce(max(position), 0) FROM events), positions_used) FROM meta),
               (SELECT coalesce(max(erased), 0) FROM streams WHERE erased IS NOT NULL),
               (SELECT positions_used FROM meta)";
    let (recorded, used, tombstone, floor): (i64, i64, i64, i64) =
        connection.query_row(sql, [], |row| row.try_into())?;
    if tombstone > floor {
        return Err(Error::corrupt(format!(
            "a stream's end lies at position {tombstone}, and only positions up to {floor} count as used: something else has \
             written to the file"
        ))
        .into());
    }
    if recorded > used {
        return Err(Error::corrupt(format!(
            "{recorded} events were recorded at {used} positions: some were given out twice, and whoever had read up to them has \
             missed events; build read models and projections anew, over a new store that `export` and `import` make of this one"
        ))
        .into());
    }
    Ok(())
}

pub(crate) fn store_id(connection: &Connection) -> Result<StoreId> {
    let bytes: Vec<u8> =
        connection.prepare_cached("SELECT store_id FROM meta")?.query_row([], |row| row.get(0))?;
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| Error::corrupt("the store id has not 16 bytes"))?;
    Ok(StoreId::from_uuid(uuid::Uuid::from_bytes(bytes)))
}

/// Gives a store a new name: what was anchored in the history that a backup was taken from must not match.
pub(crate) fn renew_store_id(connection: &Connection) -> Result<()> {
    connection.execute("UPDATE meta SET store_id = ?1", [StoreId::fresh().as_uuid().as_bytes()])?;
    Ok(())
}
