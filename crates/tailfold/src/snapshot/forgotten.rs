//! Removing snapshots that may hold what was forgotten.

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;

use super::envelope::Envelope;
use super::serial::Slot;
use super::store::{SlotFilter, SnapshotStore, StoredSnapshot, Swept};
use crate::encryption::{Encryption, StateOf};
use crate::error::Result;
use crate::fold::Fold;
use crate::repository::SnapshotSide;
use crate::stream::Version;

/// Removes from a store every snapshot that was begun when fewer keys were forgotten than now, of every fold,
/// serial and instance that matches: what nobody loads again, and what releases of the past have left, goes
/// as well. Call it for each tier after a key was forgotten, where the snapshots must not wait for the next
/// load of their instance. Answers what was removed.
///
/// Processes that wrote a snapshot at that very moment may leave one more behind, which goes with its next
/// load; call it again a minute later where that matters.
///
/// # Errors
/// The hook's and the store's. Calling it again is safe and does what is left to do.
pub async fn remove_forgotten(
    snapshots: &(impl SnapshotStore + ?Sized),
    encryption: &dyn Encryption,
    filter: SlotFilter,
) -> Result<Swept> {
    let mut removed = Swept::default();
    let mut batches = snapshots.list(filter);
    while let Some(batch) = batches.try_next().await? {
        for info in batch {
            let slot = &info.slot;
            let state = StateOf::in_slot(slot).filter(|_| !slot.is_lasting());
            let Some(keys) = state.map(|state| encryption.forgotten_keys(&state)).transpose()? else {
                continue;
            };
            let Some(stored) = snapshots.newest(slot, Some(info.head.version)).await? else { continue };
            if stored.head.version == info.head.version
                && is_outdated(&stored, keys)
                && snapshots.compare_and_remove(slot, &stored).await?
            {
                removed.snapshots += 1;
                removed.bytes += stored.bytes.len() as u64;
            }
        }
    }
    Ok(removed)
}

/// Whether a snapshot was begun when fewer keys were forgotten. What cannot be read may hold anything.
fn is_outdated(stored: &StoredSnapshot, keys: u64) -> bool {
    Envelope::parse(&stored.bytes).map_or(keys > 0, |envelope| envelope.forgotten_keys < keys)
}

impl<F: Fold> SnapshotSide<F> {
    /// Removes outdated snapshots of a slot from all tiers, those that did not have to serve included. Bounded as
    /// [`SnapshotSide::remove_where`] is.
    pub(crate) async fn remove_outdated(&self, slot: &Slot, keys: u64) {
        self.remove_where(slot, |stored| is_outdated(stored, keys)).await;
    }

    /// Removes snapshots of a slot from all tiers, from the newest down, each asked for once: whatever a store answers to
    /// removals, the walk comes to its end. Costs a load as long as it waits for the slowest tier, at most; what fails or
    /// is refused is said, and such a snapshot never serves.
    pub(crate) async fn remove_where(&self, slot: &Slot, is_meant: impl Fn(&StoredSnapshot) -> bool + Sync) {
        let is_meant = &is_meant;
        let removals = self.tiers.iter().map(|tier| async move {
            let removal = async {
                let mut bound = None;
                while let Some(stored) = tier.store().newest(slot, bound).await? {
                    if bound.is_some_and(|bound| stored.head.version > bound) {
                        // Not what was asked for: it would go round and round.
                        break;
                    }
                    if is_meant(&stored) && !tier.store().compare_and_remove(slot, &stored).await? {
                        let version = stored.head.version;
                        tracing::debug!(%slot, tier = %tier.name(), %version, "outdated snapshot replaced or kept");
                    }
                    if stored.head.version <= Version::FIRST {
                        break;
                    }
                    bound = Some(Version(stored.head.version.0 - 1));
                    // A store that never waits would never let the timeout have its turn.
                    tokio::task::consume_budget().await;
                }
                Ok(())
            };
            if let Err(failure) = tier.attempt(tier.timeout(), removal).await {
                tracing::warn!(%slot, tier = %tier.name(), %failure, "outdated snapshots not removed");
            }
        });
        join_all(removals).await;
    }
}
