//! The log in memory.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use tokio::task::coop::consume_budget;

use super::{BATCH, MemoryStore};
use crate::chain::{Chain, Digest};
use crate::clock::Timestamp;
use crate::error::{Error, Outcome, Result};
use crate::event::{EventData, EventId, Position, RecordedEvent};
use crate::filter::Filter;
use crate::snapshot::{Slot, SnapshotStore as _, StoredSnapshot};
use crate::store::{
    Capabilities, Commit, Committed, Direction, EventBatches, EventStore, Expected, Follow, LogBatch,
    LogBatches, Removal, Removed, SnapshotAndTail, StoreId, StreamBatches, StreamSummary, StreamWrite,
    Tombstone, Truncation, VersionRange, Written,
};
use crate::stream::{Head, StreamId, Version};

#[async_trait]
impl EventStore for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn store_id(&self) -> Result<StoreId> {
        Ok(self.shared.id)
    }

    async fn append(&self, commit: Commit) -> Result<Committed> {
        commit.check()?;
        consume_budget().await;
        let mut contents = self.contents();
        if let Some(write) = contents.log.unmet_expectation(&commit) {
            let actual = contents.log.head(&write.stream);
            let conflict = || Error::conflict(write.stream.clone(), write.expected, actual).during("append");
            return contents.log.original_receipt(&commit).ok_or_else(conflict);
        }
        if let Some(unchanged) = &commit.unchanged
            && let Some(event) =
                contents.log.after(unchanged.after).find(|event| unchanged.filter.matches(event))
        {
            return Err(Error::changed(event.position).during("append"));
        }
        let writes = commit.writes.into_iter().map(|write| contents.log.write(write)).collect();
        let snapshot = commit.snapshot.map(|inline| contents.snapshots.save(&inline.slot, inline.save));
        let position = contents.log.newest;
        self.shared.newest.send_replace(position);
        Ok(Committed { writes, position, snapshot, repeated: false })
    }

    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches {
        let (store, stream) = (self.clone(), stream.clone());
        stream::try_unfold(None, move |rest| {
            let (store, stream) = (store.clone(), stream.clone());
            async move {
                consume_budget().await;
                let contents = store.contents();
                let rest = rest.or_else(|| contents.log.begin_read(&stream, range));
                let page = rest.map(|rest| contents.log.page(&stream, rest, direction)).transpose();
                page.map(Option::flatten)
            }
        })
        .boxed()
    }

    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        let newest = self.shared.newest.subscribe();
        let store = self.clone();
        // Where the read stands, and where it ends.
        stream::try_unfold((after, None), move |(after, end)| {
            let (store, filter, mut newest) = (store.clone(), filter.clone(), newest.clone());
            async move {
                consume_budget().await;
                if follow == Follow::Live {
                    let more = newest.wait_for(|newest| *newest > after).await;
                    more.map_err(|_| Error::unavailable(Outcome::NotDone, "the store is gone"))?;
                }
                let contents = store.contents();
                let end = match follow {
                    Follow::ToEnd => end.unwrap_or(contents.log.newest),
                    Follow::Live => contents.log.newest,
                };
                if after >= end {
                    return Ok(None);
                }
                let batch = contents.log.batch(after, end, &filter);
                let checked_to = batch.checked_to;
                Ok(Some((batch, (checked_to, Some(end)))))
            }
        })
        .boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        consume_budget().await;
        Ok(self.contents().log.head(stream))
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        if filter.restricts_events() {
            let error = Error::unsupported("a list of streams can be filtered by category and stream only");
            return stream::once(std::future::ready(Err(error.during("list streams")))).boxed();
        }
        let store = self.clone();
        stream::try_unfold(after, move |after| {
            let (store, filter) = (store.clone(), filter.clone());
            async move {
                consume_budget().await;
                let page = store.contents().log.streams(&filter, after.as_ref());
                let last = page.last().map(|summary| summary.stream.clone());
                Ok(last.map(|last| (page, Some(last))))
            }
        })
        .boxed()
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed> {
        consume_budget().await;
        let mut contents = self.contents();
        match removal {
            Removal::Erase { id, recorded_at } => {
                let Some((events, tombstone)) = contents.log.erase(stream, id, recorded_at)? else {
                    return Ok(Removed::default());
                };
                let snapshots = contents.snapshots.forget(stream.as_str()).snapshots;
                self.shared.newest.send_replace(tombstone);
                Ok(Removed { events, snapshots, tombstone: Some(tombstone), marker: None })
            }
            Removal::BeforeOrigin { version, id, recorded_at } => {
                let (events, marker) = contents.log.truncate(stream, version, id, recorded_at)?;
                let snapshots = contents.snapshots.forget_below(stream.as_str(), version).snapshots;
                self.shared.newest.send_replace(contents.log.newest);
                Ok(Removed { events, snapshots, tombstone: None, marker })
            }
        }
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        Some(self)
    }
}

