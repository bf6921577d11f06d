//! Event sourcing whose heart is snapshots.

// The derives name this crate by its public path; its own tests and examples need that path too.
extern crate self as tailfold;

mod append;
mod chain;
mod clock;
mod codec;
mod encryption;
mod error;
mod event;
mod execute;
mod filter;
mod fingerprint;
mod fold;
mod history;
mod load;
mod loaded;
mod memory;
mod replay;
mod report;
mod repository;
mod schema;
mod snapshot;
mod stats;
mod store;
mod stream;
mod verify;

pub use append::{Append, Receipt};
pub use chain::{Chain, Digest};
pub use clock::{Clock, Day, ManualClock, SystemClock, Timestamp};
pub use codec::{Codec, CustomCodec};
pub use encryption::Encryption;
pub use error::{Conflict, Error, ErrorKind, Outcome, Result};
pub use event::{
    EventData, EventId, EventMeta, EventType, Metadata, NewEvent, Position, RecordedEvent, SchemaVersion, Tag,
};
pub use execute::{Execute, Retry};
pub use filter::{Clause, Filter};
pub use fingerprint::{Fingerprint, Shape};
pub use fold::{Fold, State};
pub use history::{CatchUp, HistoryEvent, Snapshot};
pub use load::Load;
pub use loaded::Loaded;
pub use memory::MemoryStore;
pub use report::{Malformed, Rejected, Report, Source};
pub use repository::{Repository, RepositoryBuilder};
pub use schema::{DecodeError, Event, EventSchema, IntoEvents};
pub use snapshot::{
    Compression, Envelope, Keep, Moment, Policy, Rejection, Rule, Save, Saved, Serial, Slot, SlotFilter,
    SnapshotBatches, SnapshotConfig, SnapshotInfo, SnapshotMode, SnapshotStore, SnapshotStoreExt, Snapshots,
    StoredSnapshot, Swept,
};
pub use stats::Stats;
pub use store::{
    Capabilities, Commit, Committed, Direction, EventBatches, EventStore, EventStoreExt, Expected, Follow,
    InlineSnapshot, LogBatch, LogBatches, Removal, Removed, SnapshotAndTail, Store, StoreId, StreamBatches,
    StreamSummary, StreamWrite, Tombstone, Unchanged, VersionRange, Written,
};
pub use stream::{Head, StreamId, Version};
pub use tailfold_macros::{Event, State};
pub use verify::{
    Damage, Fault, SnapshotVerification, Verification, WrongSnapshot, verify_chains, verify_snapshots,
};

#[doc(hidden)]
pub mod __private {
    //! What the derives expand to; not part of the API.
    pub use serde;
}
