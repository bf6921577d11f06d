//! What went wrong, in the words of the contract.

use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use tailfold::{Error, Outcome};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use crate::pooler;

/// Why one attempt failed, and so what to do about it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection was to be had: nothing was sent.
    NotSent(Error),
    /// The connection broke: what was sent may have been done, or may still be.
    Lost(Error),
    /// The server undid it, and the same may succeed in a moment: a deadlock, a shutdown, too many connections.
    Undone(Error),
    /// The server undid it, since it takes no writes: it is not the primary any more.
    NotPrimary(Error),
    /// The server undid it: somebody has held a lock that it needs for longer than it waits.
    Locked(Error),
    /// Nobody answered for so long: what was sent may have been done, or may still be.
    Silent(Duration),
    /// Somebody else recorded an event at the same version of the same stream in this moment.
    Raced,
    /// It makes no sense to try again.
    Final(Error),
}

impl Failure {
    /// All connections of the pool were lent to others for so long.
    pub(crate) fn none_free(after: Duration) -> Self {
        let told = format!("no connection of the pool became free in {after:?}");
        Self::NotSent(Error::unavailable(Outcome::NotDone, told))
    }

    /// Nothing was recorded, since the sequence of positions was behind what this process has seen.
    pub(crate) fn not_reached() -> Self {
        let told = "the sequence of positions is behind the log, or its last value is not shown to this role";
        Self::Undone(Error::unavailable(Outcome::NotDone, told))
    }

    /// Nobody has answered since.
    pub(crate) fn silent_since(begun: Instant) -> Self {
        Self::Silent(Duration::from_millis(begun.elapsed().as_millis() as u64))
    }

    /// Whether what was sent may have been done.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Silent(_))
    }

    /// The same of a request that does nothing by itself: what was to come after it was not sent.
    pub(crate) fn of_nothing_done(self) -> Self {
        match self {
            Self::Lost(error) => Self::NotSent(not_done(error)),
            Self::Silent(time) => Self::NotSent(too_late(time, Outcome::NotDone)),
            other => other,
        }
    }

    /// The error for a caller who does not try again.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::NotSent(error)
            | Self::Lost(error)
            | Self::Undone(error)
            | Self::NotPrimary(error)
            | Self::Locked(error)
            | Self::Final(error) => error,
            Self::Silent(time) => too_late(time, Outcome::Unknown),
            Self::Raced => Error::unavailable(Outcome::NotDone, "others appended to the stream all the time"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            if is_of_the_client(&error) {
                return Self::Final(
                    Error::corrupt("a value does not have the type that it should").caused_by(error),
                );
            }
            if is_of_tls(&error) {
                return Self::Final(Error::invalid("no TLS with the server").caused_by(chain(&error)));
            }
            return Self::Lost(Error::unavailable(
                Outcome::Unknown,
                format!("no connection: {}", chain(&error)),
            ));
        };
        let message = || format!("{} (SQLSTATE {})", answer.message(), answer.code().code());
        let undone = || Self::Undone(Error::unavailable(Outcome::NotDone, message()));
        match answer.code() {
            code if *code == SqlState::UNIQUE_VIOLATION && answer.constraint() == Some("events_version") => {
                Self::Raced
            }
            code if *code == SqlState::UNIQUE_VIOLATION && answer.constraint() == Some("events_pkey") => {
                Self::Final(Error::corrupt(format!(
                    "a position is given out that the log has already: its sequence is behind it. Connect again, which sets \
                     it right: {}",
                    message()
                )))
            }
            // What was prepared in this session is not there, or what was not is.
            code if [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code) => {
                Self::Final(pooler::shared().caused_by(Error::unavailable(Outcome::NotDone, message())))
            }
            code if *code == SqlState::UNDEFINED_TABLE => Self::Final(Error::invalid(format!(
                "{}; was the schema renamed or dropped? Connect again to what is to be used",
                message()
            ))),
            code if *code == SqlState::QUERY_CANCELED => Self::Final(Error::unavailable(
                Outcome::NotDone,
                format!(
                    "{}: it took longer than the `statement_timeout` of the session, or somebody has ended it",
                    message()
                ),
            )),
            code if *code == SqlState::LOCK_NOT_AVAILABLE => {
                Self::Locked(Error::unavailable(Outcome::NotDone, message()))
            }
            code if is_a_goodbye(code) => Self::Lost(Error::unavailable(Outcome::Unknown, message())),
            code if is_passing(code) => undone(),
            // Full disks and the like, and what the system could not do.
            code if code.code().starts_with("53") || code.code().starts_with("58") => {
                Self::Final(Error::unavailable(Outcome::NotDone, message()))
            }
            code if code.code().starts_with("XX") => Self::Final(Error::corrupt(message())),
            code if [SqlState::FEATURE_NOT_SUPPORTED, SqlState::UNDEFINED_FUNCTION].contains(code) => {
                Self::Final(Error::unsupported(message()))
            }
            code if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
                Self::NotPrimary(Error::unavailable(Outcome::NotDone, message()))
            }
            _ => Self::Final(Error::invalid(message())),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            // Nothing was sent but a greeting.
            PoolError::Backend(error) => match Self::from(error).of_nothing_done() {
                Self::Undone(error) => Self::NotSent(error),
                other => other,
            },
            PoolError::Timeout(TimeoutType::Wait) => Self::NotSent(Error::unavailable(
                Outcome::NotDone,
                "no connection of the pool became free in time",
            )),
            PoolError::Timeout(_) => Self::NotSent(Error::unavailable(
                Outcome::NotDone,
                "the server did not answer to a new connection in time",
            )),
            PoolError::Closed => Self::Final(closed()),
            error => Self::NotSent(
                Error::unavailable(Outcome::NotDone, "no connection to the server").caused_by(error),
            ),
        }
    }
}

/// Said in the middle of something, by a server that ends the session, or by somebody between who has lost the server: what came
/// of what was sent, nobody knows.
fn is_a_goodbye(code: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN]
        .contains(code)
        || code.code().starts_with("08")
}

/// Answers that may be others in a moment.
fn is_passing(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::IDLE_SESSION_TIMEOUT,
    ]
    .contains(code)
}

fn is_of_the_client(error: &tokio_postgres::Error) -> bool {
    // The driver does not tell its own kinds apart otherwise.
    let text = error.to_string();
    ["error serializing parameter", "error deserializing column", "invalid column", "invalid configuration"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// What was said in the handshake will be said again. A connection that breaks meanwhile is another matter.
fn is_of_tls(error: &tokio_postgres::Error) -> bool {
    let refused = error.to_string().contains("TLS handshake");
    let broke = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|io| io.kind() != std::io::ErrorKind::InvalidData);
    refused && !broke
}

/// An error and its causes: the driver's errors do not tell their causes themselves.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// The same, where it is known that nothing was done.
fn not_done(error: Error) -> Error {
    Error::unavailable(Outcome::NotDone, error.to_string())
}

/// Whoever waits for longer than this is told so.
pub(crate) fn too_late(deadline: Duration, outcome: Outcome) -> Error {
    Error::unavailable(outcome, format!("no answer in {deadline:?}"))
}

/// The store was closed.
pub(crate) fn closed() -> Error {
    Error::unavailable(Outcome::NotDone, "the store is closed")
}
