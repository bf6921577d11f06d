//! Saving: the newest version never goes back, whoever saves at the same time.

use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tailfold::{Day, Error, Head, Keep, Outcome, Result, Save, Saved, Slot, Version};

use super::label::{Found, Label, Parts, SAVE, USED};
use crate::commit::fresh_name;
use crate::parts::{PART_BYTES, PARTS_AT_ONCE};
use crate::patience::Deadline;
use crate::setup;
use crate::store::Shared;
use crate::wire::{EXPECTED_LAST, Get, Message, code};

static TTL: HeaderName = HeaderName::from_static("Nats-TTL");

impl Shared {
    pub(super) async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        let deadline = self.deadline();
        if slot.is_lasting() {
            self.let_last().await?;
        }
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
    pub(super) async fn save_newest(
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
    pub(super) async fn save_older(
        &self,
        slot: &Slot,
        save: &Save,
        newest: Head,
        deadline: Deadline,
    ) -> Result<Saved> {
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
                // One whose label cannot be read names no parts.
                if let Some(Ok(there)) = there.as_ref().map(Label::of) {
                    self.purge_snapshot_parts(slot, &there).await?;
                }
                return Ok(Saved::Stored { pruned: self.prune(slot, save.keep, save.head.version).await? });
            }
            if deadline.has_passed() {
                return Err(Error::unavailable(Outcome::NotDone, "others saved until the deadline"));
            }
        }
    }

    /// Writes a snapshot in the place of the message at a sequence. Answers its own; `None` if another message is there.
    pub(super) async fn write(
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
    pub(super) async fn write_parts(
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
                self.add_ttl(&subject, &mut headers);
                let send = || self.wire.publish(subject.clone(), headers.clone(), part.clone());
                deadline.insist(send).await
            })
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect::<Vec<u64>>()
            .await?;
        Ok((Some(Parts { count, written: day }), Bytes::new()))
    }

    /// Puts a message in the place of the one at a sequence (0: of none). Answers its sequence; `None` if another is there.
    pub(super) async fn replace(
        &self,
        subject: &str,
        label: &Label,
        payload: Bytes,
        after: u64,
        deadline: Deadline,
    ) -> Result<Option<u64>> {
        let mut headers = label.headers();
        headers.insert(EXPECTED_LAST.clone(), after.to_string());
        self.add_ttl(subject, &mut headers);
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

    /// Before what is no snapshot is written: has the stream keep it. Looks once a process.
    pub(crate) async fn let_last(&self) -> Result<()> {
        let look = || setup::let_last(&self.wire, &self.names, self.may_change_streams, self.deadline());
        self.lasting.get_or_try_init(look).await?;
        Ok(())
    }

    /// Lets a message expire, unless it is none of a snapshot.
    pub(crate) fn add_ttl(&self, subject: &str, headers: &mut HeaderMap) {
        if let Some(seconds) = self.snapshot_ttl.filter(|_| !self.names.is_lasting(subject)) {
            headers.insert(TTL.clone(), format!("{seconds}s"));
        }
    }

    /// Copies the newest snapshot to the place of the older ones, parts shared. Answers the copy.
    pub(super) async fn copy_to_older(
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
    pub(super) async fn remove_copy(&self, slot: &Slot, copy: &Found, deadline: Deadline) -> Result<()> {
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
    pub(super) async fn prune(&self, slot: &Slot, keep: Keep, saved: Version) -> Result<u64> {
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
                let Ok(label) = Label::of(&message) else { continue };
                let found = Found::new(slot, subject, message.seq, label);
                pruned += u64::from(self.delete(&found).await?);
            }
        }
        Ok(pruned)
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
