//! Carries out what waits in the tiers, each tier by a worker of its own.

use std::sync::{Arc, Weak};

use super::at_work::AtWork;
use super::lane::{Errand, Lane, Mark, Origin, Sealed};
use super::{Queue, Writer};
use crate::clock::Day;
use crate::error::{Error, Result};
use crate::fold::Fold;
use crate::panics::caught_in;
use crate::snapshot::serial::Slot;
use crate::snapshot::store::{Save, Saved, SlotFilter, StoredSnapshot};
use crate::snapshot::tiers::{Failure, GuardedTier, TierOutcome};
use crate::stats::Outcome;

impl<F: Fold> Writer<F> {
    /// Copies what a tier served to tiers that have nothing of the slot that serves.
    pub(crate) fn fill(self: &Arc<Self>, slot: &Slot, served: &StoredSnapshot, places: &[usize]) {
        let ticket = self.lock().next_ticket();
        let sealed = Sealed { head: served.head, bytes: served.bytes.clone(), origin: Origin::Tier, ticket };
        self.hand_out(vec![(slot.clone(), sealed)], |place, _| places.contains(&place));
    }

    /// Keeps something small that is sealed already, in all tiers.
    pub(crate) fn keep(self: &Arc<Self>, slot: &Slot, save: &Save) {
        self.hand_out_copy(slot, save, |_, _| true);
    }

    /// Copies what the events' transaction has kept to the other tiers.
    pub(crate) fn copy_beside_own(self: &Arc<Self>, slot: &Slot, save: &Save) {
        self.hand_out_copy(slot, save, |_, tier| !tier.is_own());
    }

    /// Copies what the farthest tier is asked to keep to the others.
    pub(crate) fn copy_to_nearer(self: &Arc<Self>, slot: &Slot, save: &Save) {
        let farthest = self.tiers.len().saturating_sub(1);
        self.hand_out_copy(slot, save, |place, _| place < farthest);
    }

    fn hand_out_copy(
        self: &Arc<Self>,
        slot: &Slot,
        save: &Save,
        meant: impl Fn(usize, &GuardedTier) -> bool,
    ) {
        let ticket = self.lock().next_ticket();
        let sealed = Sealed { head: save.head, bytes: save.bytes.clone(), origin: Origin::Saved, ticket };
        self.hand_out(vec![(slot.clone(), sealed)], meant);
    }

    /// Puts envelopes in line in each tier that is meant.
    pub(super) fn hand_out(
        self: &Arc<Self>,
        envelopes: Vec<(Slot, Sealed)>,
        meant: impl Fn(usize, &GuardedTier) -> bool,
    ) {
        let mut queue = self.lock();
        let is_closed = queue.closed;
        for (place, tier) in self.tiers.iter().enumerate().filter(|(place, tier)| meant(*place, tier)) {
            let Some(lane) = queue.lanes.get_mut(place) else { continue };
            for (slot, sealed) in &envelopes {
                if is_closed && sealed.origin != Origin::Due {
                    continue;
                }
                if lane.put(slot.clone(), sealed.clone(), self.config.queue_bytes) {
                    self.start_lane(lane, place);
                } else {
                    tier.count(TierOutcome::QueueFull);
                    self.became(tier, sealed.origin, Outcome::QueueFull);
                }
            }
        }
    }

    pub(super) fn hand_out_marks(self: &Arc<Self>, marks: &[Mark], day: Day, since: Option<u64>) {
        self.for_each_lane(|lane| lane.mark(marks, day, since));
    }

    pub(super) fn hand_out_sweep(self: &Arc<Self>, unused_since: Day) {
        self.for_each_lane(|lane| lane.sweep(unused_since));
    }

    fn for_each_lane(self: &Arc<Self>, errand: impl Fn(&mut Lane)) {
        for (place, lane) in self.lock().lanes.iter_mut().enumerate() {
            errand(lane);
            self.start_lane(lane, place);
        }
    }

    pub(super) fn start_lanes(self: &Arc<Self>, queue: &mut Queue<F>) {
        for (place, lane) in queue.lanes.iter_mut().enumerate() {
            if !lane.is_empty() {
                self.start_lane(lane, place);
            }
        }
    }

    fn start_lane(self: &Arc<Self>, lane: &mut Lane, place: usize) {
        if lane.is_working() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let at_work = AtWork::new(&self.signals);
        lane.worker = Arc::downgrade(&at_work);
        runtime.spawn(self.clone().run(Some(place), at_work));
    }

    /// Drops what waits in a tier. Answers how many snapshots that is to be told of.
    pub(super) fn empty_lane(&self, place: usize) -> usize {
        let is_farthest = place + 1 == self.tiers.len();
        let dropped = self.lock().lanes.get_mut(place).map_or(0, Lane::empty);
        if is_farthest { dropped } else { 0 }
    }

    pub(super) async fn run_errands(&self, place: usize) {
        let Some(tier) = self.tiers.get(place) else { return };
        while let Some(errand) = self.next_errand(place) {
            match errand {
                Errand::Save(group) => self.save(tier, group).await,
                Errand::Mark(marks, day) => self.mark(tier, &marks, day).await,
                Errand::Sweep(unused_since) => self.sweep(tier, unused_since).await,
            }
        }
        self.signals.room.notify_one();
        self.signals.idle.notify_waiters();
    }

