//! Removals that are wrong, and what they leave behind.

use std::time::Duration;

use tailfold::*;

use crate::mutant::{Mutant, Wrong};

pub(crate) async fn remove(mutant: &Mutant, stream: &StreamId, removal: Removal) -> Result<Removed> {
    let inner = &mutant.inner;
    mutant.process.heads.lock().unwrap().remove(stream);
    let before = inner.read_to_vec(stream, VersionRange::ALL).await?;
    let kept = inner.list_to_vec(SlotFilter::key(stream.as_str())).await?;
    match (mutant.wrong, &removal) {
        (Wrong::ErasesNothing, Removal::Erase { .. }) => Ok(Removed::default()),
        (Wrong::ErasesByPrefix, Removal::Erase { recorded_at, .. }) => {
            let recorded_at = *recorded_at;
            for other in inner.streams_to_vec(Filter::category(stream.category())).await? {
                if other.stream != *stream && other.stream.as_str().starts_with(stream.as_str()) {
                    inner.remove(&other.stream, Removal::erase(recorded_at)).await?;
                }
            }
            inner.remove(stream, removal).await
        }
        (Wrong::TruncatesAnywhere, Removal::BeforeOrigin { .. }) => {
            Ok(inner.remove(stream, removal).await.unwrap_or_default())
        }
        (
            Wrong::KeepsErasedEventsInTheLog
            | Wrong::FindsErasedEventsByTag
            | Wrong::ConflictsWithWhatWasErased,
            Removal::Erase { .. },
        ) => {
            let removed = inner.remove(stream, removal).await?;
            mutant.place.ghosts.lock().unwrap().extend(before);
            Ok(removed)
        }
        (Wrong::KeepsTruncatedEventsInTheLog, Removal::BeforeOrigin { version, .. }) => {
            let version = *version;
            let removed = inner.remove(stream, removal).await?;
            let cut = before.into_iter().filter(|event| event.version < version);
            mutant.place.ghosts.lock().unwrap().extend(cut);
            Ok(removed)
        }
        (Wrong::ForgetsToForget, _) => {
            let removed = inner.remove(stream, removal).await?;
            save_again(mutant, kept).await?;
            Ok(removed)
        }
        (Wrong::ForgetsAfterTheErase, Removal::Erase { .. }) => {
            let removed = inner.remove(stream, removal).await?;
            if removed.events > 0 {
                save_again(mutant, kept).await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
                inner.forget(stream.as_str()).await?;
            }
            Ok(removed)
        }
        (Wrong::TruncatesOneFold, Removal::BeforeOrigin { .. }) => {
            let removed = inner.remove(stream, removal).await?;
            let left = inner.list_to_vec(SlotFilter::key(stream.as_str())).await?;
            let gone = kept.iter().filter(|info| !left.contains(info));
            let first = gone.clone().next().map(|info| info.slot.clone());
            let others = gone.filter(|info| Some(&info.slot) != first.as_ref()).cloned();
            save_again(mutant, others.collect()).await?;
            Ok(removed)
        }
        (Wrong::UsesPositionsAgain, Removal::Erase { .. }) if mutant.is_later(Wrong::UsesPositionsAgain) => {
            let removed = inner.remove(stream, removal).await?;
            let mut lowered = mutant.place.lowered.lock().unwrap();
            // Once is enough.
            if let (Some(tombstone), None) = (removed.tombstone, *lowered) {
                *lowered = Some((tombstone.0, removed.events));
            }
            Ok(removed)
        }
        _ => inner.remove(stream, removal).await,
    }
}

async fn save_again(mutant: &Mutant, kept: Vec<SnapshotInfo>) -> Result<()> {
    for SnapshotInfo { slot, head, used, .. } in kept {
        let save = Save { head, bytes: bytes::Bytes::new(), keep: Keep::All, day: used };
        mutant.inner.save(&slot, save).await?;
    }
    Ok(())
}

/// Where an event stands that was erased and is in the way of a commit all the same.
pub(crate) fn conflict_with_ghost(mutant: &Mutant, commit: &Commit) -> Option<Position> {
    let Unchanged { filter, after } = commit.unchanged.as_ref()?;
    let ghosts = mutant.place.ghosts.lock().unwrap();
    ghosts
        .iter()
        .filter(|ghost| ghost.position > *after && filter.matches(ghost))
        .map(|ghost| ghost.position)
        .min()
}
