//! Where a read model stands.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::event::{Position, RecordedEvent};
use crate::store::StoreId;
use crate::stream::{Head, StreamId};

/// Where a read model stands in the log of one store. Read models keep it beside what they hold; its form as JSON is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The store whose positions these are. Another one after a restore: the read model must be built anew.
    pub store: StoreId,
    /// Everything up to here that matches was handled or parked.
    pub position: Position,
    /// The last event that was handled, by which a log that was rewritten is noticed.
    pub last: Option<HandledEvent>,
}

/// What is kept of one subscription in the place of its read model, for people who look after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Name of the subscription, with its share: `balances`, `balances.1`.
    pub name: String,
    /// Where it stands; `None` if it has handled nothing.
    pub checkpoint: Option<Checkpoint>,
    /// Until when somebody has, or had, the lease; `None` if it was given back, or if the model has no leases.
    pub leased_until: Option<Timestamp>,
    /// When the checkpoint last moved.
    pub updated_at: Timestamp,
    /// Events that were put aside.
    pub parked: u64,
}

/// An event that was handled, and how it is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandledEvent {
    /// Its position.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub head: Head,
}

impl HandledEvent {
    pub(super) fn of(event: &RecordedEvent) -> Self {
        Self { position: event.position, stream: event.stream.clone(), head: event.head() }
    }
}
