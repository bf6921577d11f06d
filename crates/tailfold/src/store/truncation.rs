//! What is left of events that were cut off: the marker of a truncation, and the commands that it remembers.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::chain::{Chain, Digest};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::{EventData, EventId, EventType, Position, RecordedEvent, Tag};
use crate::stream::{Head, StreamId, Version};

/// What the marker of a truncation says: where the stream begins since, and which commands with an idempotency key had their
/// events before that, in this truncation and in all before it.
///
/// A backend begins one with [`Truncation::begin`], shows it every event that is to go with [`TruncationNotes::note`], and
/// records [`Truncation::event`] at [`Truncation::place`]. At most [`Truncation::MOST_COMMANDS`] are remembered: the ones cut off
/// last. The payload is JSON of at most 700 kB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    truncated: Cut,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cut {
    /// Head at the first event that is left.
    origin: Head,
    /// In the order in which they were cut off.
    commands: VecDeque<CutCommand>,
    /// Number of those that are remembered no longer.
    forgotten: u64,
    /// Key of the last command, if more of its events may be left: by it the next truncation recognises them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unfinished: Option<String>,
    /// The events may still be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
}

/// A command whose events were cut off, all or the first of them: digest of its key, version of its first event, number of its
/// events that were cut off, position of the last of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CutCommand(Chain, Version, u64, Position);

/// What is known of a command whose events were cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// How many of its events were cut off.
    pub(crate) events: u64,
    /// Version of the last of these.
    pub(crate) last: Version,
    pub(crate) position: Position,
}

/// Notes the events that are to be cut off, one after the other.
#[derive(Clone, Debug)]
pub struct TruncationNotes {
    stream: StreamId,
    truncation: Truncation,
    /// Events up to here are noted, in this truncation or in one before.
    noted: Version,
    /// The key of the command whose events are being looked at.
    key: Option<String>,
}

impl Truncation {
    /// Most commands that a marker remembers; beyond, those that were cut off first are forgotten first.
    pub const MOST_COMMANDS: usize = 8_192;

    /// Begins the marker for a stream that is to begin at an origin. `earlier`: the marker that the stream's life has, which the
    /// new one replaces and of which it forgets nothing.
    pub fn begin(stream: &StreamId, origin: Head, earlier: Option<Self>) -> TruncationNotes {
        let (noted, commands, forgotten, key) = match earlier {
            None => (Version::ZERO, VecDeque::new(), 0, None),
            Some(Self { truncated: Cut { origin, commands, forgotten, unfinished, .. } }) => {
                (Version(origin.version.0.saturating_sub(1)), commands, forgotten, unfinished)
            }
        };
        let truncation =
            Self { truncated: Cut { origin, commands, forgotten, unfinished: None, pending: false } };
        TruncationNotes { stream: stream.clone(), truncation, noted, key }
    }

    /// The marker's event.
    ///
    /// # Errors
    /// `Codec` if the payload could not be written, which does not happen.
    pub fn event(&self, id: EventId, recorded_at: Timestamp) -> Result<EventData> {
        let payload = serde_json::to_vec(self)
            .map_err(|error| Error::codec("encode the marker of a truncation").caused_by(error))?;
        let mut data = EventData::new(EventType::new(EventType::TRUNCATED)?, payload);
        data.id = id;
        data.recorded_at = recorded_at;
        Ok(data)
    }

    /// Reads a marker's payload.
    ///
    /// # Errors
    /// `Codec` if the event is no marker of a truncation.
    pub fn from_event(event: &RecordedEvent) -> Result<Self> {
        Self::from_payload(&event.data.payload).map_err(|error| {
            Error::codec(format!("decode the marker of a truncation at position {}", event.position))
                .caused_by(error)
        })
    }

    /// Reads a marker's payload, for stores that have nothing else at hand.
    ///
    /// # Errors
    /// `Codec` if the bytes are not those of a marker.
    pub fn from_payload(payload: &[u8]) -> Result<Self> {
        serde_json::from_slice(payload)
            .map_err(|error| Error::codec("decode the marker of a truncation").caused_by(error))
    }

    /// Version and chain of the first event that was left.
    pub fn origin(&self) -> Head {
        self.truncated.origin
    }

    /// The same marker, recorded before the events are removed (`true`) or after (`false`, as it is made). For stores that cannot do
    /// both in one step: they record it twice, so that an interruption shows.
    #[must_use]
    pub fn with_pending(mut self, pending: bool) -> Self {
        self.truncated.pending = pending;
        self
    }

    /// Whether the events that it tells of may still be there: the truncation is under way, or was interrupted and has to be done
    /// again.
    pub fn is_pending(&self) -> bool {
        self.truncated.pending
    }

    /// What the marker's event bears as version and chain: the version of the origin, and a chain that links from there. It is
    /// in the log and not in the stream.
    pub fn place(&self, marker: &EventData) -> Head {
        let Head { version, chain } = self.truncated.origin;
        Head { version, chain: chain.link(Digest::of(marker)) }
    }

    /// Number of commands that are remembered.
    pub fn commands(&self) -> usize {
        self.truncated.commands.len()
    }

    /// Number of commands that were remembered once and are not any more.
    pub fn forgotten(&self) -> u64 {
        self.truncated.forgotten
    }

    /// The command that was recorded under a key.
    pub(crate) fn find(&self, stream: &StreamId, key: &str) -> Option<Remembered> {
        let digest = digest_of(stream, key);
        let found = self.truncated.commands.iter().rfind(|CutCommand(key, ..)| *key == digest);
        found.map(|CutCommand(_, first, events, position)| Remembered {
            events: *events,
            last: Version((first.0 + events).saturating_sub(1)),
            position: *position,
        })
    }
}

impl TruncationNotes {
    /// Notes an event that is to be cut off. They come in the order of their versions; those that an earlier truncation was to
    /// cut off already are passed over.
    pub fn note(&mut self, version: Version, position: Position, id: EventId, tags: &[Tag]) {
        if version <= self.noted {
            return;
        }
        self.noted = version;
        let cut = &mut self.truncation.truncated;
        if let Some(key) = tags.iter().find_map(Tag::idempotency_key) {
            cut.commands.push_back(CutCommand(digest_of(&self.stream, key), version, 1, position));
            self.key = Some(key.to_owned());
            if cut.commands.len() > Truncation::MOST_COMMANDS {
                cut.commands.pop_front();
                cut.forgotten += 1;
            }
            return;
        }
        let (Some(key), Some(CutCommand(_, _, events, last))) = (&self.key, cut.commands.back_mut()) else {
            return;
        };
        if id == EventId::derived(key, &self.stream, *events as usize) {
            (*events, *last) = (*events + 1, position);
        } else {
            self.key = None;
        }
    }

    /// As [`TruncationNotes::note`], of a whole event.
    pub fn note_event(&mut self, event: &RecordedEvent) {
        self.note(event.version, event.position, event.data.id, &event.data.tags);
    }

    /// Ends it.
    pub fn finish(self) -> Truncation {
        let Self { mut truncation, key, .. } = self;
        truncation.truncated.unfinished = key;
        truncation
    }
}

/// Names a key of a stream. Byte layout: FORMAT.md.
fn digest_of(stream: &StreamId, key: &str) -> Chain {
    let mut hash =
        blake3::Hasher::new_derive_key("tailfold 2026 idempotency key of a command that was cut off");
    for part in [stream.as_str(), key] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut short = [0; 16];
    short.copy_from_slice(hash.finalize().as_bytes().split_at(16).0);
    Chain::from_bytes(short)
}
