//! One public error with coarse kinds: a kind exists where a caller would act differently.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::event::Position;
use crate::stream::{Head, StreamId};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, why, and what the caller can do about it.
///
/// [`Error::kind`] is for programs; `Display` names the operation and the thing, in lower case, and ends with the cause:
/// ``append to stream `cart/7`: conflict: expected version 12, found version 13``. Cloning is cheap.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    operation: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The coarse kinds of [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Somebody else was first. Load again and decide again; nothing was written.
    Conflict(Conflict),
    /// The store did not answer, or not in time. Nothing is known to be wrong with the request.
    Unavailable(Outcome),
    /// The request can never succeed as it is; nothing was written.
    Invalid,
    /// What is stored contradicts itself or its format. The message names the place.
    Corrupt,
    /// Bytes could not be turned into a value, or a value into bytes.
    Codec,
    /// This store cannot do what was asked, by its nature or by its version.
    Unsupported,
}

/// What stood in the way of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflict {
    /// The stream's head is not the expected one.
    Stream {
        /// The stream that differs.
        stream: StreamId,
        /// Its actual head; `None` if the stream is empty.
        actual: Option<Head>,
    },
    /// An event that matches the commit's `unchanged` filter was added.
    Changed {
        /// Position of the first such event.
        position: Position,
    },
}

/// Whether an operation that ended in [`ErrorKind::Unavailable`] may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did not happen and will not.
    NotDone,
    /// It may have happened. Send the *same* commit again to settle it: re-appending is idempotent.
    Unknown,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { inner: Arc::new(Inner { kind, message: message.into(), operation: None, source: None }) }
    }

    /// A conflict on one stream.
    pub fn conflict(stream: StreamId, expected: impl fmt::Display, actual: Option<Head>) -> Self {
        let found = match actual {
            Some(head) => format!("found version {}", head.version),
            None => "found an empty stream".to_owned(),
        };
        let message = format!("conflict on stream `{stream}`: expected {expected}, {found}");
        Self::new(ErrorKind::Conflict(Conflict::Stream { stream, actual }), message)
    }

    /// A conflict with a commit's `unchanged` filter.
    pub fn changed(position: Position) -> Self {
        Self::new(
            ErrorKind::Conflict(Conflict::Changed { position }),
            format!("conflict: a matching event was added at position {position}"),
        )
    }

    /// The store did not answer; `outcome` says whether the operation may have happened.
    pub fn unavailable(outcome: Outcome, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable(outcome), message)
    }

    /// The request can never succeed as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// What is stored contradicts itself or its format.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Bytes and value do not convert.
    pub fn codec(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Codec, message)
    }

    /// This store cannot do what was asked.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// The same error with the cause attached; `Display` ends with it.
    #[must_use]
    pub fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let Inner { kind, message, operation, .. } = self.into_inner();
        Self { inner: Arc::new(Inner { kind, message, operation, source: Some(source.into()) }) }
    }

    /// The same error with the operation and the thing it was about in front: ``load `account/1787` ``.
    /// An error that names an operation already keeps it: the innermost speaks.
    #[must_use]
    pub fn during(self, operation: impl Into<String>) -> Self {
        if self.inner.operation.is_some() {
            return self;
        }
        let Inner { kind, message, source, .. } = self.into_inner();
        Self { inner: Arc::new(Inner { kind, message, operation: Some(operation.into()), source }) }
    }

    /// The coarse kind, for programs.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// Whether this is a conflict: load again, decide again.
    pub fn is_conflict(&self) -> bool {
        matches!(self.inner.kind, ErrorKind::Conflict(_))
    }

    /// Whether the operation may have happened although it failed.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self.inner.kind, ErrorKind::Unavailable(Outcome::Unknown))
    }

    fn into_inner(self) -> Inner {
        Arc::try_unwrap(self.inner).unwrap_or_else(|shared| Inner {
            kind: shared.kind.clone(),
            message: shared.message.clone(),
            operation: shared.operation.clone(),
            source: shared.source.as_ref().map(|source| source.to_string().into()),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = &self.inner.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.inner.message)?;
        match &self.inner.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.inner.kind).field("message", &self.to_string()).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_the_operation_once_and_ends_with_the_cause() {
        let error = Error::codec("decode event 7").caused_by("expected a number");
        let error = error.during("load `account/1`").during("execute on `account/1`");
        assert_eq!(error.to_string(), "load `account/1`: decode event 7: expected a number");
    }

    #[test]
    fn a_clone_keeps_kind_operation_and_cause() {
        let error = Error::unavailable(Outcome::Unknown, "append").caused_by("broken pipe");
        let copy = error.clone().during("x");
        assert!(copy.is_outcome_unknown());
        assert_eq!(copy.to_string(), "x: append: broken pipe");
        assert_eq!(error.to_string(), "append: broken pipe");
    }
}
