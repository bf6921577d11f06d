//! The event store of a mutant.

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tailfold::*;

use crate::mutant::{Mutant, Wrong};
use crate::{appends, reads, removals};

#[async_trait]
impl EventStore for Mutant {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn store_id(&self) -> Result<StoreId> {
        match self.wrong {
            Wrong::RenewsItsId => Ok(StoreId::fresh()),
            Wrong::RenewsItsIdWhenOpened => Ok(self.process_id()),
            _ => self.inner.store_id().await,
        }
    }

    async fn append(&self, commit: Commit) -> Result<Committed> {
        let mut result = appends::append(self, commit).await;
        let lowered = *self.place.lowered.lock().unwrap();
        if let Ok(committed) = &mut result {
            committed.position = reads::told(lowered, committed.position);
        }
        result
    }

    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches {
        reads::read_lowered(self, reads::read(self, stream, range, direction))
    }

    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        reads::read_all(self, after, filter, follow)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        let head = self.inner.head(stream).await?;
        if self.is_beside_others(Wrong::CachesHeads) {
            return Ok(*self.process.heads.lock().unwrap().entry(stream.clone()).or_insert(head));
        }
        match head {
            Some(head) if self.is(Wrong::HeadLagsBehind) && head.version > Version::FIRST => {
                let before = VersionRange::ALL.up_to(Some(Version(head.version.0 - 1)));
                Ok(self.inner.read_to_vec(stream, before).await?.last().map(RecordedEvent::head))
            }
            head => Ok(head),
        }
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        match self.wrong {
            Wrong::ListsInReverse => {
                let batches = self.inner.streams(filter, after);
                batches
                    .map_ok(|mut batch| {
                        batch.reverse();
                        batch
                    })
                    .boxed()
            }
            Wrong::ListsAfterInclusive => match after {
                Some(after) => {
                    let first = self.inner.streams(Filter::stream(after.clone()), None);
                    first.chain(self.inner.streams(filter, Some(after))).boxed()
                }
                None => self.inner.streams(filter, None),
            },
            Wrong::ListsByEvents if filter.restricts_events() => self.inner.streams(Filter::all(), after),
            _ => self.inner.streams(filter, after),
        }
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed> {
        let mut removed = removals::remove(self, stream, removal).await?;
        let lowered = *self.place.lowered.lock().unwrap();
        removed.tombstone = removed.tombstone.map(|position| reads::told(lowered, position));
        Ok(removed)
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        Some(self)
    }
}

#[async_trait]
impl SnapshotAndTail for Mutant {
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        bound: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)> {
        let snapshot = self.inner.newest(slot, bound).await?;
        let base = snapshot.as_ref().map_or(Version::ZERO, |snapshot| snapshot.head.version);
        let from = if self.is(Wrong::TailExcludesTheBase) { base.next() } else { base };
        let to = if self.is(Wrong::TailIgnoresTheBound) { None } else { bound };
        let tail = self.inner.read(stream, VersionRange::from(from).up_to(to), Direction::Forward);
        let tail = if self.is(Wrong::GivesTailsInOneBatch) { reads::in_one_batch(tail) } else { tail };
        Ok((snapshot, tail))
    }
}
