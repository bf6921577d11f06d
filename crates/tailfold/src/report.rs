//! How a load was served.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::event::{EventType, Position};
use crate::snapshot::Rejection;
use crate::stream::Version;

/// How a load was served: by what, after which rejections, with how much replay, in what time.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What the fold started from.
    pub source: Source,
    /// Name of the tier whose snapshot that was; `None` if it was none.
    pub tier: Option<Arc<str>>,
    /// Snapshots that did not serve, in the order in which they were tried.
    pub rejected: Vec<Rejected>,
    /// Events folded, the snapshot's own not counted.
    pub replayed_events: u64,
    /// Their bytes of payload.
    pub replayed_bytes: u64,
    /// Events that the store looked at to find those of a projection, as far as it tells; of an aggregate, 0.
    pub visited_events: u64,
    /// Events that could not be read as typed ones, where the caller asked to leave such out.
    pub skipped: Vec<Malformed>,
    /// Events that were left out because their key is gone on purpose; see
    /// [`Opened::Forgotten`](crate::Opened::Forgotten).
    pub forgotten_events: u64,
    /// Time spent on finding, checking and decoding a snapshot.
    pub snapshot_time: Duration,
    /// Time spent on reading and folding events.
    pub replay_time: Duration,
}

/// What a fold started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// The start of the stream, or its origin.
    Replay,
    /// A snapshot at that version.
    Snapshot(Version),
    /// The state of the decision before, which this process still had, at that version; checked against the history as a snapshot is.
    Memory(Version),
}

impl Source {
    /// The name in metrics and stats.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Snapshot(_) => "snapshot",
            Self::Memory(_) => "memory",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A snapshot that did not serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rejected {
    /// Name of the tier that it came from, or should have come from.
    pub tier: Arc<str>,
    /// Its version; `None` where the store did not get as far as telling.
    pub version: Option<Version>,
    /// Why.
    pub reason: Rejection,
}

/// An event that could not be read as a typed one, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Malformed {
    /// Its place in the stream.
    pub version: Version,
    /// Its place in the store.
    pub position: Position,
    /// Its type, as stored.
    pub event_type: EventType,
    /// What is wrong with it.
    pub reason: String,
}

/// Why an event of a history has no typed value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// Its key is gone on purpose; see [`Opened::Forgotten`](crate::Opened::Forgotten).
    Forgotten,
    /// It is not an event that the type knows, or does not decode.
    Malformed(Malformed),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forgotten => f.write_str("its key was forgotten"),
            Self::Malformed(malformed) => malformed.fmt(f),
        }
    }
}

impl std::error::Error for Unreadable {}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, position, event_type, reason } = self;
        write!(f, "event `{event_type}` at version {version} (position {position}): {reason}")
    }
}

impl Report {
    /// Events that the store looked at and that were not folded.
    pub(crate) fn visited_in_vain(&self) -> u64 {
        self.visited_events.saturating_sub(self.replayed_events)
    }

    pub(crate) fn new() -> Self {
        Self {
            source: Source::Replay,
            tier: None,
            rejected: Vec::new(),
            replayed_events: 0,
            replayed_bytes: 0,
            visited_events: 0,
            skipped: Vec::new(),
            forgotten_events: 0,
            snapshot_time: Duration::ZERO,
            replay_time: Duration::ZERO,
        }
    }

    pub(crate) fn has_rejected(&self, reason: Rejection) -> bool {
        self.rejected.iter().any(|rejected| rejected.reason == reason)
    }

    pub(crate) fn reject(&mut self, tier: &Arc<str>, version: Option<Version>, reason: Rejection) {
        self.rejected.push(Rejected { tier: tier.clone(), version, reason });
    }
}
