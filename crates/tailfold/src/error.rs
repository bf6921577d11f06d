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
/// [`Error::kind`] is for programs; `Display` names the operation and the thing, in lower case, and ends with the cause and
/// the cause's causes: ``append to stream `cart/7`: conflict: expected version 12, found version 13``. Since the text is
/// whole, [`source`](StdError::source) is `None`: what prints an error with all its sources prints no cause twice. The cause
/// itself is at [`Error::cause`]. Cloning is cheap.
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

    /// A text that breaks a rule, such as a name: `what "text": problem`. Long texts are cut, and their length is said.
    ///
    /// ```
    /// let error = tailfold::Error::invalid_text("store name", "a b", "must be 1..=32 ASCII letters");
    /// assert_eq!(error.to_string(), r#"store name "a b": must be 1..=32 ASCII letters"#);
    /// ```
    pub fn invalid_text(what: &str, text: &str, problem: impl fmt::Display) -> Self {
        Self::invalid(format!("{what} {}: {problem}", Quoted(text)))
    }

    /// The same error with the cause attached; `Display` ends with it, and with the causes that it has itself.
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

    /// What was attached by [`Error::caused_by`]: the driver's error, say. A clone that was given another operation has only
    /// the text of it.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.inner.source.as_deref()
    }

    fn into_inner(self) -> Inner {
        Arc::try_unwrap(self.inner).unwrap_or_else(|shared| Inner {
            kind: shared.kind.clone(),
            message: shared.message.clone(),
            operation: shared.operation.clone(),
            source: shared.source.as_ref().map(|source| WithCauses(&**source).to_string().into()),
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
            Some(source) => write!(f, ": {}", WithCauses(&**source)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.inner.kind).field("message", &self.to_string()).finish()
    }
}

/// No source: the text has it already.
impl StdError for Error {}

/// An error and its causes as one text. A cause that the error before it has told is not told again.
pub(crate) struct WithCauses<'a>(pub(crate) &'a (dyn StdError + 'a));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !told.contains(&text) {
                write!(f, ": {text}")?;
                told = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

/// A text in quotation marks, cut after 80 bytes, with its length then: an error about a name of megabytes stays a line.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Quoted<'_> {
    const LONGEST: usize = 80;
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        let shown = beginning(text, Self::LONGEST);
        if shown.len() == text.len() {
            return write!(f, "{text:?}");
        }
        write!(f, "{shown:?}.. ({} bytes)", text.len())
    }
}

/// As much of a text as fits into that many bytes.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    (0..=most.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
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

    /// As `anyhow` and `tracing` print an error: its text, and those of all its sources.
    fn reported(error: &dyn StdError) -> String {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            text.push_str(&format!(": {cause}"));
            next = cause.source();
        }
        text
    }

    #[test]
    fn a_cause_is_told_once_with_its_own_causes() {
        let io = std::io::Error::other(Error::codec("decode").caused_by("expected a number"));
        let error = Error::unavailable(Outcome::Unknown, "append").caused_by(Layer("connect", Box::new(io)));
        assert_eq!(error.to_string(), "append: connect: decode: expected a number");
        assert_eq!(reported(&error), error.to_string());
        assert!(error.cause().is_some_and(|cause| cause.is::<Layer>()));
        let copy = error.clone().during("execute");
        assert_eq!(reported(&copy), "execute: append: connect: decode: expected a number");
    }

    #[test]
    fn what_an_error_is_about_is_cut_where_it_is_long() {
        let told = |text: &str| Error::invalid_text("key", text, "must be short").to_string();
        assert_eq!(told("a\n"), r#"key "a\n": must be short"#);
        assert_eq!(told(&"x".repeat(80)), format!("key \"{}\": must be short", "x".repeat(80)));
        assert_eq!(
            told(&"ä".repeat(999_999)),
            format!("key \"{}\".. (1999998 bytes): must be short", "ä".repeat(40))
        );
        assert_eq!(
            told(&format!("x{}", "ä".repeat(40))),
            format!("key \"x{}\".. (81 bytes): must be short", "ä".repeat(39))
        );
    }

    #[derive(Debug)]
    struct Layer(&'static str, Box<dyn StdError + Send + Sync>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Layer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&*self.1)
        }
    }
}
