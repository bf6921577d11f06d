//! Snapshots: hints that let a load start late.

mod compression;
mod config;
mod envelope;
mod forgotten;
mod keys;
mod line;
mod owner;
mod peers;
mod policy;
mod rejection;
mod sealer;
mod serial;
mod side;
mod store;
mod tiers;
mod writer;

pub use compression::Compression;
pub use config::{SnapshotConfig, SnapshotMode, Snapshots};
pub(crate) use envelope::Draft;
pub use envelope::Envelope;
pub use forgotten::remove_forgotten;
pub(crate) use keys::SnapshotKeys;
pub(crate) use owner::Owner;
pub(crate) use peers::{Peer, over as peers_over};
pub use policy::{Moment, Policy, Rule};
pub use rejection::Rejection;
pub(crate) use sealer::Sealer;
pub use serial::{Serial, Slot};
pub use store::{
    Keep, Save, Saved, SlotFilter, SnapshotBatches, SnapshotInfo, SnapshotStore, SnapshotStoreExt,
    StoredSnapshot, Swept,
};
pub use tiers::{Breaker, Tier, TierStats, Tiers};
pub(crate) use tiers::{Failure, GuardedTier, TierOutcome};
pub(crate) use writer::Writer;
