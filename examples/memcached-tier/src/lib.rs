//! A tier of snapshots on memcached 1.5.3 or later: the worked example of "A snapshot tier, in six steps" in CONTRIBUTING.md.
//!
//! One item holds all snapshots of a stream, so that whatever changes them is one `cas`. Another holds the names of the streams,
//! since memcached cannot list. What this does not do well: noting a use rewrites the item, payload and all; a load fetches
//! every snapshot of the stream; every save reads the index, new streams contend for it, and what it loses by eviction is
//! neither listed nor swept until it is saved anew; requests wait for each other on one connection. And it is a
//! cache: where subscriptions with `ByPosition` stand would go with the rest, so that these need another store.

mod items;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tailfold::*;

use crate::items::Items;

/// The snapshots of a stream, as an item holds them.
type Kept = BTreeMap<(Slot, Version), (Head, Day, Vec<u8>)>;

/// Snapshots on one memcached, whose items must be allowed to be larger than all snapshots of a stream (`memcached -I 64m`).
#[derive(Clone, Debug)]
pub struct MemcachedTier {
    items: Items,
    name: String,
    index: String,
}

impl MemcachedTier {
    /// A tier at `HOST:PORT` whose items begin with `name`. Connects when it is used, and again after each failure.
    pub fn new(address: &str, name: &str) -> Self {
        Self { items: Items::new(address), name: name.to_owned(), index: format!("{name}-index") }
    }

    async fn remove(&self, key: &str, goes: impl Fn(&Slot, Day) -> bool) -> Result<Swept> {
        let item = self.item(key);
        let remove = |kept: &mut Kept| {
            let mut swept = Swept::default();
            kept.retain(|(slot, _), (_, used, bytes)| {
                let goes = goes(slot, *used);
                swept.snapshots += u64::from(goes);
                swept.bytes += if goes { bytes.len() as u64 } else { 0 };
                !goes
            });
            (swept, kept.is_empty())
        };
        let (swept, is_empty) = self.items.change(&item, remove).await?;
        if is_empty {
            self.items.change(&self.index, |keys: &mut BTreeSet<String>| keys.remove(key)).await?;
            // Somebody may have saved in between, and seen the name.
            if !self.items.read::<Kept>(&item).await?.is_empty() {
                self.items.change(&self.index, |keys: &mut BTreeSet<_>| keys.insert(key.to_owned())).await?;
            }
        }
        Ok(swept)
    }

    async fn keys(&self, filter: &SlotFilter) -> Result<BTreeSet<String>> {
        match &filter.key {
            Some(key) => Ok(BTreeSet::from([key.clone()])),
            None => self.items.read(&self.index).await,
        }
    }

    /// Keys of streams may be too long for memcached, and hold spaces.
    fn item(&self, key: &str) -> String {
        format!("{}-{}", self.name, blake3::hash(key.as_bytes()))
    }
}

#[async_trait]
impl SnapshotStore for MemcachedTier {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        let last = at_or_below.unwrap_or(Version(u64::MAX));
        let mut kept: Kept = self.items.read(&self.item(slot.key())).await?;
        kept.retain(|(of, version), _| of == slot && *version <= last);
        Ok(kept.pop_last().map(|(_, (head, used, bytes))| StoredSnapshot { head, bytes: bytes.into(), used }))
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        if slot.is_lasting() {
            let why =
                "memcached drops what it has no room for: keep checkpoints of subscriptions in another store";
            return Err(Error::unsupported(why).during(format!("save `{slot}` on memcached")));
        }
        let most = match save.keep {
            Keep::Newest => 1,
            Keep::Last(n) => n.get() as usize,
            _ => usize::MAX,
        };
        let place = (slot.clone(), save.head.version);
        let change = |kept: &mut Kept| {
            let of_slot = |kept: &Kept| kept.keys().filter(|(of, _)| of == slot).cloned().collect::<Vec<_>>();
            let newer: Vec<_> = of_slot(kept).into_iter().filter(|other| *other > place).collect();
            if let Some(newest) = newer.last().filter(|_| newer.len() >= most) {
                return Saved::Superseded(kept[newest].0);
            }
            kept.insert(place.clone(), (save.head, save.day, save.bytes.to_vec()));
            let pruned: Vec<_> = of_slot(kept).into_iter().rev().skip(most).collect();
            kept.retain(|place, _| !pruned.contains(place));
            Saved::Stored { pruned: pruned.len() as u64 }
        };
        let saved = self.items.change(&self.item(slot.key()), change).await?;
        self.items.change(&self.index, |keys: &mut BTreeSet<_>| keys.insert(slot.key().to_owned())).await?;
        Ok(saved)
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        let tier = self.clone();
        let listed = async move {
            let mut found = Vec::new();
            for key in tier.keys(&filter).await? {
                for ((slot, _), (head, used, bytes)) in tier.items.read::<Kept>(&tier.item(&key)).await? {
                    found.push(SnapshotInfo { slot, head, bytes: bytes.len() as u64, used });
                }
            }
            found.retain(|info| filter.matches(&info.slot));
            found.sort_by(|a, b| (&a.slot, a.head.version).cmp(&(&b.slot, b.head.version)));
            Ok(stream::iter(found).chunks(1000).map(Ok))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        let place = (slot.clone(), read.head.version);
        let remove = |kept: &mut Kept| {
            let found = kept.get(&place).map(|(head, _, bytes)| (head, &bytes[..]));
            found == Some((&read.head, &read.bytes[..])) && kept.remove(&place).is_some()
        };
        self.items.change(&self.item(slot.key()), remove).await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        for place in used {
            let mark = |kept: &mut Kept| kept.get_mut(place).map(|(_, used, _)| *used = day.max(*used));
            self.items.change(&self.item(place.0.key()), mark).await?;
        }
        Ok(())
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        let mut all = Swept::default();
        for key in self.keys(&filter).await? {
            let Swept { snapshots, bytes } =
                self.remove(&key, |slot, used| filter.matches(slot) && used < unused_since).await?;
            all = Swept { snapshots: all.snapshots + snapshots, bytes: all.bytes + bytes };
        }
        Ok(all)
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        self.remove(key, |_, _| true).await
    }
}
