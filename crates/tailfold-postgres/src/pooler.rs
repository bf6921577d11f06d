//! Finds out poolers between this process and the server that give one session to many.

use std::time::Duration;

use tailfold::Error;
use tokio_postgres::SimpleQueryMessage;

use crate::connections::{Connection, Connections};
use crate::error::Failure;

/// What tells a session of the server from all others.
const SESSION: &str = "SELECT pg_backend_pid()::text || ' since ' || pg_postmaster_start_time()::text";

/// How often each connection is asked once more, beside the other one.
const LOOKS: usize = 4;

/// Fails if what looks like a connection is not one session of the server: statements that are prepared in
/// one would be looked for in another, settings would be lost or be somebody else's, and nobody would be
/// notified.
///
/// A pooler that goes round its sessions answers one connection from two of them. One that takes the session
/// that became free last gives it to the next connection that asks. Where others use the pooler meanwhile,
/// neither is sure, but likely each time.
pub(crate) async fn refuse(connections: &Connections, first: &Connection) -> Result<(), Failure> {
    let of_first = sessions_of(first, 2).await?;
    // If all are in use, one has to be enough.
    let is_shared = match connections.another(Duration::from_secs(1)).await {
        Some(second) => {
            let of_second = sessions_of(&second, 1).await?;
            are_shared(&of_first, &of_second) || {
                let (more_first, more_second) =
                    tokio::try_join!(sessions_of(first, LOOKS), sessions_of(&second, LOOKS))?;
                are_shared(&[of_first, more_first].concat(), &[of_second, more_second].concat())
            }
        }
        None => are_shared(&[of_first, sessions_of(first, LOOKS).await?].concat(), &[]),
    };
    if is_shared { Err(shared().into()) } else { Ok(()) }
}

/// What to do about such a pooler.
pub(crate) fn shared() -> Error {
    Error::unsupported(
        "a pooler between this process and the server gives sessions to transactions, as PgBouncer does with `pool_mode = \
         transaction` or `statement`: set `pool_mode = session` for this database, or connect to the server itself",
    )
}

/// Whether two connections have more or less than a session each.
fn are_shared(one: &[String], other: &[String]) -> bool {
    let differ = |sessions: &[String]| sessions.windows(2).any(|pair| matches!(pair, [a, b] if a != b));
    differ(one) || differ(other) || one.first().is_some_and(|session| other.contains(session))
}

/// The sessions that answer a connection, one after the other.
async fn sessions_of(connection: &Connection, times: usize) -> Result<Vec<String>, Failure> {
    let mut sessions = Vec::with_capacity(times);
    for _ in 0..times {
        sessions.push(session_of(connection).await?);
    }
    Ok(sessions)
}

/// By the simple protocol: nothing is prepared.
async fn session_of(connection: &Connection) -> Result<String, Failure> {
    let messages = connection.simple_query(SESSION).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let session = rows.last().ok_or_else(|| Error::corrupt("the server does not tell its session"))?;
    Ok(session.to_owned())
}
