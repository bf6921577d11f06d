//! Finding a commit that was recorded before, when it is sent again.
//!
//! A write that says after which version it stands is found there, in its stream. One that expects anything is found beside another
//! of its commit: a commit to several streams stands in the log as one message after the other, in the order of its writes and
//! under one name.

use std::sync::Arc;

use tailfold::{
    Commit, Committed, Digest, Error, Expected, Head, Outcome, Position, RecordedEvent, Result, StreamWrite,
    Version, VersionRange, Written,
};

use crate::commit::{self, Decoder, POSITIONS, Place, position};
use crate::store::Shared;
use crate::wire::{Get, Message};

/// A write that was recorded before.
struct Found {
    written: Written,
    /// Of its last event.
    position: Position,
}

impl Shared {
    /// The receipt of a commit that was recorded before, as a whole.
    pub(crate) async fn original_receipt(self: &Arc<Self>, commit: &Commit) -> Result<Option<Committed>> {
        let mut found = Vec::with_capacity(commit.writes.len());
        for write in &commit.writes {
            found.push(self.found_in_stream(write).await?);
        }
        self.receipt_of(commit, found).await
    }

    /// The receipt of a commit if it is the one that has an event at a position.
    pub(crate) async fn receipt_at(
        self: &Arc<Self>,
        commit: &Commit,
        at: Position,
    ) -> Result<Option<Committed>> {
        let Some(message) = self.logged_at(at.0 / POSITIONS).await? else { return Ok(None) };
        let mut found = Vec::with_capacity(commit.writes.len());
        for write in &commit.writes {
            found.push(match self.names.commits_of(&write.stream) == message.subject {
                true => self.found_in(write, &message).await?,
                false => None,
            });
        }
        self.receipt_of(commit, found).await
    }

    /// The receipt, given those writes that were found: where the others must be is known from there.
    async fn receipt_of(
        self: &Arc<Self>,
        commit: &Commit,
        mut found: Vec<Option<Found>>,
    ) -> Result<Option<Committed>> {
        let known = found.iter().enumerate().find_map(|(index, found)| Some((index, found.as_ref()?)));
        let Some((index, known)) = known else { return Ok(None) };
        if found.iter().any(Option::is_none) {
            let Some(message) = self.logged_at(known.position.0 / POSITIONS).await? else { return Ok(None) };
            let place = Place::of(&message)?;
            if (place.first, place.last) != (known.written.first, known.written.head.version) {
                // It was recorded together with other events, or in several commits.
                return Ok(None);
            }
            for (other, (write, found)) in commit.writes.iter().zip(&mut found).enumerate() {
                if found.is_some() {
                    continue;
                }
                let Some(seq) = (message.seq + other as u64).checked_sub(index as u64) else {
                    return Ok(None);
                };
                *found = match self.logged_at(seq).await? {
                    Some(beside) if commit::same_attempt(&beside, &message) => {
                        match self.names.commits_of(&write.stream) == beside.subject {
                            true => self.found_in(write, &beside).await?,
                            false => None,
                        }
                    }
                    Some(_) => None,
                    // Removed since.
                    None if commit::number_in_batch(&message) == Some(index + 1) => {
                        Some(recorded_and_gone(write, seq).ok_or_else(|| untold(write, seq))?)
                    }
                    None => None,
                };
            }
        }
        let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let position = found.iter().map(|found| found.position).max();
        let writes = found.into_iter().map(|found| found.written).collect();
        Ok(position.map(|position| Committed { writes, position, snapshot: None, repeated: true }))
    }

    /// A write whose events stand where it expects them, those that were not cut off.
    async fn found_in_stream(self: &Arc<Self>, write: &StreamWrite) -> Result<Option<Found>> {
        let Some(base) = write.expected.base_version() else { return Ok(None) };
        let last = Version(base.0.saturating_add(write.events.len() as u64));
        let range = VersionRange::from(base.next()).up_to(Some(last));
        let events = self.read_to_vec(&write.stream, range).await?;
        let Some(end) = events.last().filter(|end| end.version == last) else { return Ok(None) };
        // The link tells the history before the first event, even where that was cut off.
        let follows = match write.expected {
            Expected::Head(head) => end.chain == head_after(head, write).chain,
            _ => true,
        };
        if !follows || !are_last_of(&events, write) {
            return Ok(None);
        }
        let written = Written { stream: write.stream.clone(), first: base.next(), head: end.head() };
        Ok(Some(Found { written, position: end.position }))
    }

    /// A write whose events are those of a message, those that were not cut off.
    async fn found_in(&self, write: &StreamWrite, message: &Message) -> Result<Option<Found>> {
        let place = Place::of(message)?;
        if place.len() != write.events.len() as u64 || commit::is_tombstone(message) {
            return Ok(None);
        }
        let events = self.events_of(&mut Decoder::default(), &write.stream, message, place).await?;
        if !are_last_of(&events, write) {
            return Ok(None);
        }
        let written = Written { stream: write.stream.clone(), first: place.first, head: place.head() };
        Ok(Some(Found { written, position: position(message.seq, place.len() - 1) }))
    }

    async fn logged_at(&self, seq: u64) -> Result<Option<Message>> {
        let get = Get::at(seq);
        self.deadline().insist(|| self.wire.leader_get(&self.names.events, &get)).await
    }
}

/// Whether events, at least one, are those of a write, but for some of the first.
fn are_last_of(events: &[RecordedEvent], write: &StreamWrite) -> bool {
    let pairs = events.iter().rev().zip(write.events.iter().rev());
    !events.is_empty()
        && events.len() <= write.events.len()
        && pairs.into_iter().all(|(event, new)| Digest::of(&event.data) == new.digest())
}

fn head_after(head: Head, write: &StreamWrite) -> Head {
    write.events.iter().fold(head, |Head { version, chain }, event| Head {
        version: version.next(),
        chain: chain.link(event.digest()),
    })
}

/// What a write became whose message is gone, if that follows from what it expected.
fn recorded_and_gone(write: &StreamWrite, seq: u64) -> Option<Found> {
    let Expected::Head(before) = write.expected else { return None };
    let head = head_after(before, write);
    let written = Written { stream: write.stream.clone(), first: before.version.next(), head };
    Some(Found { written, position: position(seq, write.events.len() as u64 - 1) })
}

fn untold(write: &StreamWrite, seq: u64) -> Error {
    Error::unavailable(
        Outcome::Unknown,
        format!(
            "the commit is recorded, at position {}, but its receipt cannot be told: its events in stream `{}` were removed \
             since; do not append it again",
            position(seq, 0),
            write.stream
        ),
    )
}