#[async_trait]
impl SnapshotAndTail for MemoryStore {
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        at_or_below: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)> {
        let snapshot = self.newest(slot, at_or_below).await?;
        let from = snapshot.as_ref().map_or(Version::ZERO, |snapshot| snapshot.head.version);
        let tail = self.read(stream, VersionRange::from(from).up_to(at_or_below), Direction::Forward);
        Ok((snapshot, tail))
    }
}

/// All events by position, and where the events of each stream stand.
#[derive(Default)]
pub(super) struct Log {
    events: BTreeMap<Position, RecordedEvent>,
    streams: BTreeMap<StreamId, Life>,
    /// The last position given away. Never goes back, whatever is removed.
    newest: Position,
}

/// One life of a stream: from its first event, or the last erase, to the next.
struct Life {
    genesis: Chain,
    positions: BTreeMap<Version, Position>,
    /// Where the marker of its last truncation stands.
    marker: Option<Position>,
}

/// What is left of a read of one life. Fixed when the read begins, so that it ends however fast others append.
#[derive(Clone, Copy)]
struct Rest {
    genesis: Chain,
    from: Version,
    to: Version,
}

impl Log {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    fn head(&self, stream: &StreamId) -> Option<Head> {
        let (_, position) = self.streams.get(stream)?.positions.last_key_value()?;
        self.events.get(position).map(RecordedEvent::head)
    }

    fn event(&self, stream: &StreamId, version: Version) -> Option<&RecordedEvent> {
        self.events.get(self.streams.get(stream)?.positions.get(&version)?)
    }

    fn after(&self, position: Position) -> impl Iterator<Item = &RecordedEvent> {
        self.events.range((Excluded(position), Unbounded)).map(|(_, event)| event)
    }

