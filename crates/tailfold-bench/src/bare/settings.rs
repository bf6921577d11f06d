//! Connections, set up as `tailfold-sqlite` sets up its own.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::harness::Result;

const SCHEMA: &str = include_str!("../../../tailfold-sqlite/src/schema.sql");
const WRITER_CACHE_KIB: i64 = 256 << 10;
const HOUSEKEEPER_CACHE_KIB: i64 = 1 << 10;
const READER_CACHE_KIB: i64 = 8 << 10;

pub(super) fn create(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection.pragma_update(None, "page_size", 4096)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = wal", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(format!("journal mode stays {mode}").into());
    }
    connection.execute_batch(SCHEMA)?;
    set_up_writing(&connection, WRITER_CACHE_KIB)?;
    Ok(connection)
}

pub(super) fn housekeeper(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    set_up_writing(&connection, HOUSEKEEPER_CACHE_KIB)?;
    Ok(connection)
}

/// Brings a store's log to the size that it keeps, so that no side's appends wait for a file to grow while those of the
/// other do not.
pub(crate) fn grow_log(path: &Path) -> Result<()> {
    let connection = housekeeper(path)?;
    connection.execute_batch(
        "CREATE TABLE ballast (bytes BLOB);
         INSERT INTO ballast VALUES (zeroblob(80 << 20));
         DROP TABLE ballast;",
    )?;
    let left: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)
    })?;
    if left == 0 { Ok(()) } else { Err(format!("{left} pages are left in the log").into()) }
}

/// As the store's own for reading.
pub(crate) fn reader(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(connection)
}

fn set_up_writing(connection: &Connection, cache_kib: i64) -> Result<()> {
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(())
}
