//! What a projection starts from: a snapshot whose event is still the log's own, and the matching events after it.

use std::sync::Arc;

use super::cursor::{self, Cursor};
use super::load::{Instance, Options};
use super::replay::LogReplay;
use super::tail::LogTail;
use super::{Projected, Projection};
use crate::error::{Error, Result};
use crate::event::Position;
use crate::load::walk::{Sought, Tried};
use crate::repository::{Inner, SnapshotSide};
use crate::snapshot::{GuardedTier, Rejection, Slot, StoredSnapshot};
use crate::stream::{Head, Version};

/// What is looked for.
pub(super) struct Wanted<'a, P> {
    pub(super) inner: &'a Inner<P>,
    pub(super) side: &'a SnapshotSide<P>,
    pub(super) instance: &'a Instance,
    pub(super) slot: Slot,
    pub(super) options: &'a Options,
    /// How many keys were forgotten before anything was read.
    pub(super) forgotten_keys: u64,
}

impl<P: Projection> Sought<P> for Wanted<'_, P> {
    type Replay = Box<LogReplay<P>>;
    type Tail = LogTail;

    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn bound(&self) -> Option<Version> {
        self.options.at.map(|position| Version(position.0))
    }

    fn is_current(&self) -> bool {
        self.options.at.is_none()
    }

    async fn candidate(
        &self,
        tier: &GuardedTier,
        bound: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, Option<LogTail>)> {
        Ok((tier.store().newest(&self.slot, bound).await?, None))
    }

    async fn try_candidate(
        &self,
        _tier: &GuardedTier,
        stored: &StoredSnapshot,
        _tail: Option<LogTail>,
    ) -> Result<Tried<Box<LogReplay<P>>, LogTail>> {
        let Self { inner, side, instance, slot, .. } = self;
        let envelope = match side.sealer.check(slot, stored, self.forgotten_keys) {
            Ok(envelope) => envelope,
            Err(reason) => return Ok(Tried::Rejected(reason)),
        };
        let mut tail = instance.tail_from(inner, envelope.head.version);
        if let Some(reason) = anchor(&mut tail, instance, envelope.head).await? {
            return Ok(Tried::Rejected(reason));
        }
        match side.sealer.open(&envelope) {
            Ok(state) => Ok(Tried::Serves(Box::new(LogReplay::from_snapshot(state, envelope)), tail)),
            Err(reason) => Ok(Tried::Rejected(reason)),
        }
    }
}

/// Checks that the first event of the tail is the one that a state is anchored at, of this store and this query. A read of
/// the log to its end is a consistent one on every backend: what it does not give is not there.
async fn anchor(tail: &mut LogTail, instance: &Instance, anchored: Head) -> Result<Option<Rejection>> {
    Ok(match tail.peek().await? {
        None => Some(Rejection::Ahead),
        Some(event) if event.position.0 > anchored.version.0 => Some(Rejection::Truncated),
        Some(event) if event.position.0 < anchored.version.0 => {
            return Err(Error::corrupt(format!(
                "a read from position {} began with position {}",
                anchored.version, event.position
            )));
        }
        Some(event) if instance.anchors.at(event) != anchored => Some(Rejection::Diverged),
        Some(_) => None,
    })
}

impl<P: Projection> Inner<P> {
    /// From the state that a decision before has seen, if its last event is still the log's own. Where much was looked at in vain
    /// since that event, a snapshot is the better start: it has a cursor.
    pub(super) async fn log_from_memory(
        &self,
        instance: &Instance,
        seen: Projected<P>,
        forgotten_keys: u64,
    ) -> Result<Option<(Box<LogReplay<P>>, LogTail)>> {
        let Some(head) = seen.head else { return Ok(None) };
        if !seen.trail.exact
            || seen.trail.forgotten_keys != forgotten_keys
            || seen.report.visited_in_vain() >= cursor::AFTER_EVENTS
        {
            return Ok(None);
        }
        let mut tail = instance.tail_from(self, head.version);
        if let Some(reason) = anchor(&mut tail, instance, head).await? {
            tracing::debug!(key = %instance.key, %reason, "a state in memory is not the log's");
            return Ok(None);
        }
        let state = Arc::unwrap_or_clone(seen.state);
        Ok(Some((Box::new(LogReplay::from_memory(state, head, seen.trail)), tail)))
    }

    /// What the nearest tier knows of how far the log was looked at. A hint: whatever fails costs a longer look.
    pub(super) async fn cursor(&self, side: &SnapshotSide<P>, instance: &Instance) -> Option<Cursor> {
        let slot = side.sealer.slot_of(&instance.cursor_key);
        for tier in side.tiers.iter() {
            let newest = tier.attempt(tier.timeout(), tier.store().newest(&slot, None)).await;
            let stored = match newest {
                Ok(stored) => stored,
                Err(failure) => {
                    tracing::debug!(%slot, tier = %tier.name(), %failure, "cursor not read");
                    continue;
                }
            };
            if let Some(stored) = stored {
                match Cursor::open(&slot, &stored, side.sealer.keys()) {
                    Ok(cursor) => {
                        side.writer.used(&slot, stored.head.version, stored.used);
                        return Some(cursor);
                    }
                    // Another process may be able to use it.
                    Err(Rejection::OtherKey) => continue,
                    Err(_) => {}
                }
                // Not one: it would keep the right one out.
                let removed = tier.store().compare_and_remove(&slot, &stored);
                if let Err(failure) = tier.attempt(tier.timeout(), removed).await {
                    tracing::debug!(%slot, tier = %tier.name(), %failure, "broken cursor not removed");
                }
            }
        }
        None
    }

    /// Notes how far the log was looked at in vain.
    pub(super) async fn note_checked(
        &self,
        side: &SnapshotSide<P>,
        instance: &Instance,
        last: Option<Head>,
        checked_to: Position,
    ) -> Result<()> {
        let cursor = Cursor::near(&*self.events, &instance.anchors, last, checked_to).await?;
        if let Some(cursor) = cursor {
            let slot = side.sealer.slot_of(&instance.cursor_key);
            let save = cursor.save(&slot, self.clock.now(), side.sealer.keys())?;
            side.writer.keep(&slot, &save);
        }
        Ok(())
    }
}
