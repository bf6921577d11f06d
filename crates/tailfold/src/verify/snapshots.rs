//! Every snapshot of a store, checked as far as that goes without its fold.

use futures_util::TryStreamExt as _;
use serde::Serialize;

use crate::error::Result;
use crate::event::Position;
use crate::filter::Filter;
use crate::snapshot::{Envelope, Rejection, Slot, SlotFilter, SnapshotInfo, SnapshotStore, StoredSnapshot};
use crate::store::{Direction, EventStore, Follow, VersionRange};
use crate::stream::{Head, StreamId, Version};

/// What [`verify_snapshots`] has seen, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotVerification {
    /// Snapshots read.
    pub snapshots: u64,
    /// Bytes of their envelopes.
    pub bytes: u64,
    /// Those of projections among them, with the cursors in which projections note how far they have looked.
    pub of_projections: u64,
    /// How many of them would be rejected.
    pub wrong: u64,
    /// Those, in the order of their slots; the first [`SnapshotVerification::MOST_LISTED`].
    pub rejected: Vec<WrongSnapshot>,
}

/// A snapshot that no load would use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WrongSnapshot {
    /// Where it lies.
    pub slot: Slot,
    /// Version that it is kept under.
    pub version: Version,
    /// What is wrong with it.
    pub reason: Rejection,
}

impl SnapshotVerification {
    /// Most snapshots that are listed as wrong; all are counted.
    pub const MOST_LISTED: usize = 1000;

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.wrong == 0
    }

    fn reject(&mut self, slot: Slot, version: Version, reason: Rejection) {
        self.wrong += 1;
        if self.rejected.len() < Self::MOST_LISTED {
            self.rejected.push(WrongSnapshot { slot, version, reason });
        }
    }
}

