//! How far a projection has looked beyond its last event: kept apart from its snapshots, so that a quiet projection neither
//! looks through the same events again nor writes its state again.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::anchor::{Anchors, just_before};
use crate::chain::Chain;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::event::Position;
use crate::filter::Filter;
use crate::snapshot::{Compression, Draft, Envelope, Rejection, Save, Slot, SnapshotKeys, StoredSnapshot};
use crate::store::{Commit, EventStore, Follow};
use crate::stream::{Head, Version};

/// Events looked at in vain after which a cursor is written.
pub(crate) const AFTER_EVENTS: u64 = 1_000;
/// How far before the end of a read an event is looked for to anchor a cursor at: where positions are dense, and where each
/// commit takes as many as it may hold events.
const WINDOWS: [u64; 2] = [64, 2 * Commit::MAX_EVENTS as u64];
/// Names what the envelope of a cursor holds.
const CODEC: &str = "cursor";
const PAYLOAD: usize = 8 + 16;

/// Nothing matches after `last`, up to and with the event at `checked`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Anchor of the last event that matches; `None`: none does.
    pub(crate) last: Option<Head>,
    /// Anchor of the event up to which was looked, whether it matches or not.
    pub(crate) checked: Head,
}

impl Cursor {
    /// A cursor at the last event at or before a position, if there is one near it.
    pub(crate) async fn near(
        events: &dyn EventStore,
        anchors: &Anchors,
        last: Option<Head>,
        checked_to: Position,
    ) -> Result<Option<Self>> {
        for window in WINDOWS {
            let after = Position(checked_to.0.saturating_sub(window));
            let mut batches = events.read_all(after, Filter::all(), Follow::ToEnd);
            let mut found = None;
            while let Some(batch) = batches.try_next().await? {
                found = batch
                    .events
                    .iter()
                    .rfind(|event| event.position <= checked_to)
                    .map(|event| anchors.at(event))
                    .or(found);
                if batch.checked_to >= checked_to {
                    break;
                }
            }
            if let Some(checked) = found {
                return Ok(last
                    .is_none_or(|last| last.version < checked.version)
                    .then_some(Self { last, checked }));
            }
        }
        Ok(None)
    }

    /// Whether the event that it is anchored at still stands.
    pub(crate) async fn stands(&self, events: &dyn EventStore, anchors: &Anchors) -> Result<bool> {
        let after = just_before(self.checked.version);
        let mut batches = events.read_all(after, Filter::all(), Follow::ToEnd);
        while let Some(batch) = batches.try_next().await? {
            if let Some(event) = batch.events.first() {
                return Ok(anchors.at(event) == self.checked);
            }
        }
        Ok(false)
    }

    /// What is kept of it.
    pub(crate) fn seal(&self, slot: &Slot, now: Timestamp, keys: Option<&SnapshotKeys>) -> Result<Bytes> {
        let mut payload = [0; PAYLOAD];
        let (position, chain) = payload.split_at_mut(8);
        if let Some(last) = self.last {
            position.copy_from_slice(&last.version.0.to_le_bytes());
            chain.copy_from_slice(last.chain.as_bytes());
        }
        Draft {
            slot,
            head: self.checked,
            latest_recorded_at: Timestamp::MIN,
            folded: Vec::new(),
            codec: CODEC,
            created_at: now,
            forgotten_keys: 0,
            keys,
        }
        .seal(&payload, Compression::None, None)
    }

    /// What was kept.
    ///
    /// # Errors
    /// [`Rejection::OtherKey`], or [`Rejection::Corrupt`] for whatever is not a cursor of the slot.
    pub(crate) fn open(
        slot: &Slot,
        stored: &StoredSnapshot,
        keys: Option<&SnapshotKeys>,
    ) -> Result<Self, Rejection> {
        let envelope = Envelope::parse(&stored.bytes)?;
        if envelope.slot != *slot || envelope.head != stored.head || envelope.codec != CODEC {
            return Err(Rejection::Corrupt);
        }
        envelope.check_key(keys)?;
        let payload = envelope.payload(PAYLOAD as u64, None)?;
        let payload: &[u8; PAYLOAD] = payload.as_ref().try_into().map_err(|_| Rejection::Corrupt)?;
        let (position, chain) = payload.split_at(8);
        let position = position.try_into().map(u64::from_le_bytes).map_err(|_| Rejection::Corrupt)?;
        let chain = chain.try_into().map(Chain::from_bytes).map_err(|_| Rejection::Corrupt)?;
        let last = (position > 0).then_some(Head { version: Version(position), chain });
        Ok(Self { last, checked: envelope.head })
    }

    pub(crate) fn save(&self, slot: &Slot, now: Timestamp, keys: Option<&SnapshotKeys>) -> Result<Save> {
        let bytes = self.seal(slot, now, keys)?;
        Ok(Save { head: self.checked, bytes, keep: crate::snapshot::Keep::Newest, day: now.day() })
    }
}
