//! The tiers of a repository as one: what somebody waits for is asked of all of them, or of the farthest.

use super::serial::Slot;
use super::store::{Save, Saved, SlotFilter, SnapshotStoreExt as _, Swept};
use super::tiers::{GuardedTier, TierOutcome};
use crate::error::{Error, Result};
use crate::fold::Fold;
use crate::loaded::Trail;
use crate::repository::{Inner, SnapshotSide};
use crate::stream::Head;

impl<F: Fold> Inner<F> {
    /// Keeps a snapshot of a state now; the farthest tier answers.
    pub(crate) async fn save_at(
        &self,
        side: &SnapshotSide<F>,
        slot: &Slot,
        state: &F,
        head: Head,
        trail: &Trail,
    ) -> Result<Saved> {
        if !trail.exact {
            return Err(Error::invalid("events were skipped: such a state is never kept"));
        }
        let sealed = side.sealer.seal(slot, state, head, trail);
        let bytes = sealed.map_err(|refused| refused.error)?;
        if !side.writer.stands(slot, head).await? {
            return Err(Error::invalid("the stream was erased since it was loaded: load it again"));
        }
        let day = side.sealer.clock().now().day();
        let saved = side.save_everywhere(slot, Save { head, bytes, keep: side.config.keep, day }).await?;
        self.counters.wrote(saved.into());
        Ok(saved)
    }
}

impl<F: Fold> SnapshotSide<F> {
    /// Removes what all tiers keep of a key of this fold and serial: what is kept holds what was erased. Bounded as
    /// [`SnapshotSide::remove_where`] is.
    pub(crate) async fn forget_slot(&self, key: &str) {
        self.remove_where(&self.sealer.slot_of(key), |_| true).await;
    }

    /// The one that is expected to keep what the others may lose.
    fn farthest(&self) -> &GuardedTier {
        self.tiers.last().expect("a chain without a tier is not built")
    }

    /// Saves to the farthest tier, whose answer counts; the nearer ones get it in the background.
    pub(crate) async fn save_everywhere(&self, slot: &Slot, save: Save) -> Result<Saved> {
        self.writer.copy_to_nearer(slot, &save);
        let tier = self.farthest();
        let saved = tier.insist(self.config.write_timeout(), tier.store().save(slot, save)).await;
        let saved = saved.map_err(|failure| failure.into_error(tier.name()))?;
        tier.count(TierOutcome::of_save(saved));
        Ok(saved)
    }

    /// Counts what the farthest tier keeps of the fold's serial.
    pub(crate) async fn count(&self) -> Result<Swept> {
        let filter = SlotFilter { serial: Some(self.sealer.serial().clone()), ..SlotFilter::fold(F::NAME) };
        self.farthest().store().count(filter).await
    }
}
