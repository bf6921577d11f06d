//! Snapshots: hints that let a load start late.

mod compression;
mod config;
mod envelope;
mod line;
mod policy;
mod rejection;
mod sealer;
mod serial;
mod store;
mod writer;

pub use compression::Compression;
pub use config::{SnapshotConfig, SnapshotMode, Snapshots};
#[cfg(test)]
pub(crate) use envelope::Draft;
pub use envelope::Envelope;
pub use policy::{Moment, Policy, Rule};
pub use rejection::Rejection;
pub(crate) use sealer::Sealer;
pub use serial::{Serial, Slot};
pub use store::{
    Keep, Save, Saved, SlotFilter, SnapshotBatches, SnapshotInfo, SnapshotStore, SnapshotStoreExt,
    StoredSnapshot, Swept,
};
pub(crate) use writer::Writer;
