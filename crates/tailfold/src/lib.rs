//! Event sourcing whose heart is snapshots.

// The derives name this crate by its public path; its own tests and examples need that path too.
extern crate self as tailfold;

mod chain;
mod clock;
mod codec;
mod error;
mod event;
mod filter;
mod fingerprint;
mod fold;
mod memory;
mod schema;
mod snapshot;
mod store;
mod stream;

pub use chain::{Chain, Digest};
pub use clock::{Clock, Day, ManualClock, SystemClock, Timestamp};
pub use codec::{Codec, CustomCodec};
pub use error::{Conflict, Error, ErrorKind, Outcome, Result};
pub use event::{
    EventData, EventId, EventMeta, EventType, Metadata, NewEvent, Position, RecordedEvent, SchemaVersion, Tag,
};
pub use filter::{Clause, Filter};
pub use fingerprint::{Fingerprint, Shape};
pub use fold::{Fold, State};
pub use memory::MemoryStore;
pub use schema::{DecodeError, Event, EventSchema, IntoEvents};
pub use snapshot::{
    Keep, Save, Saved, Serial, Slot, SlotFilter, SnapshotBatches, SnapshotInfo, SnapshotStore,
    SnapshotStoreExt, StoredSnapshot, Swept,
};
pub use store::{
    Capabilities, Commit, Committed, Direction, EventBatches, EventStore, EventStoreExt, Expected, Follow,
    InlineSnapshot, LogBatch, LogBatches, Removal, Removed, SnapshotAndTail, Store, StoreId, StreamBatches,
    StreamSummary, StreamWrite, Tombstone, Unchanged, VersionRange, Written,
};
pub use stream::{Head, StreamId, Version};
pub use tailfold_macros::{Event, State};

#[doc(hidden)]
pub mod __private {
    //! What the derives expand to; not part of the API.
    pub use serde;
}