    /// The first write of a commit that expects another head than its stream has.
    fn unmet_expectation<'a>(&self, commit: &'a Commit) -> Option<&'a StreamWrite> {
        commit.writes.iter().find(|write| !write.expected.is_met_by(self.head(&write.stream)))
    }

    /// The receipt of a commit, if all of it is recorded already.
    fn original_receipt(&self, commit: &Commit) -> Option<Committed> {
        let recorded = commit.writes.iter().map(|write| self.recorded(write)).collect::<Option<Vec<_>>>()?;
        let position = recorded.iter().map(|(_, position)| *position).max()?;
        let writes = recorded.into_iter().map(|(written, _)| written).collect();
        Some(Committed { writes, position, snapshot: None, repeated: true })
    }

    /// What a write did and the position of its last event, if all of its events stand where they would have been put.
    fn recorded(&self, write: &StreamWrite) -> Option<(Written, Position)> {
        let base = write.expected.base_version().or_else(|| self.recorded_after(write))?;
        let mut last: Option<&RecordedEvent> = None;
        for event in &write.events {
            let recorded = self.event(&write.stream, last.map_or(base, |last| last.version).next())?;
            if Digest::of(&recorded.data) != event.digest() {
                return None;
            }
            // The link tells the history before the first event, even where that was truncated.
            if let (None, Expected::Head(head)) = (last, write.expected)
                && recorded.chain != head.chain.link(event.digest())
            {
                return None;
            }
            last = Some(recorded);
        }
        let last = last?;
        Some((Written { stream: write.stream.clone(), first: base.next(), head: last.head() }, last.position))
    }

    /// The version before a write that expects anything, by the id of its first event.
    fn recorded_after(&self, write: &StreamWrite) -> Option<Version> {
        let id = write.events.first()?.data().id;
        let mut versions = self.streams.get(&write.stream)?.positions.iter().rev();
        let (version, _) = versions
            .find(|(_, position)| self.events.get(position).is_some_and(|event| event.data.id == id))?;
        Some(Version(version.0.saturating_sub(1)))
    }

    fn write(&mut self, write: StreamWrite) -> Written {
        let StreamWrite { stream, events, .. } = write;
        let before = self.head(&stream);
        let life = self.streams.entry(stream.clone()).or_insert_with(|| Life::first(&stream));
        let mut head = before.unwrap_or(Head { version: Version::ZERO, chain: life.genesis });
        let first = head.version.next();
        for event in events {
            head = Head { version: head.version.next(), chain: head.chain.link(event.digest()) };
            self.newest = Position(self.newest.0 + 1);
            life.positions.insert(head.version, self.newest);
            self.events.insert(self.newest, recorded(self.newest, &stream, head, event.into_data()));
        }
        Written { stream, first, head }
    }

    /// Ends a stream's life with a tombstone. Answers how many events went, and where the tombstone stands.
    fn erase(
        &mut self,
        stream: &StreamId,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Option<(u64, Position)>> {
        let Some(head) = self.head(stream) else { return Ok(None) };
        let data = Tombstone::event(head, id, recorded_at)?;
        let end = Head { version: head.version.next(), chain: head.chain.link(Digest::of(&data)) };
        let next = Life::after(Chain::genesis_after(stream, end.chain));
        let ended = self.streams.insert(stream.clone(), next).unwrap_or_else(|| Life::first(stream));
        for position in ended.positions.values().chain(&ended.marker) {
            self.events.remove(position);
        }
        self.newest = Position(self.newest.0 + 1);
        self.events.insert(self.newest, recorded(self.newest, stream, end, data));
        Ok(Some((ended.positions.len() as u64, self.newest)))
    }

    /// Cuts off what lies before an origin. Answers how many events went, and where the marker stands, if any did.
    fn truncate(
        &mut self,
        stream: &StreamId,
        version: Version,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<(u64, Option<Position>)> {
        let origin = self.event(stream, version).filter(|event| event.data.origin).map(RecordedEvent::head);
        let (Some(origin), Some(life)) = (origin, self.streams.get_mut(stream)) else {
            return Err(Error::invalid("only what lies before an origin can be cut off")
                .during(format!("truncate stream `{stream}` before version {version}")));
        };
        let cut: Vec<Position> = life.positions.range(..version).map(|(_, position)| *position).collect();
        if cut.is_empty() {
            return Ok((0, None));
        }
        let earlier = life.marker.and_then(|marker| self.events.get(&marker));
        let mut notes = Truncation::begin(stream, origin, earlier.map(Truncation::from_event).transpose()?);
        cut.iter().filter_map(|position| self.events.get(position)).for_each(|event| notes.note_event(event));
        let truncation = notes.finish();
        let marker = truncation.event(id, recorded_at)?;
        life.positions = life.positions.split_off(&version);
        self.newest = Position(self.newest.0 + 1);
        for position in cut.iter().chain(&life.marker.replace(self.newest)) {
            self.events.remove(position);
        }
        let place = truncation.place(&marker);
        self.events.insert(self.newest, recorded(self.newest, stream, place, marker));
        Ok((cut.len() as u64, Some(self.newest)))
    }

    /// The part of a range that exists; `None` if nothing does.
    fn begin_read(&self, stream: &StreamId, range: VersionRange) -> Option<Rest> {
        let life = self.streams.get(stream)?;
        let (first, last) = (life.positions.first_key_value()?.0, life.positions.last_key_value()?.0);
        let (from, to) = (range.from.max(*first), range.to.map_or(*last, |to| to.min(*last)));
        Some(Rest { genesis: life.genesis, from, to })
    }

    /// The next events of a read and what is left of it after them; `None` at its end.
    fn page(
        &self,
        stream: &StreamId,
        rest: Rest,
        direction: Direction,
    ) -> Result<Option<(Vec<RecordedEvent>, Option<Rest>)>> {
        let Rest { genesis, from, to } = rest;
        if from > to {
            return Ok(None);
        }
        let wanted = (to.next().since(from)).min(BATCH as u64);
        let life = self.streams.get(stream).filter(|life| life.genesis == genesis);
        let standing = life.into_iter().flat_map(|life| life.positions.range(from..=to)).map(|(_, at)| at);
        let event = |position| self.events.get(position).cloned();
        let (events, left): (Vec<_>, _) = match direction {
            Direction::Forward => (
                standing.take(BATCH).filter_map(event).collect(),
                Rest { from: Version(from.0 + wanted), ..rest },
            ),
            Direction::Backward => (
                standing.rev().take(BATCH).filter_map(event).collect(),
                Rest { to: Version(to.0 - wanted), ..rest },
            ),
        };
        if events.len() as u64 != wanted {
            return Err(Error::unavailable(Outcome::NotDone, "events were removed meanwhile")
                .during(format!("read stream `{stream}` from version {from} to {to}")));
        }
        Ok(Some((events, Some(left))))
    }

    /// The events that match among the next few after a position, up to and with `end`.
    fn batch(&self, after: Position, end: Position, filter: &Filter) -> LogBatch {
        let mut batch = LogBatch { events: Vec::new(), checked_to: end, visited: 0 };
        for (index, event) in self.after(after).take_while(|event| event.position <= end).enumerate() {
            batch.visited += 1;
            if filter.matches(event) {
                batch.events.push(event.clone());
            }
            if index + 1 == BATCH {
                batch.checked_to = event.position;
                break;
            }
        }
        batch
    }

    fn streams(&self, filter: &Filter, after: Option<&StreamId>) -> Vec<StreamSummary> {
        let start = after.map_or(Unbounded, Excluded);
        let matching =
            self.streams.range((start, Unbounded)).filter(|(stream, _)| filter.matches_stream(stream));
        matching
            .filter_map(|(stream, _)| {
                Some(StreamSummary { stream: stream.clone(), head: self.head(stream)? })
            })
            .take(BATCH)
            .collect()
    }
}

impl Life {
    fn first(stream: &StreamId) -> Self {
        Self::after(Chain::genesis(stream))
    }

    fn after(genesis: Chain) -> Self {
        Self { genesis, positions: BTreeMap::new(), marker: None }
    }
}

fn recorded(position: Position, stream: &StreamId, head: Head, data: EventData) -> RecordedEvent {
    RecordedEvent { position, stream: stream.clone(), version: head.version, chain: head.chain, data }
}
