//! What ends a command early, and with which exit code.

use std::fmt;
use std::io;

use serde_json::{Value, json};
use tailfold::ErrorKind;

/// Shorthand for results of commands.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command did not succeed. The message names the operation and the thing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The store refused or failed.
    Store(tailfold::Error),
    /// A line of an input is not what it should be. What came before it stays.
    Line {
        /// What was being done, and on which input.
        operation: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or a pipe failed.
    Io {
        /// What was being done.
        operation: String,
        /// What the system said.
        source: io::Error,
    },
    /// What was asked for is not there or makes no sense.
    Refused(String),
    /// A check found what it looks for: damage, or states that differ. Said on stdout already, in full.
    Found(String),
    /// Whoever read the output has enough.
    Closed,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Error {
    /// A failure of the system during an operation.
    pub fn io(operation: impl Into<String>, source: io::Error) -> Self {
        Self::Io { operation: operation.into(), source }
    }

    /// A failure to write the output.
    pub(crate) fn output(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::io("write the output", source),
        }
    }

    /// How the process ends: 0 where the reader of the output went away, 1 for a failure, 3 for what a check found, 130
    /// after Ctrl-C, 143 after SIGTERM. 2 is clap's, for a command line that is wrong.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Store(_) | Self::Line { .. } | Self::Io { .. } | Self::Refused(_) => 1,
            Self::Found(_) => 3,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The word for what kind of failure it is, for programs: that of a store's error (`conflict`, `unavailable`, `invalid`,
    /// `corrupt`, `codec`, `unsupported`), or `line`, `io`, `refused`, `found`, `closed`, `interrupted`, `terminated`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Store(error) => match error.kind() {
                ErrorKind::Conflict(_) => "conflict",
                ErrorKind::Unavailable(_) => "unavailable",
                ErrorKind::Invalid => "invalid",
                ErrorKind::Corrupt => "corrupt",
                ErrorKind::Codec => "codec",
                ErrorKind::Unsupported => "unsupported",
                _ => "store",
            },
            Self::Line { .. } => "line",
            Self::Io { .. } => "io",
            Self::Refused(_) => "refused",
            Self::Found(_) => "found",
            Self::Closed => "closed",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }

    /// As `--json` tells it. The message is the error's own, without what must stay secret.
    pub(crate) fn object(&self, message: &str) -> Value {
        let mut object = json!({ "kind": self.kind(), "message": message });
        if let (Some(fields), Self::Line { line, .. }) = (object.as_object_mut(), self) {
            fields.insert("line".to_owned(), json!(line));
        }
        object
    }

    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Line { operation, line, reason } => write!(f, "{operation}: line {line}: {reason}"),
            Self::Io { operation, source } => write!(f, "{operation}: {source}"),
            Self::Refused(message) | Self::Found(message) => f.write_str(message),
            Self::Closed => f.write_str("write the output: nobody reads it any more"),
            Self::Interrupted => f.write_str("interrupted; what was recorded stays"),
            Self::Terminated => f.write_str("terminated by a signal; what was recorded stays"),
        }
    }
}

/// No source: the text tells the causes, as that of a [`tailfold::Error`] does.
impl std::error::Error for Error {}

impl From<tailfold::Error> for Error {
    fn from(error: tailfold::Error) -> Self {
        Self::Store(error)
    }
}
