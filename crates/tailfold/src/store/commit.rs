//! Commits: what is recorded all or not at all, on what condition, and the receipt.

use std::fmt;

use crate::error::{Error, Result};
use crate::event::{NewEvent, Position};
use crate::filter::Filter;
use crate::snapshot::{Save, Saved, Slot};
use crate::stream::{Head, StreamId, Version};

/// Events for one or several streams, recorded all or not at all: at most [`Commit::MAX_EVENTS`], of at most
/// [`MAX_PAYLOAD_BYTES`](crate::EventData::MAX_PAYLOAD_BYTES) each. How many bytes all of them may have is
/// the store's to say, which refuses more as `Invalid`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Commit {
    /// The streams, each once.
    pub writes: Vec<StreamWrite>,
    /// Refuse if an event that matches was added after a position (a dynamic consistency boundary).
    pub unchanged: Option<Unchanged>,
    /// A snapshot to be written in the events' transaction.
    pub snapshot: Option<InlineSnapshot>,
}

/// The events for one stream of a commit.
#[derive(Clone, Debug)]
pub struct StreamWrite {
    /// Where to.
    pub stream: StreamId,
    /// What the writer believes the stream's head to be.
    pub expected: Expected,
    /// At least one event.
    pub events: Vec<NewEvent>,
}

/// A condition of a commit: nothing that matches was added.
#[derive(Clone, Debug)]
pub struct Unchanged {
    /// What must not have been added.
    pub filter: Filter,
    /// The last position that the writer has seen.
    pub after: Position,
}

/// A snapshot that travels with a commit.
#[derive(Clone, Debug)]
pub struct InlineSnapshot {
    /// Where it belongs.
    pub slot: Slot,
    /// The snapshot and how to keep it. Its head is one that the commit itself creates; a store does not check that, since
    /// every load does.
    pub save: Save,
}

impl Commit {
    /// Most events in one commit.
    pub const MAX_EVENTS: usize = 4096;

    /// A commit to one stream.
    pub fn new(stream: StreamId, expected: Expected, events: Vec<NewEvent>) -> Self {
        Self { writes: vec![StreamWrite { stream, expected, events }], unchanged: None, snapshot: None }
    }

    /// The same commit with events for one more stream.
    #[must_use]
    pub fn and(mut self, stream: StreamId, expected: Expected, events: Vec<NewEvent>) -> Self {
        self.writes.push(StreamWrite { stream, expected, events });
        self
    }

    /// The same commit, refused if an event that matches was added after a position. Not every store can check every filter:
    /// [`Capabilities::unchanged`](crate::Capabilities::unchanged).
    #[must_use]
    pub fn unchanged(mut self, filter: Filter, after: Position) -> Self {
        self.unchanged = Some(Unchanged { filter, after });
        self
    }

    /// Checks what no store accepts. Backends call it first.
    ///
    /// # Errors
    /// `Invalid` if there is nothing to write, a stream occurs twice, or there are more than [`Commit::MAX_EVENTS`].
    pub fn check(&self) -> Result<()> {
        let what = || match self.writes.first() {
            Some(write) => format!("append to stream `{}`", write.stream),
            None => "append".to_owned(),
        };
        if self.writes.is_empty() || self.writes.iter().any(|write| write.events.is_empty()) {
            return Err(Error::invalid("a commit holds at least one event for each stream").during(what()));
        }
        let events: usize = self.writes.iter().map(|write| write.events.len()).sum();
        if events > Self::MAX_EVENTS {
            return Err(Error::invalid(format!(
                "{events} events exceed the limit of {} a commit",
                Self::MAX_EVENTS
            ))
            .during(what()));
        }
        for (index, write) in self.writes.iter().enumerate() {
            if self.writes.iter().skip(index + 1).any(|other| other.stream == write.stream) {
                return Err(Error::invalid(format!("stream `{}` occurs twice in a commit", write.stream))
                    .during(what()));
            }
        }
        Ok(())
    }
}

impl FromIterator<StreamWrite> for Commit {
    fn from_iter<I: IntoIterator<Item = StreamWrite>>(writes: I) -> Self {
        Self { writes: writes.into_iter().collect(), unchanged: None, snapshot: None }
    }
}

/// What a writer believes a stream's head to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this history.
    Head(Head),
    /// The stream is empty.
    NoStream,
    /// The stream's last version is this one, whatever its history; 0 means empty.
    Version(Version),
    /// Anything. A commit that expects nothing else is *not* idempotent: after an unknown outcome it may be recorded twice.
    Any,
}

impl Expected {
    /// The head that a load returned.
    pub fn from_head(head: Option<Head>) -> Self {
        head.map_or(Self::NoStream, Self::Head)
    }

    /// Whether a stream with that head meets the expectation.
    pub fn is_met_by(self, head: Option<Head>) -> bool {
        match self {
            Self::Head(expected) => head == Some(expected),
            Self::NoStream => head.is_none(),
            Self::Version(version) => head.map_or(Version::ZERO, |head| head.version) == version,
            Self::Any => true,
        }
    }

    /// The version after which the commit's events stand if it was recorded before; `None` where that cannot be known.
    pub fn base_version(self) -> Option<Version> {
        match self {
            Self::Head(head) => Some(head.version),
            Self::NoStream => Some(Version::ZERO),
            Self::Version(version) => Some(version),
            Self::Any => None,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(head) => write!(f, "version {} with chain {}", head.version, head.chain),
            Self::NoStream => f.write_str("an empty stream"),
            Self::Version(version) => write!(f, "version {version}"),
            Self::Any => f.write_str("anything"),
        }
    }
}

/// Receipt of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What was written to each stream, in the order of the commit.
    pub writes: Vec<Written>,
    /// Position of the commit's last event.
    pub position: Position,
    /// What became of the snapshot that travelled along.
    pub snapshot: Option<Saved>,
    /// The same commit had been recorded before; this is its original receipt.
    pub repeated: bool,
}

/// What a commit wrote to one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The stream.
    pub stream: StreamId,
    /// Version of the first event written.
    pub first: Version,
    /// The stream's head after the last event written.
    pub head: Head,
}
