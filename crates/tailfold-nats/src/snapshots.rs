//! Snapshots: one message for each, with its place in headers.
//!
//! The newest of a slot has a subject of its own, so that a load is one get; older ones have their version in the subject.
//! Every change names the message that it replaces, so that the newest version never goes back, whoever writes at the same
//! time. A snapshot that is too large for a message lies in parts, which are written before and removed after it.

mod label;
mod remove;
mod save;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tailfold::{
    Day, Error, Result, Save, Saved, Slot, SlotFilter, SnapshotBatches, SnapshotInfo, SnapshotStore,
    StoredSnapshot, Swept, Version,
};

use self::label::{Found, Label, Parts};
use crate::commit::fresh_name;
use crate::parts::PARTS_AT_ONCE;
use crate::patience::Deadline;
use crate::scan::{Scan, Wanted};
use crate::store::{NatsStore, Shared};
use crate::wire::{Get, Message};

/// Snapshots that are marked or removed at the same time, and in one batch of a list.
const AT_ONCE: usize = 16;
const LIST_BATCH: usize = 512;

#[async_trait]
impl SnapshotStore for NatsStore {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        self.shared.newest(slot, at_or_below).await
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        let saved = self.shared.save(slot, save).await;
        saved.map_err(|error| error.during(format!("save snapshot `{slot}`")))
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        let shared = self.shared.clone();
        let list = async move {
            let found = shared.find(&filter).await.map_err(|error| error.during("list snapshots"))?;
            let infos: Vec<SnapshotInfo> = found.into_iter().map(|found| found.info).collect();
            let batches: Vec<_> = infos.chunks(LIST_BATCH).map(|batch| Ok(batch.to_vec())).collect();
            Ok(stream::iter(batches))
        };
        stream::once(list).try_flatten().boxed()
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        let removed = self.shared.compare_and_remove(slot, read).await;
        removed.map_err(|error| {
            error.during(format!("remove snapshot `{slot}` at version {}", read.head.version))
        })
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        let mark = |(slot, version): (Slot, Version)| async move {
            let marked = self.shared.mark_used(&slot, version, day).await;
            marked.map_err(|error| error.during(format!("mark snapshot `{slot}` used")))
        };
        stream::iter(used.to_vec()).map(mark).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        let found = self.shared.find(&filter).await.map_err(|error| error.during("sweep snapshots"))?;
        let is_unused = |info: &SnapshotInfo| info.used < unused_since && !info.slot.is_lasting();
        let unused = found.into_iter().filter(|found| is_unused(&found.info));
        self.shared.discard_all(unused).await.map_err(|error| error.during("sweep snapshots"))
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        self.shared.forget(key).await
    }
}

impl Shared {
    pub(crate) async fn newest(
        &self,
        slot: &Slot,
        at_or_below: Option<Version>,
    ) -> Result<Option<StoredSnapshot>> {
        let read = async {
            let subject = self.names.newest_of(slot);
            let Some(message) = self.snapshot_message(&subject).await? else { return Ok(None) };
            let label = Label::of(&message)?;
            if at_or_below.is_none_or(|bound| label.head.version <= bound) {
                return self.stored(slot, message, label).await.map(Some);
            }
            for version in self.older_versions(slot, label.head.version).await?.into_iter().rev() {
                if at_or_below.is_none_or(|bound| version <= bound)
                    && let Some(message) = self.snapshot_message(&self.names.older_of(slot, version)).await?
                {
                    let label = Label::of(&message)?;
                    return self.stored(slot, message, label).await.map(Some);
                }
            }
            Ok(None)
        };
        read.await.map_err(|error: Error| error.during(format!("read snapshot `{slot}`")))
    }

    /// The message of a snapshot, from any replica.
    async fn snapshot_message(&self, subject: &str) -> Result<Option<Message>> {
        let (stream, deadline) = (&self.names.snapshots, self.deadline());
        let found = deadline.insist(|| self.wire.direct_last(stream, subject)).await?;
        match self.continuity.is_replicated().then(|| self.written.least(subject)).flatten() {
            // The replica is behind what this process has done.
            Some(least) if found.as_ref().map_or(0, |found| found.seq) < least => {
                self.snapshot_from_leader(subject, deadline).await
            }
            _ => Ok(found),
        }
    }

    async fn snapshot_from_leader(&self, subject: &str, deadline: Deadline) -> Result<Option<Message>> {
        let (stream, get) = (&self.names.snapshots, Get::last(subject));
        deadline.insist(|| self.wire.leader_get(stream, &get)).await
    }

    async fn stored(&self, slot: &Slot, message: Message, label: Label) -> Result<StoredSnapshot> {
        let bytes = match label.parts {
            None => message.payload,
            Some(parts) => self.joined(slot, &label.save, parts).await?,
        };
        Ok(StoredSnapshot { head: label.head, bytes, used: label.used })
    }

