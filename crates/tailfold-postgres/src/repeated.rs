//! Recognising a commit that was recorded before, by what the streams hold.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use tailfold::{
    Commit, Committed, Digest, Direction, Expected, NewEvent, Position, RecordedEvent, Result, StreamWrite,
    Version, VersionRange, Written,
};

use crate::read::Reading;
use crate::store::Inner;

impl Inner {
    /// The receipt of a commit in which some writes expect anything, if the others stand where they would have been put: a
    /// commit is recorded whole, so that the former are there too, and are found by the id of their first event. `None` for any
    /// other commit: the function `append` has looked for it.
    pub(crate) async fn receipt_of_earlier(self: &Arc<Self>, commit: &Commit) -> Result<Option<Committed>> {
        let expects_anything = |write: &StreamWrite| write.expected == Expected::Any;
        if !commit.writes.iter().any(expects_anything) || commit.writes.iter().all(expects_anything) {
            return Ok(None);
        }
        let mut found = Vec::with_capacity(commit.writes.len());
        for (index, write) in commit.writes.iter().enumerate() {
            if let Some(base) = write.expected.base_version() {
                let Some(last) = self.last_of(write, base).await? else { return Ok(None) };
                found.push((index, base, last));
            }
        }
        for (index, write) in commit.writes.iter().enumerate().filter(|(_, write)| expects_anything(write)) {
            let Some(base) = self.base_of(write).await? else { return Ok(None) };
            let Some(last) = self.last_of(write, base).await? else { return Ok(None) };
            found.push((index, base, last));
        }
        found.sort_by_key(|(index, ..)| *index);
        let position = found.iter().map(|(.., last)| last.position).max().unwrap_or(Position::ZERO);
        let written = |(_, base, last): (usize, Version, RecordedEvent)| {
            let head = last.head();
            Written { stream: last.stream, first: base.next(), head }
        };
        let writes = found.into_iter().map(written).collect();
        Ok(Some(Committed { writes, position, snapshot: None, repeated: true }))
    }

    /// The last event of a write, if all of its events stand after that version.
    async fn last_of(self: &Arc<Self>, write: &StreamWrite, base: Version) -> Result<Option<RecordedEvent>> {
        let end = Version(base.0 + write.events.len() as u64);
        let range = VersionRange::from(base.next()).up_to(Some(end));
        let reading = Reading::new(self.clone(), write.stream.clone(), range, Direction::Forward);
        let recorded: Vec<_> = reading.into_batches().try_concat().await?;
        let is_same = |(recorded, event): (&RecordedEvent, &NewEvent)| {
            recorded.data.id == event.data().id && Digest::of(&recorded.data) == event.digest()
        };
        let are_there = recorded.first().is_some_and(|first| first.version == base.next())
            && recorded.len() == write.events.len()
            && recorded.iter().zip(&write.events).all(is_same);
        // The link tells the history before the first event, even where that was cut off.
        let is_linked = match (write.expected, write.events.first(), recorded.first()) {
            (Expected::Head(head), Some(event), Some(first)) => {
                first.chain == head.chain.link(event.digest())
            }
            _ => true,
        };
        Ok(if are_there && is_linked { recorded.into_iter().next_back() } else { None })
    }

    /// The version before the first event of a write, which is looked for from the end of its stream.
    async fn base_of(self: &Arc<Self>, write: &StreamWrite) -> Result<Option<Version>> {
        let Some(id) = write.events.first().map(|event| event.data().id) else { return Ok(None) };
        let whole = Reading::new(self.clone(), write.stream.clone(), VersionRange::ALL, Direction::Backward);
        let mut batches = whole.into_batches();
        while let Some(batch) = batches.try_next().await? {
            if let Some(first) = batch.iter().find(|event| event.data.id == id) {
                return Ok(Some(Version(first.version.0.saturating_sub(1))));
            }
        }
        Ok(None)
    }
}
