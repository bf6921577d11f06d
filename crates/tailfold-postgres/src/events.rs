//! The contract of event stores.

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream;
use tailfold::{
    Capabilities, Commit, Committed, Direction, Error, EventBatches, EventStore, Filter, Follow, Head,
    LogBatches, Position, Removal, Removed, Result, Slot, SnapshotAndTail, StoreId, StoredSnapshot,
    StreamBatches, StreamId, Version, VersionRange,
};

use crate::read::Reading;
use crate::store::PostgresStore;
use crate::{log, streams};

#[async_trait]
impl EventStore for PostgresStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn store_id(&self) -> Result<StoreId> {
        Ok(self.inner.id)
    }

    async fn append(&self, commit: Commit) -> Result<Committed> {
        commit.check()?;
        let first = commit.writes.first().map(|write| write.stream.clone());
        let appended = self.inner.append_commit(commit).await;
        appended.map_err(|error| match first {
            Some(stream) => error.during(format!("append to stream `{stream}`")),
            None => error.during("append"),
        })
    }

    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches {
        Reading::new(self.inner.clone(), stream.clone(), range, direction).into_batches()
    }

    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        log::read(self.inner.clone(), after, &filter, follow)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        let head = self.inner.head_of(stream).await;
        head.map_err(|error| error.during(format!("read the head of stream `{stream}`")))
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        if filter.restricts_events() {
            let error = Error::unsupported("streams have neither event types nor tags to filter by");
            return stream::iter([Err(error.during("list streams"))]).boxed();
        }
        streams::list(self.inner.clone(), filter, after)
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed> {
        let removed = self.inner.remove(stream, &removal).await;
        removed.map_err(|error| match removal {
            Removal::Erase { .. } => error.during(format!("erase stream `{stream}`")),
            Removal::BeforeOrigin { version, .. } => {
                error.during(format!("truncate stream `{stream}` before version {version}"))
            }
        })
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        Some(self)
    }
}

#[async_trait]
impl SnapshotAndTail for PostgresStore {
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        at_or_below: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)> {
        let range = VersionRange::ALL.up_to(at_or_below);
        let reading = Reading::new(self.inner.clone(), stream.clone(), range, Direction::Forward);
        let found = reading.with_snapshot(slot).await;
        found.map_err(|error| error.during(format!("read snapshot `{slot}` and its tail")))
    }
}
