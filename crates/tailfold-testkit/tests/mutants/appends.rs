//! Appends that are wrong.

use bytes::Bytes;
use tailfold::*;

use crate::mutant::{Mutant, Wrong};
use crate::removals;

fn rebuilt(event: &NewEvent, change: impl FnOnce(&mut EventData)) -> NewEvent {
    let mut data = event.data().clone();
    change(&mut data);
    NewEvent::new(data).unwrap()
}

pub(crate) async fn append(mutant: &Mutant, mut commit: Commit) -> Result<Committed> {
    for write in &mut commit.writes {
        match (mutant.wrong, write.expected) {
            (Wrong::ForgetsExpectations, _) => write.expected = Expected::Any,
            (Wrong::ComparesVersionsOnly, Expected::Head(head)) => {
                write.expected = Expected::Version(head.version);
            }
            (_, Expected::NoStream) if mutant.is_later(Wrong::ExpectsWithoutOthers) => {
                write.expected = Expected::Any;
            }
            _ => {}
        }
        for event in &mut write.events {
            match mutant.wrong {
                Wrong::DropsMetadata => *event = rebuilt(event, |data| data.metadata = Bytes::new()),
                Wrong::SortsTags => *event = rebuilt(event, |data| data.tags.sort()),
                _ => {}
            }
        }
    }
    if mutant.is_later(Wrong::DecidesWithoutOthers) {
        commit.unchanged = None;
    }
    match mutant.wrong {
        Wrong::SwallowsUnchanged => commit.unchanged = None,
        Wrong::SwallowsInlineSnapshots => commit.snapshot = None,
        Wrong::KeepsInlineSnapshotsForEver => {
            commit.snapshot.iter_mut().for_each(|inline| inline.save.keep = Keep::All);
        }
        Wrong::ConflictsWithWhatWasErased => {
            if let Some(position) = removals::conflict_with_ghost(mutant, &commit) {
                return Err(Error::changed(position));
            }
        }
        Wrong::ChecksNothing if commit.check().is_err() => {
            commit.writes.truncate(1);
            commit.writes[0].events.truncate(Commit::MAX_EVENTS);
            if commit.writes[0].events.is_empty() {
                let head = Head { version: Version(1), chain: Chain::from_bytes([0; 16]) };
                let written = Written { stream: commit.writes[0].stream.clone(), first: Version(1), head };
                let writes = vec![written];
                return Ok(Committed { writes, position: Position(1), snapshot: None, repeated: false });
            }
        }
        Wrong::SplitsCommits => {
            commit.check()?;
            return one_write_after_the_other(&mutant.inner, commit.writes).await;
        }
        Wrong::ShowsHalfCommits => {
            let mutant = mutant.clone();
            // Not in the caller's task, so that it is done even where the caller is dropped.
            let half = tokio::spawn(async move { append_by_halves(&mutant, commit).await });
            return half.await.unwrap();
        }
        _ => {}
    }
    let copy = commit.clone();
    let result = mutant.inner.append(commit).await;
    if mutant.is(Wrong::CachesHeads) {
        let mut heads = mutant.process.heads.lock().unwrap();
        for write in &copy.writes {
            heads.remove(&write.stream);
        }
    }
    match (mutant.wrong, result) {
        (Wrong::KnowsNoRepeats, Ok(committed)) if committed.repeated => {
            conflict(mutant, &copy.writes[0]).await
        }
        (Wrong::RecognisesWholeCommitsOnly, Ok(committed)) => {
            let unknown = {
                let mut recorded = mutant.place.recorded.lock().unwrap();
                let unknown = copy.writes.iter().find(|write| !recorded.contains(&ids(write)));
                if !committed.repeated {
                    recorded.extend(copy.writes.iter().map(ids));
                }
                unknown.filter(|_| committed.repeated)
            };
            match unknown {
                Some(write) => conflict(mutant, write).await,
                None => Ok(committed),
            }
        }
        (Wrong::KeepsSnapshotsOfRepeats, Ok(mut committed)) if committed.repeated => {
            if let Some(InlineSnapshot { slot, save }) = copy.snapshot {
                committed.snapshot = Some(mutant.inner.save(&slot, save).await?);
            }
            Ok(committed)
        }
        (Wrong::TakesAnythingForARepeat, Err(error)) if error.is_conflict() => {
            let stream = copy.writes[0].stream.clone();
            let Some(head) = mutant.inner.head(&stream).await? else { return Err(error) };
            let writes = vec![Written { stream, first: Version(1), head }];
            Ok(Committed { writes, position: Position(1), snapshot: None, repeated: true })
        }
        (_, result) => result,
    }
}

async fn conflict(mutant: &Mutant, write: &StreamWrite) -> Result<Committed> {
    let actual = mutant.inner.head(&write.stream).await?;
    Err(Error::conflict(write.stream.clone(), write.expected, actual))
}

fn ids(write: &StreamWrite) -> Vec<EventId> {
    write.events.iter().map(|event| event.data().id).collect()
}

async fn one_write_after_the_other(store: &MemoryStore, writes: Vec<StreamWrite>) -> Result<Committed> {
    let mut receipt: Option<Committed> = None;
    for write in writes {
        let part = store.append(Commit::new(write.stream, write.expected, write.events)).await?;
        match &mut receipt {
            None => receipt = Some(part),
            Some(receipt) => {
                receipt.writes.extend(part.writes);
                receipt.position = part.position;
            }
        }
    }
    Ok(receipt.unwrap())
}

/// Appends each write's first event, and the others a while later. Between writers that is one step.
async fn append_by_halves(mutant: &Mutant, commit: Commit) -> Result<Committed> {
    let _turn = mutant.place.turn.lock().await;
    let mut met = commit.unchanged.is_none() && commit.snapshot.is_none() && commit.check().is_ok();
    for write in &commit.writes {
        met &= write.expected.is_met_by(mutant.inner.head(&write.stream).await?);
    }
    if !met || commit.writes.iter().all(|write| write.events.len() < 2) {
        return mutant.inner.append(commit).await;
    }
    let mut firsts = Vec::new();
    for write in &commit.writes {
        let first = Commit::new(write.stream.clone(), Expected::Any, write.events[..1].to_vec());
        firsts.extend(mutant.inner.append(first).await?.writes);
    }
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let mut writes = Vec::new();
    let mut position = Position::ZERO;
    for (write, first) in commit.writes.into_iter().zip(firsts) {
        let rest = write.events[1..].to_vec();
        let head = match rest.is_empty() {
            true => first.head,
            false => {
                let rest =
                    mutant.inner.append(Commit::new(write.stream.clone(), Expected::Any, rest)).await?;
                position = rest.position;
                rest.writes[0].head
            }
        };
        writes.push(Written { stream: write.stream, first: first.first, head });
    }
    Ok(Committed { writes, position, snapshot: None, repeated: false })
}
