//! Why a request has no result, and what follows from it.

use std::fmt;

use serde::Deserialize;
use tailfold::{Error, Outcome};

/// Why a request has no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused.
    Refused(Refusal),
    /// Nobody was there to take it: it was not done.
    Nobody(String),
    /// No answer, or none that can be read: it may have been done.
    Silence(String),
    /// What was sent is stored in another stream than the store's, of that name.
    Elsewhere(String),
    /// The store was closed.
    Closed,
}

/// An error of the JetStream API.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    code: u64,
    #[serde(default, rename = "err_code")]
    pub(crate) error: u64,
    #[serde(default)]
    description: String,
}

/// Error codes that are looked at.
pub(crate) mod code {
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    /// Another message with the same expectation is being stored.
    pub(crate) const IN_FLIGHT: u64 = 10164;
    pub(crate) const NO_MESSAGE: u64 = 10037;
    /// What deleting a message answers that is not there, depending on where it would be.
    pub(crate) const NOT_DELETED: u64 = 10057;
    pub(crate) const NO_SEQUENCE: u64 = 10043;
    /// Also what an election looks like.
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    pub(crate) const MESSAGE_TOO_LARGE: u64 = 10054;
    /// What a server answers, as its own fault, to a stream that it can never have.
    pub(crate) const INVALID_STREAM: u64 = 10052;
    pub(crate) const NO_REPLICAS: u64 = 10074;
    /// Fewer servers of the cluster are there than a stream needs, as while it starts.
    pub(crate) const NO_PEERS: u64 = 10005;
    /// Another stream has the subjects.
    pub(crate) const SUBJECT_OVERLAP: u64 = 10065;
}

impl Failure {
    /// Whether the same request may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Nobody(_) | Self::Silence(_) => true,
            Self::Elsewhere(_) | Self::Closed => false,
            Self::Refused(refusal) if matches!(refusal.error, code::INVALID_STREAM | code::NO_REPLICAS) => {
                false
            }
            Self::Refused(refusal) => {
                refusal.code >= 500
                    || matches!(
                        refusal.error,
                        code::STREAM_NOT_FOUND | code::WRONG_LAST_SEQUENCE | code::IN_FLIGHT | code::NO_PEERS
                    )
            }
        }
    }

    /// Whether the request may have been carried out.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(self, Self::Silence(_))
    }

    /// Whether the server said no, so that the request was not carried out.
    pub(crate) fn is_refused(&self, error: u64) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.error == error)
    }

    /// As the caller sees it, once there is no more waiting.
    pub(crate) fn into_error(self, outcome: Outcome) -> Error {
        match self {
            Self::Refused(refusal) if refusal.error == code::MESSAGE_TOO_LARGE => {
                Error::invalid("a message is larger than the stream allows").caused_by(refusal.to_string())
            }
            Self::Refused(refusal) if matches!(refusal.error, code::INVALID_STREAM | code::NO_REPLICAS) => {
                Error::invalid("the server cannot have such a stream").caused_by(refusal.to_string())
            }
            Self::Refused(refusal) if refusal.error == code::NO_PEERS => Error::unavailable(
                outcome,
                "fewer servers of the cluster are there, with JetStream and room for the stream, than it is to have replicas: start \
                 them, or set fewer replicas",
            )
            .caused_by(refusal.to_string()),
            Self::Refused(refusal) if refusal.error == code::SUBJECT_OVERLAP => Error::invalid(
                "another stream of the server has the store's subjects: remove it, or choose another name",
            )
            .caused_by(refusal.to_string()),
            Self::Refused(refusal) => {
                Error::unavailable(outcome, "the server refused").caused_by(refusal.to_string())
            }
            Self::Nobody(reason) | Self::Silence(reason) => {
                Error::unavailable(outcome, "the server did not answer").caused_by(reason)
            }
            Self::Elsewhere(stream) => Error::unsupported(format!(
                "the server has stored it in stream `{stream}`, where no reader finds it: remove the mapping of subjects, or the import, \
                 that leads there, and the last message of that stream",
            )),
            Self::Closed => Error::unavailable(outcome, "the store was closed"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Nobody(reason) | Self::Silence(reason) => f.write_str(reason),
            Self::Elsewhere(stream) => write!(f, "stored in stream `{stream}`"),
            Self::Closed => f.write_str("the store was closed"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (JetStream error {})", self.description, self.error)
    }
}