    fn next_errand(&self, place: usize) -> Option<Errand> {
        let mut queue = self.lock();
        let lane = queue.lanes.get_mut(place)?;
        let errand = lane.take();
        if errand.is_none() {
            lane.worker = Weak::new();
        }
        drop(queue);
        self.signals.saved.notify_waiters();
        errand
    }

    async fn save(&self, tier: &GuardedTier, group: Vec<(Slot, Sealed)>) {
        let day = self.sealer.clock().now().day();
        let (mut saves, mut origins) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        for (slot, Sealed { head, bytes, origin, .. }) in group {
            let stands = caught_in(self.stands(&slot, head)).await;
            let stands =
                stands.unwrap_or_else(|panicked| Err(Error::invalid("the store").caused_by(panicked)));
            match stands {
                Ok(true) => {
                    saves.push((slot, Save { head, bytes, keep: self.config.keep, day }));
                    origins.push(origin);
                }
                Ok(false) => self.became(tier, origin, Outcome::Erased),
                Err(error) => {
                    tracing::warn!(%slot, %error, "snapshot not saved: its stream was erased, or not");
                    self.became(tier, origin, Outcome::Failed);
                }
            }
        }
        let Some((first, _)) = saves.first() else { return };
        let call = async {
            let answers = tier.store().save_many(&saves).await;
            if answers.len() != saves.len() {
                let reason = format!("{} of {} saves were answered", answers.len(), saves.len());
                return Err(Error::corrupt(reason));
            }
            // Where none was done the tier has failed, and its breaker is to know.
            match answers.first() {
                Some(Err(error)) if answers.iter().all(Result::is_err) => Err(error.clone()),
                _ => Ok(answers),
            }
        };
        match tier.attempt(self.config.write_timeout(), call).await {
            Ok(answers) => {
                for (answer, ((slot, _), origin)) in answers.into_iter().zip(saves.iter().zip(origins)) {
                    self.was_answered(tier, slot, origin, answer);
                }
            }
            Err(failure) => {
                let outcome = match &failure {
                    Failure::BreakerOpen => Outcome::BreakerOpen,
                    Failure::TimedOut(_) => Outcome::TimedOut,
                    Failure::Failed(_) => Outcome::Failed,
                };
                // An open breaker was told of when it opened.
                if outcome != Outcome::BreakerOpen {
                    let snapshots = saves.len();
                    tracing::warn!(slot = %first, tier = %tier.name(), snapshots, %failure, "snapshots not saved");
                }
                // One of them was counted by the attempt.
                (1..saves.len()).for_each(|_| tier.count(failure.outcome()));
                origins.into_iter().for_each(|origin| self.became(tier, origin, outcome));
            }
        }
    }

    fn was_answered(&self, tier: &GuardedTier, slot: &Slot, origin: Origin, answer: Result<Saved>) {
        let outcome = match answer {
            Ok(saved) => {
                tier.count(match (TierOutcome::of_save(saved), origin) {
                    (TierOutcome::Stored, Origin::Tier) => TierOutcome::Filled,
                    (outcome, _) => outcome,
                });
                saved.into()
            }
            Err(error) => {
                tier.count(TierOutcome::Failed);
                tracing::warn!(%slot, tier = %tier.name(), %error, "snapshot not saved");
                Outcome::Failed
            }
        };
        self.became(tier, origin, outcome);
    }

    /// What becomes of a snapshot in the farthest tier is what became of it.
    fn became(&self, tier: &GuardedTier, origin: Origin, outcome: Outcome) {
        let farthest = self.tiers.last().is_some_and(|farthest| std::ptr::eq(farthest, tier));
        if farthest && origin == Origin::Due {
            self.counters.wrote(outcome);
        }
    }

    async fn mark(&self, tier: &GuardedTier, marks: &[Mark], day: Day) {
        let marked = tier.attempt(self.config.write_timeout(), tier.store().mark_used(marks, day)).await;
        if let Err(failure) = marked {
            tracing::warn!(
                fold = F::NAME, tier = %tier.name(), marks = marks.len(), %failure, "use of snapshots not noted"
            );
            // Noted with the next use.
            let mut queue = self.lock();
            for mark in marks {
                queue.marked.remove(mark);
            }
        }
    }

    async fn sweep(&self, tier: &GuardedTier, unused_since: Day) {
        let sweep = tier.store().sweep(SlotFilter::fold(F::NAME), unused_since);
        match tier.attempt(self.config.write_timeout(), sweep).await {
            Ok(swept) if swept.snapshots > 0 => {
                tracing::info!(
                    fold = F::NAME,
                    tier = %tier.name(),
                    snapshots = swept.snapshots,
                    bytes = swept.bytes,
                    "unused snapshots swept"
                );
            }
            Ok(_) => {}
            Err(failure) => {
                tracing::warn!(fold = F::NAME, tier = %tier.name(), %failure, "unused snapshots not swept");
            }
        }
    }
}
