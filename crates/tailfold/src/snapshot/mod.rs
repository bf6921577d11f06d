//! Snapshots: hints that let a load start late.

mod serial;
mod store;

pub use serial::{Serial, Slot};
pub use store::{
    Keep, Save, Saved, SlotFilter, SnapshotBatches, SnapshotInfo, SnapshotStore, SnapshotStoreExt,
    StoredSnapshot, Swept,
};
