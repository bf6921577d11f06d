//! The contract of snapshot stores: they move bytes. Encoding, policy, retries and metrics live above them.

use std::fmt;
use std::num::NonZeroU32;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::serial::{Serial, Slot};
use crate::clock::Day;
use crate::error::Result;
use crate::stream::{Head, Version};

/// Keeps snapshots; alone, or as a [`Tier`](crate::Tier) among others.
///
/// Whatever it does, it can cost time but never an answer: losing, delaying or corrupting a snapshot is survived by the
/// caller. An error is an error, never "absent".
#[async_trait]
pub trait SnapshotStore: Send + Sync + fmt::Debug {
    /// The newest snapshot of the slot, at or below a version if one is given.
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>>;

    /// Keeps a snapshot and prunes the slot, in one step. A save never lowers the newest version of a slot: with
    /// [`Keep::Newest`], one at a lower version than the newest is [`Saved::Superseded`]; one at the same version
    /// replaces it. With other retentions any version may be saved.
    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved>;

    /// What is kept, payloads aside, ordered by slot and version, in small batches.
    fn list(&self, filter: SlotFilter) -> SnapshotBatches;

    /// Removes a snapshot if it is still the one that was read, byte for byte. Answers whether it was.
    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool>;

    /// Notes that snapshots were used on that day, without touching their payloads. What is no longer there is skipped;
    /// an earlier day never replaces a later one.
    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()>;

    /// Removes the snapshots that match and were last used, or saved, before a day. Safe in many processes at once.
    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept>;

    /// Removes all snapshots of a key: every fold, every serial. Part of erasing a stream.
    async fn forget(&self, key: &str) -> Result<Swept>;
}

/// Kept snapshots, in batches.
pub type SnapshotBatches = BoxStream<'static, Result<Vec<SnapshotInfo>>>;

/// A snapshot as a store gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The head it is anchored at, as it was saved.
    pub head: Head,
    /// The envelope.
    pub bytes: Bytes,
    /// Day of the last use, or of the save.
    pub used: Day,
}

/// A snapshot to keep, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// The head it is anchored at.
    pub head: Head,
    /// The envelope.
    pub bytes: Bytes,
    /// What to keep of the slot afterwards.
    pub keep: Keep,
    /// Today: counts as used.
    pub day: Day,
}

/// What is kept of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Keep {
    /// The newest snapshot only.
    #[default]
    Newest,
    /// The last n, by version.
    Last(NonZeroU32),
    /// All of them.
    All,
}

/// What became of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is kept.
    Stored {
        /// How many older ones were pruned.
        pruned: u64,
    },
    /// A newer one is there and stays.
    Superseded(Head),
}

/// What is kept, the payload aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Where it belongs.
    pub slot: Slot,
    /// The head it is anchored at.
    pub head: Head,
    /// Size of the envelope.
    pub bytes: u64,
    /// Day of the last use, or of the save.
    pub used: Day,
}

/// Which slots. Each dimension that is given must be equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotFilter {
    /// Name of the fold.
    pub fold: Option<String>,
    /// Serial of the state.
    pub serial: Option<Serial>,
    /// Stream or projection key.
    pub key: Option<String>,
}

impl SlotFilter {
    /// Every slot.
    pub fn all() -> Self {
        Self::default()
    }

    /// Slots of one fold, all serials.
    pub fn fold(name: impl Into<String>) -> Self {
        Self { fold: Some(name.into()), ..Self::default() }
    }

    /// Slots of one key, all folds and serials.
    pub fn key(key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// Whether a slot matches.
    pub fn matches(&self, slot: &Slot) -> bool {
        self.fold.as_ref().is_none_or(|fold| fold == slot.fold())
            && self.serial.as_ref().is_none_or(|serial| serial == slot.serial())
            && self.key.as_ref().is_none_or(|key| key == slot.key())
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Number of snapshots.
    pub snapshots: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Conveniences over [`SnapshotStore`].
#[async_trait]
pub trait SnapshotStoreExt: SnapshotStore {
    /// Collects what is kept. Memory grows with the number of snapshots.
    async fn list_to_vec(&self, filter: SlotFilter) -> Result<Vec<SnapshotInfo>> {
        use futures_util::TryStreamExt as _;
        self.list(filter).try_concat().await
    }

    /// Counts what is kept, and its bytes. Reads the whole list.
    async fn count(&self, filter: SlotFilter) -> Result<Swept> {
        use futures_util::TryStreamExt as _;
        let mut batches = self.list(filter);
        let mut total = Swept::default();
        while let Some(batch) = batches.try_next().await? {
            total.snapshots += batch.len() as u64;
            total.bytes += batch.iter().map(|info| info.bytes).sum::<u64>();
        }
        Ok(total)
    }
}

impl<S: SnapshotStore + ?Sized> SnapshotStoreExt for S {}

/// Forwards the contract through shared pointers, so that `Arc<dyn Store>` is a store.
#[async_trait]
impl<S: SnapshotStore + ?Sized> SnapshotStore for std::sync::Arc<S> {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        (**self).newest(slot, at_or_below).await
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        (**self).save(slot, save).await
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        (**self).list(filter)
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        (**self).compare_and_remove(slot, read).await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        (**self).mark_used(used, day).await
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        (**self).sweep(filter, unused_since).await
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        (**self).forget(key).await
    }
}
