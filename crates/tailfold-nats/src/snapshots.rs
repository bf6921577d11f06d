//! Snapshots: one message for each, with its place in headers.
//!
//! The newest of a slot has a subject of its own, so that a load is one get; older ones have their version in the subject.
//! Every change names the message that it replaces, so that the newest version never goes back, whoever writes at the same
//! time. A snapshot that is too large for a message lies in parts, which are written before and removed after it.

use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName};
use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tailfold::{
    Day, Error, Head, Keep, Outcome, Result, Save, Saved, Slot, SlotFilter, SnapshotBatches, SnapshotInfo,
    SnapshotStore, StoredSnapshot, Swept, Version,
};

use crate::commit::fresh_name;
use crate::parts::{PART_BYTES, PARTS_AT_ONCE};
use crate::patience::Deadline;
use crate::scan::{Scan, Wanted};
use crate::store::{NatsStore, Shared};
use crate::wire::{EXPECTED_LAST, Get, Message, code};

static HEAD: HeaderName = HeaderName::from_static("Tf-Head");
static USED: HeaderName = HeaderName::from_static("Tf-Used");
static SIZE: HeaderName = HeaderName::from_static("Tf-Size");
/// Names the save: how a writer finds its own message again, and part of the subjects of its parts.
static SAVE: HeaderName = HeaderName::from_static("Tf-Save");
/// Number of parts, and the day on which they were written.
static PARTS: HeaderName = HeaderName::from_static("Tf-Parts");
static TTL: HeaderName = HeaderName::from_static("Nats-TTL");

/// Snapshots that are marked or removed at the same time, and in one batch of a list.
const AT_ONCE: usize = 16;
const LIST_BATCH: usize = 512;

/// What the headers of a snapshot's message say.
#[derive(Clone, Debug)]
struct Label {
    head: Head,
    used: Day,
    size: u64,
    save: String,
    parts: Option<Parts>,
}

#[derive(Clone, Copy, Debug)]
struct Parts {
    count: usize,
    written: Day,
}