    /// The parts of a snapshot. One that is missing leaves a snapshot that its envelope gives away, as any damage does.
    async fn joined(&self, slot: &Slot, save: &str, parts: Parts) -> Result<Bytes> {
        let (stream, deadline) = (&self.names.snapshots, self.deadline());
        let subjects = (0..parts.count).map(|number| self.names.snapshot_part(slot, save, number));
        let found: Vec<Option<Message>> = stream::iter(subjects)
            .map(|subject| async move {
                match self.wire.direct_last(stream, &subject).await {
                    Ok(Some(part)) => Ok(Some(part)),
                    _ => self.snapshot_from_leader(&subject, deadline).await,
                }
            })
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        let mut bytes = BytesMut::with_capacity(found.iter().flatten().map(|part| part.payload.len()).sum());
        found.iter().flatten().for_each(|part| bytes.put_slice(&part.payload));
        Ok(bytes.freeze())
    }

    /// Versions of the older snapshots of a slot, ascending. What an interrupted save has left at or above the newest one
    /// does not count.
    async fn older_versions(&self, slot: &Slot, newest: Version) -> Result<Vec<Version>> {
        let subjects = self.subjects(&self.names.snapshots, &self.names.all_older_of(slot)).await?;
        let mut versions = Vec::with_capacity(subjects.len());
        for subject in subjects {
            // What somebody else has put there is no snapshot.
            let Ok(name) = self.names.snapshot_of(&subject) else { continue };
            versions.extend(name.older.filter(|version| *version < newest));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// Notes a day of use. JetStream counts the life of a message from when it was written, so it is written again, with
    /// its payload: once a day at most, and the parts of a large one once in a tenth of their life.
    async fn mark_used(&self, slot: &Slot, version: Version, day: Day) -> Result<()> {
        let deadline = self.deadline();
        for subject in [self.names.newest_of(slot), self.names.older_of(slot, version)] {
            while let Some(message) = self.snapshot_from_leader(&subject, deadline).await? {
                let mut label = Label::of(&message)?;
                if label.head.version != version {
                    break;
                }
                if label.used >= day {
                    return Ok(());
                }
                label.used = day;
                let (mut payload, mut renewed) = (message.payload, None);
                if let Some(parts) = label.parts
                    && day.0 - parts.written.0 >= self.renew_parts_after
                {
                    let bytes = self.joined(slot, &label.save, parts).await?;
                    let old = label.clone();
                    label.save = fresh_name();
                    (label.parts, payload) =
                        self.write_parts(slot, &label.save, &bytes, day, deadline).await?;
                    renewed = Some(old);
                }
                let replaced =
                    self.replace(&subject, &label, payload, message.seq, deadline).await?.is_some();
                if let Some(old) = renewed {
                    self.purge_snapshot_parts(slot, if replaced { &old } else { &label }).await?;
                }
                if replaced {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The snapshots of the slots that match, by slot and version. What cannot be read as one is passed over: it must keep
    /// nobody from sweeping, nor from erasing a stream.
    pub(crate) async fn find(self: &Arc<Self>, filter: &SlotFilter) -> Result<Vec<Found>> {
        let stream = &self.names.snapshots;
        let last = self.last_sequence(stream).await?;
        let mut found = Vec::new();
        for subject in self.names.snapshots_where(filter) {
            let (stream, subjects) = (stream.clone(), vec![subject]);
            let wanted =
                Wanted { stream, subjects, headers_only: true, from: 1, to: Some(last), witness: None };
            let mut scan = Scan::new(self.clone(), wanted);
            while let Some(page) = scan.page().await? {
                for message in page {
                    let read = self.names.snapshot_of(&message.subject);
                    match read.and_then(|name| Ok((name, Label::of(&message)?))) {
                        Ok((name, label)) => found.push((
                            Found::new(&name.slot, message.subject, message.seq, label),
                            name.older.is_some(),
                        )),
                        Err(error) => tracing::warn!(%error, "a message that is no snapshot is passed over"),
                    }
                }
            }
        }
        // The newest of a slot hides what an interrupted save has left at or above it, so it comes first.
        found.sort_by(|(a, a_older), (b, b_older)| {
            a.info
                .slot
                .cmp(&b.info.slot)
                .then(a_older.cmp(b_older))
                .then(a.label.head.version.cmp(&b.label.head.version))
        });
        let mut kept: Vec<Found> = Vec::with_capacity(found.len());
        let mut newest: Option<SnapshotInfo> = None;
        for (found, is_older) in found {
            if !is_older {
                newest = Some(found.info.clone());
            } else if newest.as_ref().is_some_and(|newest| {
                newest.slot == found.info.slot && found.info.head.version >= newest.head.version
            }) {
                continue;
            }
            kept.push(found);
        }
        kept.sort_by(|a, b| {
            a.info.slot.cmp(&b.info.slot).then(a.info.head.version.cmp(&b.info.head.version))
        });
        Ok(kept)
    }
}
