//! What goes wrong in here, before it becomes the public error.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, Value};
use tailfold::{Error, Outcome};

/// The driver's failure, or the server's.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Redis(RedisError),
    /// What was asked to connect did not.
    Connect(RedisError),
    /// No answer within that many milliseconds.
    TimedOut(u128),
    ConnectTimedOut(u128),
    /// The runtime of the task that connected has ended.
    Ended,
    /// Not what the step answers.
    Reply(&'static str),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Failure {
    /// A refusal among the answers to several commands.
    pub(crate) fn in_answer(answer: &Value) -> Option<Self> {
        match answer {
            Value::ServerError(error) => Some(Self::Redis(error.clone().into())),
            _ => None,
        }
    }

    /// Whether a connection is worth nothing after this.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Redis(error) => {
                error.is_unrecoverable_error() || error.is_io_error() || code(error) == "NOAUTH"
            }
            Self::Connect(_) | Self::ConnectTimedOut(_) | Self::Ended => true,
            // One that nobody answers on is found out by whoever waits.
            Self::TimedOut(_) | Self::Reply(_) => false,
        }
    }

    /// Whether a connection to a cluster is worth nothing after this: it looks after those to its nodes as long as it runs itself.
    pub(crate) fn ends_cluster(&self) -> bool {
        match self {
            Self::Redis(error) => {
                error.is_connection_dropped() && error.to_string().contains("redis_cluster:")
            }
            Self::Connect(_) | Self::ConnectTimedOut(_) | Self::Ended => true,
            Self::TimedOut(_) | Self::Reply(_) => false,
        }
    }

    /// Whether the server is no primary, or not any more, which it only says when it is asked to write.
    pub(crate) fn is_of_replica(&self) -> bool {
        matches!(self, Self::Redis(error) if code(error) == "READONLY")
    }

    /// Whether the connection was found dead: another one may do at once.
    pub(crate) fn is_dead_connection(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_connection_dropped())
    }

    pub(crate) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Redis(error) if code(error) == "NOSCRIPT")
    }

    /// The public error; `lost` is the outcome of a request that was sent and not answered.
    pub(crate) fn public(self, lost: Outcome) -> Error {
        let unavailable = |message: &str| Error::unavailable(Outcome::NotDone, message);
        match self {
            Self::TimedOut(ms) => {
                Error::unavailable(lost, format!("the server did not answer within {ms} ms"))
            }
            Self::ConnectTimedOut(ms) => unavailable(&format!("no server let us in within {ms} ms")),
            Self::Ended => unavailable("the runtime that was connecting has ended"),
            Self::Reply(wanted) => Error::corrupt(format!("the server's answer is not {wanted}")),
            Self::Connect(error) => of_driver(error, Outcome::NotDone),
            Self::Redis(error) => of_driver(error, lost),
        }
    }
}

fn of_driver(error: RedisError, lost: Outcome) -> Error {
    let unavailable = |message: &str| Error::unavailable(Outcome::NotDone, message);
    let public = match error.kind() {
        ErrorKind::InvalidClientConfig | ErrorKind::Client => Error::invalid("the settings cannot work"),
        ErrorKind::Io if is_about_tls(&error) => Error::invalid("no TLS connection to the server"),
        ErrorKind::Io | ErrorKind::Parse => Error::unavailable(lost, "the connection failed"),
        ErrorKind::ClusterConnectionNotFound => {
            unavailable("no node of the cluster is reachable for this key")
        }
        ErrorKind::UnexpectedReturnType => Error::corrupt("the server's answer is not what was asked for"),
        kind => match code(&error).as_str() {
            "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => Error::invalid("the server does not let us in"),
            _ if kind == ErrorKind::AuthenticationFailed => Error::invalid("the server does not let us in"),
            "OOM" => unavailable("the server is full (`maxmemory`) and evicts nothing"),
            "READONLY" => unavailable("the server is a read-only replica"),
            "LOADING" => unavailable("the server is still loading its data"),
            "MISCONF" => unavailable("the server refuses to write, because it cannot save to its disk"),
            "BUSY" => unavailable("the server is busy with a script"),
            "NOREPLICAS" => unavailable("the server refuses to write, because it has too few replicas"),
            "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" => {
                unavailable("the cluster cannot serve this key at the moment")
            }
            "MOVED" | "ASK" => Error::invalid("the server belongs to a cluster (setting `cluster=true`)"),
            "WRONGTYPE" => Error::corrupt("the key holds something else than a hash of snapshots"),
            "ERR" if is_unknown_to_server(&error) => {
                Error::unsupported("the server does not know a command that is needed")
            }
            "ERR" if says(&error, "DB index") => Error::invalid("the server has no such database"),
            _ => Error::unavailable(lost, "the server refused"),
        },
    };
    public.caused_by(error.to_string())
}