/// A snapshot's message, without its payload.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) info: SnapshotInfo,
    subject: String,
    seq: u64,
    label: Label,
}

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
        let unused = found.into_iter().filter(|found| found.info.used < unused_since);
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
        match self.replicated.then(|| self.written.least(subject)).flatten() {
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
            versions.extend(self.names.snapshot_of(&subject)?.older.filter(|version| *version < newest));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        let deadline = self.deadline();
        let mut newest = self.snapshot_message(&self.names.newest_of(slot)).await?;
        loop {
            // One whose label cannot be read makes room.
            let there = newest.as_ref().and_then(|newest| Label::of(newest).ok());
            let stored = match there.as_ref() {
                Some(there) if there.head.version > save.head.version => {
                    return self.save_older(slot, &save, there.head, deadline).await;
                }
                there => {
                    let seq = newest.as_ref().map_or(0, |newest| newest.seq);
                    self.save_newest(slot, &save, seq, newest.as_ref().zip(there), deadline).await?
                }
            };
            if let Some(pruned) = stored {
                if let Ok(stream) = slot.key().parse() {
                    self.ends.note_base(&stream, save.head.version);
                }
                return Ok(Saved::Stored { pruned });
            }
            if deadline.has_passed() {
                return Err(Error::unavailable(Outcome::NotDone, "others saved until the deadline"));
            }
            newest = self.snapshot_from_leader(&self.names.newest_of(slot), deadline).await?;
        }
    }

    /// Saves above or at the newest version. Answers how many were pruned; `None` if somebody else was first.
    async fn save_newest(
        &self,
        slot: &Slot,
        save: &Save,
        after: u64,
        there: Option<(&Message, &Label)>,
        deadline: Deadline,
    ) -> Result<Option<u64>> {
        let replaced = there.filter(|(_, label)| label.head.version < save.head.version);
        let moves = save.keep != Keep::Newest && keeps(save.keep) > 1;
        let moved = match replaced.filter(|_| moves) {
            Some((message, label)) => Some(self.copy_to_older(slot, message, label, deadline).await?),
            None => None,
        };
        if self.write(slot, save, &self.names.newest_of(slot), after, deadline).await?.is_none() {
            if let Some(moved) = moved {
                // Whoever was first has moved it too, or has removed it on purpose.
                self.remove_copy(slot, &moved, deadline).await?;
            }
            return Ok(None);
        }
        if let Some((_, label)) = there.filter(|_| !moves || replaced.is_none()) {
            self.purge_snapshot_parts(slot, label).await?;
        }
        let mut pruned = u64::from(replaced.is_some() && !moves);
        if there.is_some() {
            pruned += self.prune(slot, save.keep, save.head.version).await?;
        }
        Ok(Some(pruned))
    }

    /// Saves below the newest version.
    async fn save_older(&self, slot: &Slot, save: &Save, newest: Head, deadline: Deadline) -> Result<Saved> {
        let room = keeps(save.keep);
        let older = self.older_versions(slot, newest.version).await?;
        let above = 1 + older.iter().filter(|version| **version > save.head.version).count();
        if above >= room {
            return Ok(Saved::Superseded(newest));
        }
        let subject = self.names.older_of(slot, save.head.version);
        loop {
            let there = self.snapshot_from_leader(&subject, deadline).await?;
            let seq = there.as_ref().map_or(0, |there| there.seq);
            if self.write(slot, save, &subject, seq, deadline).await?.is_some() {
                if let Some(there) = there {
                    self.purge_snapshot_parts(slot, &Label::of(&there)?).await?;
                }
                return Ok(Saved::Stored { pruned: self.prune(slot, save.keep, save.head.version).await? });
            }
            if deadline.has_passed() {
                return Err(Error::unavailable(Outcome::NotDone, "others saved until the deadline"));
            }
        }
    }

    /// Writes a snapshot in the place of the message at a sequence. Answers its own; `None` if another message is there.
    async fn write(
        &self,
        slot: &Slot,
        save: &Save,
        subject: &str,
        after: u64,
        deadline: Deadline,
    ) -> Result<Option<u64>> {
        let name = fresh_name();
        let (parts, payload) = self.write_parts(slot, &name, &save.bytes, save.day, deadline).await?;
        let label =
            Label { head: save.head, used: save.day, size: save.bytes.len() as u64, save: name, parts };
        let written = self.replace(subject, &label, payload, after, deadline).await?;
        if written.is_none() {
            self.purge_snapshot_parts(slot, &label).await?;
        }
        Ok(written)
    }

    /// Writes what does not fit into one message as parts; answers what goes into the message.
    async fn write_parts(
        &self,
        slot: &Slot,
        name: &str,
        bytes: &Bytes,
        day: Day,
        deadline: Deadline,
    ) -> Result<(Option<Parts>, Bytes)> {
        let size = PART_BYTES.min(self.part_bytes());
        if bytes.len() <= size {
            return Ok((None, bytes.clone()));
        }
        let parts: Vec<Bytes> = bytes.chunks(size).map(|part| bytes.slice_ref(part)).collect();
        let count = parts.len();
        stream::iter(parts.into_iter().enumerate())
            .map(|(number, part)| async move {
                let subject = self.names.snapshot_part(slot, name, number);
                let mut headers = HeaderMap::new();
                self.add_ttl(&mut headers);
                let send = || self.wire.publish(subject.clone(), headers.clone(), part.clone());
                deadline.insist(send).await
            })
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect::<Vec<u64>>()
            .await?;
        Ok((Some(Parts { count, written: day }), Bytes::new()))
    }

    /// Puts a message in the place of the one at a sequence (0: of none). Answers its sequence; `None` if another is there.
    async fn replace(
        &self,
        subject: &str,
        label: &Label,
        payload: Bytes,
        after: u64,
        deadline: Deadline,
    ) -> Result<Option<u64>> {
        let mut headers = label.headers();
        headers.insert(EXPECTED_LAST.clone(), after.to_string());
        self.add_ttl(&mut headers);
        let attempt = || async {
            let failure = match self.wire.publish(subject.to_owned(), headers.clone(), payload.clone()).await
            {
                Ok(seq) => return Ok(Some(seq)),
                Err(failure) => failure,
            };
            let there = self.wire.leader_get(&self.names.snapshots, &Get::last(subject)).await?;
            let mine = there.as_ref().filter(|there| {
                there.header(&SAVE) == Some(&*label.save)
                    && there.header(&USED) == Some(&*label.used.0.to_string())
            });
            match mine {
                Some(mine) if mine.seq > after => Ok(Some(mine.seq)),
                _ if failure.is_refused(code::WRONG_LAST_SEQUENCE) => Ok(None),
                _ => Err(failure),
            }
        };
        let replaced = deadline.insist_on_change(attempt).await?;
        if let Some(seq) = replaced {
            self.written.note(subject, seq);
        }
        Ok(replaced)
    }

    pub(crate) fn add_ttl(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.snapshot_ttl {
            headers.insert(TTL.clone(), format!("{seconds}s"));
        }
    }

    /// Copies the newest snapshot to the place of the older ones, parts shared. Answers the copy.
    async fn copy_to_older(
        &self,
        slot: &Slot,
        message: &Message,
        label: &Label,
        deadline: Deadline,
    ) -> Result<Found> {
        let subject = self.names.older_of(slot, label.head.version);
        loop {
            let there = self.snapshot_from_leader(&subject, deadline).await?;
            let after = there.as_ref().map_or(0, |there| there.seq);
            if let Some(seq) = self.replace(&subject, label, message.payload.clone(), after, deadline).await?
            {
                return Ok(Found::new(slot, subject, seq, label.clone()));
            }
        }
    }

    /// Removes a copy of the newest snapshot unless the newest is another one now, which makes the copy an older one.
    async fn remove_copy(&self, slot: &Slot, copy: &Found, deadline: Deadline) -> Result<()> {
        let newest = self.snapshot_from_leader(&self.names.newest_of(slot), deadline).await?;
        let newest = newest.as_ref().map(Label::of).transpose()?;
        if newest.is_none_or(|newest| newest.head.version <= copy.label.head.version) {
            let delete = || self.wire.delete(&self.names.snapshots, copy.seq);
            deadline.insist_on_change(delete).await?;
        }
        Ok(())
    }

    /// Removes older snapshots beyond what is kept. Everybody who saves does so after saving, with the newest one as it is
    /// then, so that the last one sees all.
    async fn prune(&self, slot: &Slot, keep: Keep, saved: Version) -> Result<u64> {
        let newest = match keep {
            // Nothing below is kept, whatever the newest is.
            Keep::Newest => saved,
            _ if keeps(keep) == usize::MAX => return Ok(0),
            _ => {
                let subject = self.names.newest_of(slot);
                let newest = self.snapshot_from_leader(&subject, self.deadline()).await?;
                newest.as_ref().map(Label::of).transpose()?.map_or(saved, |newest| newest.head.version)
            }
        };
        let older = self.older_versions(slot, newest).await?;
        let excess = (older.len() + 1).saturating_sub(keeps(keep));
        let mut pruned = 0;
        for version in older.into_iter().take(excess) {
            let subject = self.names.older_of(slot, version);
            if let Some(message) = self.snapshot_from_leader(&subject, self.deadline()).await? {
                let label = Label::of(&message)?;
                let found = Found::new(slot, subject, message.seq, label);
                pruned += u64::from(self.delete(&found).await?);
            }
        }
        Ok(pruned)
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
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

    async fn discard_all(&self, found: impl Iterator<Item = Found>) -> Result<Swept> {
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

    async fn delete(&self, found: &Found) -> Result<bool> {
        let delete = || self.wire.delete(&self.names.snapshots, found.seq);
        let deleted = self.deadline().insist_on_change(delete).await?;
        self.written.note(&found.subject, found.seq + 1);
        if deleted {
            self.purge_snapshot_parts(&found.info.slot, &found.label).await?;
        }
        Ok(deleted)
    }

    async fn purge_snapshot_parts(&self, slot: &Slot, label: &Label) -> Result<()> {
        if label.parts.is_some() {
            let subject = self.names.snapshot_parts_of(slot, &label.save);
            let purge = || self.wire.purge(&self.names.snapshots, &subject, None);
            self.deadline().insist_on_change(purge).await?;
        }
        Ok(())
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

    /// The snapshots of the slots that match, by slot and version.
    pub(crate) async fn find(self: &Arc<Self>, filter: &SlotFilter) -> Result<Vec<Found>> {
        let stream = &self.names.snapshots;
        let last = self.last_sequence(stream).await?;
        let mut found = Vec::new();
        for subject in self.names.snapshots_where(filter) {
            let (stream, subjects) = (stream.clone(), vec![subject]);
            let wanted = Wanted { stream, subjects, headers_only: true, from: 1, to: Some(last) };
            let mut scan = Scan::new(self.clone(), wanted);
            while let Some(page) = scan.page().await? {
                for message in page {
                    let name = self.names.snapshot_of(&message.subject)?;
                    let found_here =
                        Found::new(&name.slot, message.subject.clone(), message.seq, Label::of(&message)?);
                    found.push((found_here, name.older.is_some()));
                }
            }
        }
        found.sort_by(|(a, a_older), (b, b_older)| {
            let by_slot = a.info.slot.cmp(&b.info.slot);
            by_slot.then(a.label.head.version.cmp(&b.label.head.version)).then(b_older.cmp(a_older))
        });
        // The newest of a slot hides what an interrupted save has left at or above it.
        let mut kept: Vec<Found> = Vec::with_capacity(found.len());
        let mut newest: Option<&Found> = None;
        for (found, is_older) in found.iter().rev() {
            match newest.filter(|newest| newest.info.slot == found.info.slot) {
                Some(newest) if *is_older && found.label.head.version >= newest.label.head.version => {
                    continue;
                }
                _ if !is_older => newest = Some(found),
                _ => {}
            }
            kept.push(found.clone());
        }
        kept.reverse();
        Ok(kept)
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

/// How many snapshots of a slot are kept.
fn keeps(keep: Keep) -> usize {
    match keep {
        Keep::Newest => 1,
        Keep::Last(n) => n.get() as usize,
        // `All`, and whatever later releases add: nothing is pruned that could be wanted.
        _ => usize::MAX,
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

impl Found {
    fn new(slot: &Slot, subject: String, seq: u64, label: Label) -> Self {
        let info = SnapshotInfo { slot: slot.clone(), head: label.head, bytes: label.size, used: label.used };
        Self { info, subject, seq, label }
    }
}

impl Label {
    fn of(message: &Message) -> Result<Self> {
        let parse = || {
            let (version, chain) = message.header(&HEAD)?.split_once('@')?;
            let parts = match message.header(&PARTS) {
                None => None,
                Some(text) => {
                    let (count, written) = text.split_once(':')?;
                    Some(Parts { count: count.parse().ok()?, written: Day(written.parse().ok()?) })
                }
            };
            Some(Self {
                head: Head { version: Version(version.parse().ok()?), chain: chain.parse().ok()? },
                used: Day(message.header(&USED)?.parse().ok()?),
                size: message.header(&SIZE)?.parse().ok()?,
                save: message.header(&SAVE)?.to_owned(),
                parts,
            })
        };
        parse().ok_or_else(|| {
            Error::corrupt(format!(
                "message {} on `{}` is labelled as no snapshot",
                message.seq, message.subject
            ))
        })
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HEAD.clone(), self.head.to_string());
        headers.insert(USED.clone(), self.used.0.to_string());
        headers.insert(SIZE.clone(), self.size.to_string());
        headers.insert(SAVE.clone(), self.save.as_str());
        if let Some(Parts { count, written }) = self.parts {
            headers.insert(PARTS.clone(), format!("{count}:{}", written.0));
        }
        headers
    }
}
