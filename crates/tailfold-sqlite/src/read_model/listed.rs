//! What read models have kept in a file, for people who look after them.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Params, Row};
use tailfold::{CheckpointInfo, Error, EventType, Outcome, Parked, Position, Result, Timestamp, Version};

use super::checkpoint;
use super::file::{
    BUSY_TIMEOUT, add_retries, check_no_store, has_retries, has_tables, of_damage, of_opening,
};
use crate::diagnosis::Diagnosis;
use crate::error::Failure;
use crate::path;
use crate::presence::Presence;
use crate::rows::unsigned;
use crate::unwritable;

/// Where the subscriptions stand whose read models are in a file, by name. Leases and times are by the clock of the process that
/// had them. Creates and changes nothing.
///
/// # Errors
/// `Invalid` if the file cannot be opened, is a store, has several names or has no read models; `Unavailable`; `Corrupt` for a
/// file that is damaged and an entry that cannot be read.
pub fn checkpoints(path: impl AsRef<Path>) -> Result<Vec<CheckpointInfo>> {
    let listed = look(path.as_ref(), |connection| {
        rows(
            connection,
            "SELECT name, checkpoint, lease_until, updated_at,
                    (SELECT count(*) FROM tailfold_parked_events p WHERE p.name = c.name)
             FROM tailfold_checkpoints c ORDER BY name",
            [],
            info,
        )
    });
    listed.map_err(|error| error.during(format!("list the checkpoints in `{}`", path.as_ref().display())))
}

/// The events that a subscription has put aside in a read model's file, in order of position. Its name with its share. Creates and
/// changes nothing.
///
/// # Errors
/// As [`checkpoints`].
pub fn parked_events(path: impl AsRef<Path>, subscription: &str) -> Result<Vec<Parked>> {
    let listed = look(path.as_ref(), |connection| parked(connection, subscription));
    listed.map_err(|error| {
        let path = path.as_ref().display();
        error.during(format!("list what subscription `{subscription}` has parked in `{path}`"))
    })
}

/// Asks to try again what a subscription has put aside in a read model's file: the event at a position, or all of them. The
/// process that works does so within a third of a lease, once, in order of position, whatever it has handled since; what fails
/// again stays parked with its new error. Answers how many there are.
///
/// # Errors
/// As [`checkpoints`].
pub fn retry_parked(path: impl AsRef<Path>, subscription: &str, position: Option<Position>) -> Result<u64> {
    let sql = "UPDATE tailfold_parked_events SET retry_requested = 1 WHERE name = ?1 AND (?2 IS NULL OR position = ?2)";
    change(path.as_ref(), sql, subscription, position).map_err(|error| {
        let path = path.as_ref().display();
        error.during(format!("try again what subscription `{subscription}` has parked in `{path}`"))
    })
}

/// Drops what a subscription has put aside in a read model's file: the event at a position, or all of them. It is never handled;
/// the event itself stays in the log. Answers how many were dropped.
///
/// # Errors
/// As [`checkpoints`].
pub fn drop_parked(path: impl AsRef<Path>, subscription: &str, position: Option<Position>) -> Result<u64> {
    let sql = "DELETE FROM tailfold_parked_events WHERE name = ?1 AND (?2 IS NULL OR position = ?2)";
    change(path.as_ref(), sql, subscription, position).map_err(|error| {
        let path = path.as_ref().display();
        error.during(format!("drop what subscription `{subscription}` has parked in `{path}`"))
    })
}

fn change(path: &Path, sql: &str, name: &str, position: Option<Position>) -> Result<u64> {
    at(path, |path| {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| of_opening(error.into()))?;
        check_models(&connection)?;
        let presence = Presence::of(&connection, path)?;
        // What came from an erased stream is not to stay in free pages.
        connection.pragma_update(None, "secure_delete", true)?;
        add_retries(&connection)?;
        let changed = connection.execute(sql, (name, position.map(|position| position.0.cast_signed())))?;
        presence.look(Outcome::Unknown)?;
        Ok(changed as u64)
    })
}

fn look<T>(path: &Path, work: impl Fn(&Connection) -> Result<T, Failure>) -> Result<T> {
    at(path, |path| {
        let (connection, immutable) = unwritable::open(path).map_err(of_opening)?;
        check_models(&connection)?;
        let found = work(&connection)?;
        // What was read is worth nothing if somebody has written to a file that was taken for one that nobody
        // writes to.
        if let Some(immutable) = immutable {
            immutable.check(path)?;
        }
        Ok(found)
    })
}

/// Does something with a file that is there, again where it could not be read.
fn at<T>(path: &Path, attempt: impl Fn(&Path) -> Result<T, Failure>) -> Result<T> {
    let path = path::absolute(path)?;
    path::check(&path, false)?;
    if !path.exists() {
        return Err(Error::invalid("there is no such file"));
    }
    let done = Diagnosis::default().insist(&path, "looking at a read model", || Ok(attempt(&path)?));
    done.map_err(of_damage)
}

fn check_models(connection: &Connection) -> Result<(), Failure> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_no_store(connection).map_err(of_opening)?;
    if !has_tables(connection)? {
        return Err(Error::invalid("there are no read models in the file").into());
    }
    Ok(())
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

pub(super) fn parked(connection: &Connection, subscription: &str) -> Result<Vec<Parked>, Failure> {
    // Whoever looks brings nothing up to date.
    let retry = if has_retries(connection)? { "retry_requested" } else { "0" };
    let sql = format!(
        "SELECT position, stream, version, type, error, attempts, parked_at, {retry} FROM tailfold_parked_events
         WHERE name = ?1 ORDER BY position"
    );
    rows(connection, &sql, [subscription], one_parked)
}

fn one_parked(row: &Row<'_>) -> Result<Parked, Failure> {
    let (stream, event_type): (String, String) = (row.get(1)?, row.get(3)?);
    Ok(Parked {
        position: Position(number(row, 0, "position")?),
        stream: stream.parse()?,
        version: Version(number(row, 2, "version")?),
        event_type: EventType::new(&event_type)?,
        error: row.get(4)?,
        attempts: row.get(5)?,
        parked_at: Timestamp::from_micros(row.get(6)?),
        retry_requested: row.get(7)?,
    })
}

fn number(row: &Row<'_>, column: usize, what: &str) -> Result<u64, Failure> {
    unsigned(row.get(column)?, what).map_err(|reason| Error::corrupt(reason).into())
}
