//! The snapshot store of a mutant.

use std::time::Duration;

use async_trait::async_trait;
use tailfold::*;

use crate::mutant::{Mutant, Wrong};

impl Mutant {
    fn slot(&self, slot: &Slot) -> Slot {
        let serial = if self.is(Wrong::MixesSerials) {
            "0".repeat(16).parse().unwrap()
        } else {
            slot.serial().clone()
        };
        let fold = if self.is(Wrong::MixesFolds) { "fold" } else { slot.fold() };
        Slot::new(fold, serial, slot.key()).unwrap()
    }

    /// As on a connection that is used again although nobody has fetched the last answer.
    async fn first_answer_of_the_line(
        &self,
        slot: &Slot,
        bound: Option<Version>,
    ) -> Result<Option<StoredSnapshot>> {
        let _turn = self.place.turn.lock().await;
        let answer = self.inner.newest(slot, bound).await?;
        self.place.answers.lock().unwrap().push_back(answer);
        tokio::task::yield_now().await;
        Ok(self.place.answers.lock().unwrap().pop_front().flatten())
    }
}

#[async_trait]
impl SnapshotStore for Mutant {
    async fn newest(&self, slot: &Slot, bound: Option<Version>) -> Result<Option<StoredSnapshot>> {
        let bound = match (self.wrong, bound) {
            (Wrong::IgnoresTheBound, _) => None,
            (Wrong::ExcludesTheBound, Some(Version(bound))) => Some(Version(bound.saturating_sub(1))),
            (_, bound) => bound,
        };
        if self.is(Wrong::AnswersTheCallBefore) {
            return self.first_answer_of_the_line(slot, bound).await;
        }
        let found = self.inner.newest(&self.slot(slot), bound).await?;
        if self.is_beside_others(Wrong::CachesSnapshots) && bound.is_none() {
            return Ok(self.process.snapshots.lock().unwrap().entry(slot.clone()).or_insert(found).clone());
        }
        Ok(found)
    }

    async fn save(&self, slot: &Slot, mut save: Save) -> Result<Saved> {
        let slot = &self.slot(slot);
        self.process.snapshots.lock().unwrap().clear();
        let newest = self.inner.newest(slot, None).await?;
        match (self.wrong, newest) {
            (Wrong::SavesInTwoSteps, Some(newest))
                if newest.head.version < save.head.version && save.keep == Keep::Newest =>
            {
                self.inner.compare_and_remove(slot, &newest).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
                return match self.inner.save(slot, save).await? {
                    Saved::Stored { pruned } => Ok(Saved::Stored { pruned: pruned + 1 }),
                    superseded => Ok(superseded),
                };
            }
            (Wrong::EqualKeepsTheDay, Some(newest)) if newest.head.version == save.head.version => {
                save.day = newest.used;
            }
            (Wrong::OlderWins, Some(newest)) if newest.head.version > save.head.version => {
                self.inner.compare_and_remove(slot, &newest).await?;
            }
            (Wrong::EqualStays, Some(newest)) if newest.head.version == save.head.version => {
                return Ok(Saved::Superseded(newest.head));
            }
            (Wrong::PrunesWhenSuperseded, Some(newest)) if newest.head.version > save.head.version => {
                let again = Save { head: newest.head, bytes: newest.bytes, ..save };
                self.inner.save(slot, again).await?;
            }
            (Wrong::KeepsOne, _) => save.keep = Keep::Newest,
            (Wrong::KeepsAll, _) => save.keep = Keep::All,
            (Wrong::CutsPayloads, _) => save.bytes.truncate(1 << 20),
            _ => {}
        }
        self.inner.save(slot, save).await
    }

    async fn save_many(&self, saves: &[(Slot, Save)]) -> Vec<Result<Saved>> {
        let mut answers = Vec::with_capacity(saves.len());
        for (slot, save) in saves {
            answers.push(self.save(slot, save.clone()).await);
        }
        if self.is(Wrong::AnswersManyInReverse) {
            answers.reverse();
        }
        answers
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        self.inner.list(if self.is(Wrong::ListsEverything) { SlotFilter::all() } else { filter })
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        let slot = &self.slot(slot);
        self.process.snapshots.lock().unwrap().clear();
        match self.wrong {
            Wrong::NeverRemoves => return Ok(true),
            Wrong::RemovesWhateverTheHistory => {
                if let Some(kept) = self.inner.newest(slot, Some(read.head.version)).await?
                    && kept.head.version == read.head.version
                    && kept.bytes == read.bytes
                {
                    return self.inner.compare_and_remove(slot, &kept).await;
                }
            }
            Wrong::RemovesNewerOnes => {
                let removed = self.inner.compare_and_remove(slot, read).await?;
                while let (true, Some(newest)) = (removed, self.inner.newest(slot, None).await?)
                    && newest.head.version > read.head.version
                {
                    self.inner.compare_and_remove(slot, &newest).await?;
                }
                return Ok(removed);
            }
            Wrong::RemovesBlindly => {
                if let Some(newest) = self.inner.newest(slot, None).await? {
                    return self.inner.compare_and_remove(slot, &newest).await;
                }
            }
            _ => {}
        }
        self.inner.compare_and_remove(slot, read).await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        self.process.snapshots.lock().unwrap().clear();
        match self.wrong {
            Wrong::NotesNoUse => Ok(()),
            Wrong::NotesOneSlot => {
                for (slot, _) in used {
                    if self.inner.newest(slot, None).await?.is_some() {
                        let of_slot: Vec<_> = used.iter().filter(|(of, _)| of == slot).cloned().collect();
                        return self.inner.mark_used(&of_slot, day).await;
                    }
                }
                Ok(())
            }
            _ => self.inner.mark_used(used, day).await,
        }
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        self.process.snapshots.lock().unwrap().clear();
        match self.wrong {
            Wrong::SweepsTheDayItself => self.inner.sweep(filter, Day(unused_since.0 + 1)).await,
            Wrong::SweepsEverything => self.inner.sweep(SlotFilter::all(), unused_since).await,
            Wrong::SweepsWhatLasts => {
                let mut swept = self.inner.sweep(filter.clone(), unused_since).await?;
                for info in self.inner.list_to_vec(filter).await? {
                    if info.used < unused_since
                        && let Some(kept) = self.inner.newest(&info.slot, None).await?
                    {
                        self.inner.compare_and_remove(&info.slot, &kept).await?;
                        swept.snapshots += 1;
                        swept.bytes += info.bytes;
                    }
                }
                Ok(swept)
            }
            _ => self.inner.sweep(filter, unused_since).await,
        }
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        self.process.snapshots.lock().unwrap().clear();
        let mut swept = self.inner.forget(key).await?;
        if self.is(Wrong::ForgetsByPrefix) {
            for info in self.inner.list_to_vec(SlotFilter::all()).await? {
                if info.slot.key().starts_with(key) {
                    swept.snapshots += self.inner.forget(info.slot.key()).await?.snapshots;
                }
            }
        }
        Ok(swept)
    }
}
