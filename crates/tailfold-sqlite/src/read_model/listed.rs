//! What read models have kept in a file, for people who look after them.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Params, Row};
use tailfold::{CheckpointInfo, Error, EventType, Parked, Position, Result, Timestamp, Version};

use super::{BUSY_TIMEOUT, check_no_store, checkpoint};
use crate::error::Failure;
use crate::rows::unsigned;

/// Where the subscriptions stand whose read models are in a file, by name. Leases and times are by the clock of the process that
/// had them. Creates and changes nothing.
///
/// # Errors
/// `Invalid` if the file cannot be opened, is a store or has no read models; `Unavailable`; `Corrupt` for an entry that cannot be
/// read.
pub fn checkpoints(path: impl AsRef<Path>) -> Result<Vec<CheckpointInfo>> {
    let listed = look(path.as_ref()).and_then(|connection| {
        rows(
            &connection,
            "SELECT name, checkpoint, lease_until, updated_at,
                    (SELECT count(*) FROM tailfold_parked_events p WHERE p.name = c.name)
             FROM tailfold_checkpoints c ORDER BY name",
            [],
            info,
        )
    });
    listed.map_err(|failure| {
        Error::from(failure).during(format!("list the checkpoints in `{}`", path.as_ref().display()))
    })
}

/// The events that a subscription has put aside in a read model's file, in order of position. Its name with its share. To handle
/// one again, read it from the log at its position. Creates and changes nothing.
///
/// # Errors
/// As [`checkpoints`].
pub fn parked_events(path: impl AsRef<Path>, subscription: &str) -> Result<Vec<Parked>> {
    let listed = look(path.as_ref()).and_then(|connection| {
        rows(
            &connection,
            "SELECT position, stream, version, type, error, attempts, parked_at FROM tailfold_parked_events
             WHERE name = ?1 ORDER BY position",
            [subscription],
            parked,
        )
    });
    listed.map_err(|failure| {
        let path = path.as_ref().display();
        Error::from(failure).during(format!("list what subscription `{subscription}` has parked in `{path}`"))
    })
}

fn look(path: &Path) -> Result<Connection, Failure> {
    if !path.exists() {
        return Err(Error::invalid("there is no such file").into());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_no_store(&connection)?;
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('tailfold_checkpoints', 'tailfold_parked_events')";
    let tables: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if tables < 2 {
        return Err(Error::invalid("there are no read models in the file").into());
    }
    Ok(connection)
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query(parameters)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

fn info(row: &Row<'_>) -> Result<CheckpointInfo, Failure> {
    let (name, json): (String, Option<String>) = (row.get(0)?, row.get(1)?);
    // Zero once it was given back.
    let lease = Some(row.get(2)?).filter(|until| *until != 0);
    Ok(CheckpointInfo {
        checkpoint: json.map(|json| checkpoint(&name, &json)).transpose()?,
        name,
        leased_until: lease.map(Timestamp::from_micros),
        updated_at: Timestamp::from_micros(row.get(3)?),
        parked: number(row, 4, "number of parked events")?,
    })
}

fn parked(row: &Row<'_>) -> Result<Parked, Failure> {
    let (stream, event_type): (String, String) = (row.get(1)?, row.get(3)?);
    Ok(Parked {
        position: Position(number(row, 0, "position")?),
        stream: stream.parse()?,
        version: Version(number(row, 2, "version")?),
        event_type: EventType::new(&event_type)?,
        error: row.get(4)?,
        attempts: row.get(5)?,
        parked_at: Timestamp::from_micros(row.get(6)?),
    })
}

fn number(row: &Row<'_>, column: usize, what: &str) -> Result<u64, Failure> {
    unsigned(row.get(column)?, what).map_err(|reason| Error::corrupt(reason).into())
}
