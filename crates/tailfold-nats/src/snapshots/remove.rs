//! Removing: what was rejected, what nobody uses, what belongs to an erased stream.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tailfold::{Error, Result, Slot, SlotFilter, StoredSnapshot, Swept};

use super::AT_ONCE;
use super::label::{Found, Label};
use crate::store::Shared;

impl Shared {
    pub(super) async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        let deadline = self.deadline();
        for subject in [self.names.newest_of(slot), self.names.older_of(slot, read.head.version)] {
            let Some(message) = self.snapshot_from_leader(&subject, deadline).await? else { continue };
            let label = Label::of(&message)?;
            if label.head != read.head {
                continue;
            }
            let found = Found::new(slot, subject, message.seq, label.clone());
            let stored = self.stored(slot, message, label).await?;
            return Ok(stored.bytes == read.bytes && self.discard(&found).await?);
        }
        Ok(false)
    }

    /// Removes a snapshot if it is still that message; where it is the newest of its slot, the next older one takes its
    /// place. Answers whether it was.
    pub(crate) async fn discard(&self, found: &Found) -> Result<bool> {
        let slot = &found.info.slot;
        if found.subject != self.names.newest_of(slot) {
            return self.delete(found).await;
        }
        let deadline = self.deadline();
        for version in self.older_versions(slot, found.label.head.version).await?.into_iter().rev() {
            let subject = self.names.older_of(slot, version);
            let Some(next) = self.snapshot_from_leader(&subject, deadline).await? else { continue };
            let label = Label::of(&next)?;
            if self.replace(&found.subject, &label, next.payload, found.seq, deadline).await?.is_none() {
                return Ok(false);
            }
            // Its parts belong to the promoted message now.
            deadline.insist_on_change(|| self.wire.delete(&self.names.snapshots, next.seq)).await?;
            self.purge_snapshot_parts(slot, &found.label).await?;
            return Ok(true);
        }
        self.delete(found).await
    }

    pub(super) async fn discard_all(&self, found: impl Iterator<Item = Found>) -> Result<Swept> {
        let mut swept = Swept::default();
        // Slot by slot: who removes the newest one looks at the older ones.
        let mut discarded = stream::iter(by_slot(found))
            .map(|found| async move {
                let mut swept = Swept::default();
                for found in found {
                    if self.discard(&found).await? {
                        swept.snapshots += 1;
                        swept.bytes += found.info.bytes;
                    }
                }
                Ok::<_, Error>(swept)
            })
            .buffer_unordered(AT_ONCE);
        while let Some(more) = discarded.try_next().await? {
            swept.snapshots += more.snapshots;
            swept.bytes += more.bytes;
        }
        Ok(swept)
    }

    pub(super) async fn delete(&self, found: &Found) -> Result<bool> {
        let delete = || self.wire.delete(&self.names.snapshots, found.seq);
        let deleted = self.deadline().insist_on_change(delete).await?;
        self.written.note(&found.subject, found.seq + 1);
        if deleted {
            self.purge_snapshot_parts(&found.info.slot, &found.label).await?;
        }
        Ok(deleted)
    }

    pub(super) async fn purge_snapshot_parts(&self, slot: &Slot, label: &Label) -> Result<()> {
        if label.parts.is_some() {
            let subject = self.names.snapshot_parts_of(slot, &label.save);
            let purge = || self.wire.purge(&self.names.snapshots, &subject, None);
            self.deadline().insist_on_change(purge).await?;
        }
        Ok(())
    }

    pub(crate) async fn forget(self: &Arc<Self>, key: &str) -> Result<Swept> {
        let forget = async {
            let filter = SlotFilter::key(key);
            let found = self.find(&filter).await?;
            let mut swept = Swept::default();
            for found in &found {
                swept.snapshots += 1;
                swept.bytes += found.info.bytes;
                self.written.note(&found.subject, found.seq + 1);
            }
            let parts = self.names.snapshot_parts_where(&filter);
            for subject in self.names.snapshots_where(&filter).into_iter().chain([parts]) {
                let purge = || self.wire.purge(&self.names.snapshots, &subject, None);
                self.deadline().insist_on_change(purge).await?;
            }
            Ok(swept)
        };
        forget.await.map_err(|error: Error| error.during(format!("forget snapshots of `{key}`")))
    }
}

fn by_slot(found: impl Iterator<Item = Found>) -> Vec<Vec<Found>> {
    let mut slots: Vec<Vec<Found>> = Vec::new();
    for found in found {
        match slots.last_mut() {
            Some(slot) if slot.last().is_some_and(|last| last.info.slot == found.info.slot) => {
                slot.push(found)
            }
            _ => slots.push(vec![found]),
        }
    }
    slots
}
