//! Erasing and truncating, and what an erased stream leaves behind. What a truncated one does is in `truncation.rs`.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::{EventData, EventId, EventType, Position, RecordedEvent};
use crate::stream::{Head, Version};

/// What to remove of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Everything, snapshots of every fold included, and the marker of a truncation: the idempotency keys of
    /// the stream are forgotten, so that a command that is sent again happens again, in the stream's next
    /// life. A tombstone event (type [`EventType::TOMBSTONE`], payload: the head that was erased, as JSON)
    /// takes a new position in the log; filters of the stream's category match it. No read of the log finds
    /// the events any more, whatever its filter. The stream reads as empty afterwards and its versions start
    /// again at 1, with another genesis. A store may let it replace the tombstone of an earlier life of the
    /// stream, which says nothing more to whoever has not seen either.
    Erase {
        /// Identity of the tombstone.
        id: EventId,
        /// Recorded-at of the tombstone.
        recorded_at: Timestamp,
    },
    /// The events before a version, which must be an origin, with the stream's snapshots below it, of every
    /// fold and serial: a load could not check them any more. Those at the origin and above stay, and
    /// versions stay as they are.
    ///
    /// A marker (type [`EventType::TRUNCATED`], payload: a [`Truncation`](crate::Truncation)) takes a new position in the log:
    /// filters that match the stream match it, as they do a tombstone. It is not part of the stream: reads of the stream, its
    /// head and the list of streams do not know of it. It replaces the marker that the stream's life had, remembers all that
    /// this one did, and goes when the stream is erased. Where there is nothing to cut off, none is recorded. The tombstone of
    /// an earlier life stays where it is in the log.
    ///
    /// Events and marker change places in one step. A store that cannot do that removes the events first and records the marker
    /// for good after: whoever meets `Unavailable` truncates again, which does what is left to do; and it records the marker
    /// before it removes anything, too, so that at no time a command is remembered neither by its event nor by a marker.
    BeforeOrigin {
        /// Version of the first event that is to be left.
        version: Version,
        /// Identity of the marker.
        id: EventId,
        /// Recorded-at of the marker.
        recorded_at: Timestamp,
    },
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Number of events, the tombstone or marker of before not among them.
    pub events: u64,
    /// Number of snapshots: all of an erased stream, those below the origin of a truncated one. 0 where the
    /// store keeps none; those in tiers beside it are the repository's to remove and are not counted.
    pub snapshots: u64,
    /// Where the tombstone stands; `None` for a truncation, or where there was nothing to erase.
    pub tombstone: Option<Position>,
    /// Where the marker of a truncation stands; `None` for an erase, or where there was nothing to cut off.
    pub marker: Option<Position>,
}

impl Removal {
    /// Erase with a fresh id.
    pub fn erase(recorded_at: Timestamp) -> Self {
        Self::Erase { id: EventId::fresh(), recorded_at }
    }

    /// Truncation before an origin, with a fresh id for its marker.
    pub fn before_origin(version: impl Into<Version>, recorded_at: Timestamp) -> Self {
        Self::BeforeOrigin { version: version.into(), id: EventId::fresh(), recorded_at }
    }
}

/// What a tombstone's payload says: the head that was erased. The tombstone's chain links from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Head of the life that ended.
    pub erased: Head,
}

impl Tombstone {
    /// The tombstone event for a stream whose last event was `erased`; the chain after it seeds the next life.
    ///
    /// # Errors
    /// `Codec` if the payload could not be written, which does not happen.
    pub fn event(erased: Head, id: EventId, recorded_at: Timestamp) -> Result<EventData> {
        let payload = serde_json::to_vec(&Self { erased })
            .map_err(|error| Error::codec("encode a tombstone").caused_by(error))?;
        let mut data = EventData::new(EventType::new(EventType::TOMBSTONE)?, payload);
        data.id = id;
        data.recorded_at = recorded_at;
        Ok(data)
    }

    /// Reads a tombstone's payload.
    ///
    /// # Errors
    /// `Codec` if the event is no tombstone.
    pub fn from_event(event: &RecordedEvent) -> Result<Self> {
        serde_json::from_slice(&event.data.payload).map_err(|error| {
            Error::codec(format!("decode tombstone at position {}", event.position)).caused_by(error)
        })
    }
}
