//! The contract of event stores, on top of the readers and the writer.

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tailfold::{
    Capabilities, Commit, Committed, Direction, Error, EventBatches, EventStore, Filter, Follow, Head,
    LogBatches, Position, Removal, Removed, Slot, SnapshotAndTail, StoreId, StoredSnapshot, StreamBatches,
    StreamId, Version, VersionRange,
};

use crate::log::LogCursor;
use crate::pages::{self, After};
use crate::queue::Urgency;
use crate::snapshots;
use crate::store::{SqliteStore, finished};
use crate::stream::{self as one_stream, StreamCursor};
use crate::streams::StreamsCursor;

#[async_trait]
impl EventStore for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn store_id(&self) -> tailfold::Result<StoreId> {
        Ok(self.id())
    }

    async fn append(&self, commit: Commit) -> tailfold::Result<Committed> {
        commit.check()?;
        let first = commit.writes.first().map(|write| write.stream.clone());
        let operation = move || match first {
            Some(stream) => format!("append to stream `{stream}`"),
            None => "append".to_owned(),
        };
        let events = commit.writes.iter().flat_map(|write| &write.events);
        let weight = events.map(|event| event.data().payload.len() + event.data().metadata.len()).sum();
        self.ask(operation, Urgency::Command, weight, move |ledger| ledger.append(&commit)).await
    }

    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches {
        let cursor = StreamCursor::new(stream.clone(), range, direction);
        pages::read(self.readers().clone(), cursor, None).boxed()
    }

    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        let commits = match follow {
            Follow::ToEnd => None,
            Follow::Live => Some(self.watch_commits()),
        };
        pages::read(self.readers().clone(), LogCursor::new(after, filter, follow), commits).boxed()
    }

    async fn head(&self, stream: &StreamId) -> tailfold::Result<Option<Head>> {
        let operation = format!("read the head of stream `{stream}`");
        let stream = stream.clone();
        self.readers()
            .start(move |reader| reader.consistent(|reader| one_stream::head(reader, &stream)))
            .await
            .map_err(|error| error.during(operation))
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        if filter.restricts_events() {
            let error = Error::unsupported("streams have neither event types nor tags to filter by")
                .during("list streams");
            return stream::iter([Err(error)]).boxed();
        }
        pages::read(self.readers().clone(), StreamsCursor::new(filter, after), None).boxed()
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> tailfold::Result<Removed> {
        let operation = match &removal {
            Removal::Erase { .. } => format!("erase stream `{stream}`"),
            Removal::BeforeOrigin { version, .. } => {
                format!("truncate stream `{stream}` before version {version}")
            }
        };
        let (store, stream) = (self.clone(), stream.clone());
        finished(async move {
            let removed = store
                .ask(|| operation, Urgency::Command, 0, move |ledger| ledger.remove(&stream, &removal))
                .await?;
            store.clear_log().await;
            Ok(removed)
        })
        .await
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        Some(self)
    }
}

#[async_trait]
impl SnapshotAndTail for SqliteStore {
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        at_or_below: Option<Version>,
    ) -> tailfold::Result<(Option<StoredSnapshot>, EventBatches)> {
        let operation = format!("read snapshot `{slot}` and its tail");
        let (slot, stream) = (slot.clone(), stream.clone());
        let (snapshot, first, cursor) = self
            .readers()
            .start(move |reader| {
                reader.consistent(|reader| {
                    let snapshot = snapshots::newest(&reader.connection, &slot, at_or_below)?;
                    let from = snapshot.as_ref().map_or(Version::ZERO, |snapshot| snapshot.head.version);
                    let range = VersionRange::from(from).up_to(at_or_below);
                    let mut cursor = StreamCursor::new(stream.clone(), range, Direction::Forward);
                    let (events, after) = cursor.page(reader)?;
                    Ok((snapshot, events, (after == After::More).then_some(cursor)))
                })
            })
            .await
            .map_err(|error| error.during(operation))?;
        let first = (!first.is_empty()).then_some(first);
        Ok((snapshot, pages::read_after(self.readers().clone(), first, cursor, None).boxed()))
    }
}
