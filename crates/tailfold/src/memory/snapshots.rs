//! The snapshots in memory.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use tokio::task::coop::consume_budget;

use super::{BATCH, MemoryStore};
use crate::clock::Day;
use crate::error::Result;
use crate::snapshot::{
    Keep, Save, Saved, Slot, SlotFilter, SnapshotBatches, SnapshotInfo, SnapshotStore, StoredSnapshot, Swept,
};
use crate::stream::Version;

#[async_trait]
impl SnapshotStore for MemoryStore {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        consume_budget().await;
        Ok(self.contents().snapshots.newest(slot, at_or_below).cloned())
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        consume_budget().await;
        Ok(self.contents().snapshots.save(slot, save))
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        let store = self.clone();
        stream::try_unfold(None, move |after| {
            let (store, filter) = (store.clone(), filter.clone());
            async move {
                consume_budget().await;
                let page = store.contents().snapshots.page(&filter, after.as_ref());
                let last = page.last().map(|info| (info.slot.clone(), info.head.version));
                Ok(last.map(|last| (page, Some(last))))
            }
        })
        .boxed()
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        consume_budget().await;
        Ok(self.contents().snapshots.compare_and_remove(slot, read))
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        consume_budget().await;
        self.contents().snapshots.mark_used(used, day);
        Ok(())
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        consume_budget().await;
        let unused = |slot: &Slot, kept: &StoredSnapshot| {
            filter.matches(slot) && !slot.is_lasting() && kept.used < unused_since
        };
        Ok(self.contents().snapshots.remove_where(unused))
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        consume_budget().await;
        Ok(self.contents().snapshots.forget(key))
    }
}

/// What is kept, by slot and version.
#[derive(Default)]
pub(super) struct Snapshots {
    kept: BTreeMap<(Slot, Version), StoredSnapshot>,
}

impl Snapshots {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Option<&StoredSnapshot> {
        let to = at_or_below.unwrap_or(Version(u64::MAX));
        let (_, newest) = self.kept.range((slot.clone(), Version::ZERO)..=(slot.clone(), to)).next_back()?;
        Some(newest)
    }

    pub(super) fn save(&mut self, slot: &Slot, save: Save) -> Saved {
        let Save { head, bytes, keep, day } = save;
        let most = match keep {
            Keep::Newest => 1,
            Keep::Last(n) => n.get() as usize,
            Keep::All => usize::MAX,
        };
        let at = |version| (slot.clone(), version);
        // The saved one counts too: as many newer ones as may be kept leave no room for it.
        let newer = self.kept.range((Excluded(at(head.version)), Included(at(Version(u64::MAX)))));
        if let Some((_, newest)) = newer.clone().next_back()
            && newer.count() >= most
        {
            return Saved::Superseded(newest.head);
        }
        self.kept.insert(at(head.version), StoredSnapshot { head, bytes, used: day });
        let versions = self.kept.range(at(Version::ZERO)..=at(Version(u64::MAX)));
        let pruned: Vec<_> = versions.rev().skip(most).map(|(key, _)| key.clone()).collect();
        for key in &pruned {
            self.kept.remove(key);
        }
        Saved::Stored { pruned: pruned.len() as u64 }
    }

    fn page(&self, filter: &SlotFilter, after: Option<&(Slot, Version)>) -> Vec<SnapshotInfo> {
        let start = after.map_or(Unbounded, Excluded);
        let matching = self.kept.range((start, Unbounded)).filter(|((slot, _), _)| filter.matches(slot));
        matching.take(BATCH).map(|((slot, _), kept)| info(slot, kept)).collect()
    }

    fn compare_and_remove(&mut self, slot: &Slot, read: &StoredSnapshot) -> bool {
        let key = (slot.clone(), read.head.version);
        let same =
            self.kept.get(&key).is_some_and(|kept| (kept.head, &kept.bytes) == (read.head, &read.bytes));
        same && self.kept.remove(&key).is_some()
    }

    fn mark_used(&mut self, used: &[(Slot, Version)], day: Day) {
        for key in used {
            if let Some(kept) = self.kept.get_mut(key) {
                kept.used = kept.used.max(day);
            }
        }
    }

    pub(super) fn forget(&mut self, key: &str) -> Swept {
        self.remove_where(|slot, _| slot.key() == key)
    }

    pub(super) fn forget_below(&mut self, key: &str, version: Version) -> Swept {
        self.remove_where(|slot, kept| slot.key() == key && kept.head.version < version)
    }

    fn remove_where(&mut self, gone: impl Fn(&Slot, &StoredSnapshot) -> bool) -> Swept {
        let mut swept = Swept::default();
        self.kept.retain(|(slot, _), kept| {
            let gone = gone(slot, kept);
            if gone {
                swept.snapshots += 1;
                swept.bytes += kept.bytes.len() as u64;
            }
            !gone
        });
        swept
    }
}

fn info(slot: &Slot, kept: &StoredSnapshot) -> SnapshotInfo {
    SnapshotInfo { slot: slot.clone(), head: kept.head, bytes: kept.bytes.len() as u64, used: kept.used }
}