/// The word that the server's error begins with. Servers before release 7 put what happened in a script behind an `ERR`.
fn code(error: &RedisError) -> String {
    let code = error.code().unwrap_or_default();
    let known = ["OOM", "READONLY", "MISCONF", "NOREPLICAS", "WRONGTYPE", "NOPERM"];
    let inner =
        (code == "ERR").then(|| known.iter().find(|known| says(error, &format!("-{known} ")))).flatten();
    inner.map_or_else(|| code.to_owned(), |inner| (*inner).to_owned())
}

fn is_unknown_to_server(error: &RedisError) -> bool {
    says(error, "unknown command")
        || says(error, "Unknown Redis command")
        || says(error, "unknown subcommand")
}

fn says(error: &RedisError, text: &str) -> bool {
    error.detail().is_some_and(|detail| detail.contains(text))
}

fn is_about_tls(error: &RedisError) -> bool {
    // The driver shares what it was told by the stream.
    let shared = error.source().and_then(|source| source.downcast_ref::<Arc<dyn StdError + Send + Sync>>());
    let told = shared.and_then(|shared| shared.downcast_ref::<io::Error>());
    told.is_some_and(|told| told.kind() == io::ErrorKind::InvalidData)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::ServerErrorKind;
    use tailfold::ErrorKind as Kind;

    fn from_server(code: &str, detail: &str) -> Failure {
        Failure::Redis(redis::make_extension_error(code.to_owned(), Some(detail.to_owned())))
    }

    #[test]
    fn a_server_that_cannot_write_is_unavailable_and_nothing_was_done() {
        for code in ["OOM", "READONLY", "LOADING", "MISCONF", "BUSY", "NOREPLICAS", "CLUSTERDOWN"] {
            for failure in
                [from_server(code, "x"), from_server("ERR", &format!("Error running script: -{code} x"))]
            {
                let kind = failure.public(Outcome::NotDone).kind().clone();
                assert_eq!(kind, Kind::Unavailable(Outcome::NotDone), "{code}");
            }
        }
        assert!(from_server("READONLY", "x").is_of_replica());
        assert!(!from_server("OOM", "x").ends_connection());
    }

    #[test]
    fn what_nobody_can_repair_by_waiting_is_told_apart() {
        for (failure, kind) in [
            (from_server("WRONGPASS", "x"), Kind::Invalid),
            (from_server("NOPERM", "x"), Kind::Invalid),
            (from_server("MOVED", "1 h:1"), Kind::Invalid),
            (from_server("ERR", "DB index is out of range"), Kind::Invalid),
            (from_server("ERR", "unknown command 'EVALSHA'"), Kind::Unsupported),
            (from_server("WRONGTYPE", "x"), Kind::Corrupt),
            (Failure::Redis((ErrorKind::Server(ServerErrorKind::NoPerm), "x").into()), Kind::Invalid),
            (Failure::Reply("a number"), Kind::Corrupt),
        ] {
            assert_eq!(failure.clone().public(Outcome::Unknown).kind(), &kind, "{failure:?}");
        }
    }

    #[test]
    fn a_request_without_an_answer_may_have_been_served() {
        let lost = Failure::Redis(io::Error::from(io::ErrorKind::BrokenPipe).into());
        assert!(lost.is_dead_connection());
        assert!(lost.public(Outcome::Unknown).is_outcome_unknown());
        assert!(Failure::TimedOut(5).public(Outcome::Unknown).is_outcome_unknown());
        let refused = Failure::Connect(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        assert!(!refused.public(Outcome::Unknown).is_outcome_unknown());
    }
}
