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

/// Saves that are under way at a time where a store does not group them.
const SAVES_AT_ONCE: usize = 16;

/// Keeps snapshots; alone, or as a [`Tier`](crate::Tier) among others.
///
/// Whatever it does, it can cost time but never an answer: losing, delaying or corrupting a snapshot is survived by the
/// caller. An error is an error, never "absent".
///
/// Futures and streams may be dropped at any time, which leaves no answer behind for the next call, and never
/// block the thread that polls them. Each change is one step: who reads beside it sees the slot before or
/// after it. It counts in every process that uses the same place, at once: what was removed or forgotten is
/// served by nobody from memory.
///
/// Every method fails with `Unavailable` where the store cannot be reached or does not answer, and with
/// `Invalid` where a snapshot or a name is larger than it can hold.
#[async_trait]
pub trait SnapshotStore: Send + Sync + fmt::Debug {
    /// The newest snapshot of the slot, at or below a version if one is given; `None` if there is none.
    /// Newest is the one of the highest version, whenever it was saved.
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>>;

    /// Keeps a snapshot and prunes the slot, in one step. A save never lowers the newest version of a slot.
    ///
    /// What `save.keep` lets stay are the highest versions, the saved one among them; the rest is pruned.
    /// Where as many newer ones as may stay are there already, the save is [`Saved::Superseded`], keeps
    /// nothing and prunes nothing: with [`Keep::Newest`] one newer snapshot is enough, with [`Keep::Last`] it
    /// takes n, with [`Keep::All`] that does not happen. A save that is kept takes the place of one at the
    /// same version: head, bytes and day.
    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved>;

    /// Keeps several snapshots, each as [`SnapshotStore::save`] would, and returns an answer for each, in their order; one that
    /// fails says nothing about the others. What waits to be written together comes this way, up to 256 snapshots of different
    /// slots or 1 MiB at a time, in the time limit of one save.
    ///
    /// Default: 16 at a time, each by itself. A store whose commits cost much keeps them in one.
    async fn save_many(&self, saves: &[(Slot, Save)]) -> Vec<Result<Saved>> {
        use futures_util::stream::{self, StreamExt as _};
        let mut pending = Vec::with_capacity(saves.len());
        for (slot, save) in saves {
            pending.push(self.save(slot, save.clone()));
        }
        stream::iter(pending).buffered(SAVES_AT_ONCE).collect().await
    }

    /// What is kept, payloads aside, ordered by slot and version, in batches of 1 to 4,096.
    fn list(&self, filter: SlotFilter) -> SnapshotBatches;

    /// Removes a snapshot if it is still the one that was read: the same head, version and chain, and byte
    /// for byte the same envelope; the day of its use does not count. Others of the slot stay, older and
    /// newer ones. Answers whether it was.
    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool>;

    /// Notes that snapshots were used on that day, without touching their payloads. What is no longer there is skipped;
    /// an earlier day never replaces a later one.
    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()>;

    /// Removes the snapshots that match and were last used, or saved, before a day; those used on it stay.
    /// Safe in many processes at once: each snapshot is counted by the one that has removed it. What is no
    /// snapshot ([`Slot::is_lasting`]) stays, whatever the filter names: where a subscription stands is known
    /// nowhere else. For the same reason a store that lets things expire, or drops what it has no room for,
    /// makes an exception of it, or refuses to save it, as `Unsupported`.
    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept>;

    /// Removes all snapshots of a key: every fold, every serial, every version. Part of erasing a stream.
    async fn forget(&self, key: &str) -> Result<Swept>;
}

/// Kept snapshots, in batches of 1 to 4,096.
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
    /// The last n, by version and not by the time of their save.
    Last(NonZeroU32),
    /// All of them.
    All,
}

/// What became of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is kept.
    Stored {
        /// How many older ones were pruned; one at the same version that it replaced does not count.
        pruned: u64,
    },
    /// As many newer ones as may be kept are there and stay: the head of the newest of the slot.
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

    async fn save_many(&self, saves: &[(Slot, Save)]) -> Vec<Result<Saved>> {
        (**self).save_many(saves).await
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