/// Reads every snapshot that matches and checks its envelope, that it lies in the slot and at the head which it names, and
/// that its stream has had exactly that head. Payloads are not decoded: that takes the fold.
///
/// Of a projection's snapshot, that the log reaches the position that it is anchored at: whether the event there is the one
/// that was folded takes the projection's query, so a load checks that. An event that is gone, erased or truncated with its stream,
/// makes the snapshot useless and is not wrong.
///
/// A snapshot that is found wrong costs time and never an answer; the next load of its stream removes it. `progress` is
/// called after each batch.
///
/// # Errors
/// What the stores answer. A wrong snapshot is a result, not an error.
pub async fn verify_snapshots(
    events: &(impl EventStore + ?Sized),
    snapshots: &(impl SnapshotStore + ?Sized),
    filter: SlotFilter,
    mut progress: impl FnMut(&SnapshotVerification) + Send,
) -> Result<SnapshotVerification> {
    let mut seen = SnapshotVerification::default();
    let mut batches = snapshots.list(filter);
    while let Some(batch) = batches.try_next().await? {
        for SnapshotInfo { slot, head, .. } in batch {
            let stored = snapshots.newest(&slot, Some(head.version)).await?;
            // Otherwise it was pruned or replaced since it was listed.
            let Some(stored) = stored.filter(|stored| stored.head.version == head.version) else { continue };
            seen.snapshots += 1;
            seen.bytes += stored.bytes.len() as u64;
            seen.of_projections += u64::from(slot.key().parse::<StreamId>().is_err());
            let checked = match check_envelope(&slot, &stored) {
                Ok(_) => check_anchor(events, &slot, stored.head).await?,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = checked {
                seen.reject(slot, head.version, reason);
            }
        }
        progress(&seen);
    }
    Ok(seen)
}

fn check_envelope(slot: &Slot, stored: &StoredSnapshot) -> Result<Envelope, Rejection> {
    let envelope = Envelope::parse(&stored.bytes)?;
    if envelope.slot != *slot {
        return Err(Rejection::Foreign);
    }
    if envelope.head != stored.head {
        return Err(Rejection::Corrupt);
    }
    Ok(envelope)
}

async fn check_anchor(
    events: &(impl EventStore + ?Sized),
    slot: &Slot,
    head: Head,
) -> Result<Result<(), Rejection>> {
    // The key of a projection names no stream; its anchor is a position.
    let Ok(stream) = slot.key().parse::<StreamId>() else { return check_position(events, head).await };
    let range = VersionRange::from(head.version).up_to(Some(head.version));
    let found: Vec<_> = events.read(&stream, range, Direction::Forward).try_concat().await?;
    if let Some(event) = found.first() {
        return Ok(if event.head() == head { Ok(()) } else { Err(Rejection::Diverged) });
    }
    let last = events.head(&stream).await?.map_or(Version::ZERO, |last| last.version);
    Ok(Err(if head.version > last { Rejection::Ahead } else { Rejection::Truncated }))
}

async fn check_position(events: &(impl EventStore + ?Sized), head: Head) -> Result<Result<(), Rejection>> {
    let before = Position(head.version.0.saturating_sub(1));
    let mut batches = events.read_all(before, Filter::all(), Follow::ToEnd);
    while let Some(batch) = batches.try_next().await? {
        if !batch.events.is_empty() {
            return Ok(Ok(()));
        }
    }
    Ok(Err(Rejection::Ahead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use crate::clock::{Day, Timestamp};
    use crate::snapshot::{Compression, Draft, Keep, Save};
    use crate::{Commit, EventData, EventType, Expected, MemoryStore, NewEvent};

    async fn store() -> (MemoryStore, Head) {
        let store = MemoryStore::new();
        let event = NewEvent::new(EventData::new(EventType::new("counted").unwrap(), "1")).unwrap();
        let commit = Commit::new("a/1".parse().unwrap(), Expected::NoStream, vec![event]);
        let head = store.append(commit).await.unwrap().writes[0].head;
        (store, head)
    }

    async fn save(store: &MemoryStore, fold: &str, head: Head, damage: bool) {
        save_in(store, fold, "a/1", head, damage).await;
    }

    async fn save_in(store: &MemoryStore, fold: &str, key: &str, head: Head, damage: bool) {
        let slot = Slot::new(fold, "0123456789abcdef".parse().unwrap(), key).unwrap();
        let draft = Draft {
            slot: &slot,
            head,
            latest_recorded_at: Timestamp::from_micros(0),
            folded: Vec::new(),
            codec: "json",
            created_at: Timestamp::from_micros(0),
            forgotten_keys: 0,
            keys: None,
        };
        let mut bytes = draft.seal(b"{}", Compression::None, None).unwrap().to_vec();
        if damage {
            *bytes.last_mut().unwrap() ^= 1;
        }
        let save = Save { head, bytes: bytes.into(), keep: Keep::Newest, day: Day(0) };
        store.save(&slot, save).await.unwrap();
    }

    #[tokio::test]
    async fn each_wrong_snapshot_is_named_with_its_reason() {
        let (store, head) = store().await;
        save(&store, "a-right", head, false).await;
        save(&store, "b-flipped", head, true).await;
        save(&store, "c-foreign", Head { chain: Chain::from_bytes([1; 16]), ..head }, false).await;
        save(&store, "d-ahead", Head { version: Version(2), ..head }, false).await;
        let seen = verify_snapshots(&store, &store, SlotFilter::all(), |_| {}).await.unwrap();
        assert_eq!((seen.snapshots, seen.wrong), (4, 3));
        let reasons: Vec<_> =
            seen.rejected.iter().map(|wrong| (wrong.slot.fold().to_owned(), wrong.reason)).collect();
        assert_eq!(
            reasons,
            [
                ("b-flipped".to_owned(), Rejection::Corrupt),
                ("c-foreign".to_owned(), Rejection::Diverged),
                ("d-ahead".to_owned(), Rejection::Ahead),
            ]
        );
    }
    #[tokio::test]
    async fn snapshots_of_projections_lie_within_the_log() {
        let (store, _) = store().await;
        let at = |position| Head { version: Version(position), chain: Chain::from_bytes([1; 16]) };
        save_in(&store, "within", "*", at(1), false).await;
        save_in(&store, "within", "^", at(1), false).await;
        save_in(&store, "flipped", "*tea", at(1), true).await;
        save_in(&store, "behind-the-end", "*tea", at(9), false).await;
        let seen = verify_snapshots(&store, &store, SlotFilter::all(), |_| {}).await.unwrap();
        assert_eq!((seen.snapshots, seen.of_projections, seen.wrong), (4, 4, 2));
        let reasons: Vec<_> = seen.rejected.iter().map(|wrong| wrong.reason).collect();
        assert_eq!(reasons, [Rejection::Ahead, Rejection::Corrupt]);
    }
}
