//! Reading one stream: by back pointers where it is short, by a scan where it is long.
//!
//! Each commit names the one before it by version and chain, so that nothing can be missing between two commits without
//! showing. Where a stream ends is known before a read begins; that it really begins where the read found nothing more, only
//! the leader can say.

mod reading;

use std::sync::{Arc, Mutex};

use futures_util::stream::{self, FuturesUnordered, StreamExt as _, TryStreamExt as _};
use tailfold::{Direction, EventBatches, RecordedEvent, Result, StreamId, Version, VersionRange};

use self::reading::Reading;
use crate::commit::{self, End, Place, pointers_of};
use crate::ends::Seen;
use crate::patience::Deadline;
use crate::store::Shared;
use crate::wire::{Failure, Get, Message};

impl Shared {
    pub(crate) fn read(
        self: &Arc<Self>,
        stream: &StreamId,
        range: VersionRange,
        direction: Direction,
    ) -> EventBatches {
        let (shared, stream) = (self.clone(), stream.clone());
        let read = async move {
            let last = shared.last_from_leader(&stream, shared.deadline()).await?;
            Ok(shared.read_up_to(&stream, last, Vec::new(), range, direction))
        };
        stream::once(read).try_flatten().boxed()
    }

    /// Reads a range of a stream whose last message is known, and some of the others perhaps.
    pub(crate) fn read_up_to(
        self: &Arc<Self>,
        stream: &StreamId,
        last: Option<Message>,
        ahead: Vec<Message>,
        range: VersionRange,
        direction: Direction,
    ) -> EventBatches {
        let name = format!("read stream `{stream}` from version {}", range.from);
        let (shared, stream) = (self.clone(), stream.clone());
        let read = async move {
            let Some(last) = last.filter(|last| !commit::is_tombstone(last)) else { return Ok(nothing()) };
            let end = Place::of(&last)?.last;
            let (from, to) = (range.from.max(Version::FIRST), range.to.map_or(end, |to| to.min(end)));
            if from > to {
                return Ok(nothing());
            }
            let ahead = Arc::new(Mutex::new(ahead));
            Reading { shared, stream, from, to, ahead }.begin(last, direction).await
        };
        stream::once(read).try_flatten().map_err(move |error| error.during(name.clone())).boxed()
    }

    /// The last message of a stream as the leader knows it, which is all that is acknowledged.
    pub(crate) async fn last_from_leader(
        &self,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<Option<Message>> {
        self.look_after_log().await?;
        let subject = self.names.commits_of(stream);
        let get = Get::last(subject.as_str());
        let ask = || async {
            let seen = self.ends.seen(stream);
            let last = self.wire.leader_get(&self.names.events, &get).await?;
            let seq = last.as_ref().map_or(0, |last| last.seq);
            let Seen::AtLeast(known) = seen else { return Ok(Ok(last)) };
            if seq >= known {
                return Ok(Ok(last));
            }
            if let Some(error) = Box::pin(self.why_shorter(&subject, known, seq)).await {
                return Ok(Err(error));
            }
            // A leader that was deposed and does not know it yet.
            Err(Failure::Silence(format!(
                "the server's last commit of `{stream}` is {seq}, although {known} was acknowledged"
            )))
        };
        let last = deadline.insist(ask).await??;
        if let Some(last) = &last {
            self.continuity.note_message(last);
            self.ends.note(stream, End::after(stream, last)?);
        }
        Ok(last)
    }

    /// The last message of a stream, from any replica; never older than what this process knows.
    pub(crate) async fn last_seen(&self, stream: &StreamId) -> Result<Option<Message>> {
        self.look_after_log().await?;
        let known = match self.ends.seen(stream) {
            Seen::AtLeast(known) => Some(known),
            Seen::Forgotten if self.continuity.is_replicated() => None,
            Seen::Forgotten => Some(0),
        };
        if let Some(known) = known {
            match self.wire.direct_last(&self.names.events, &self.names.commits_of(stream)).await {
                Ok(Some(last)) if last.seq >= known => {
                    if last.seq > known {
                        self.ends.note(stream, End::after(stream, &last)?);
                    }
                    return Ok(Some(last));
                }
                // Another replica may know of an event.
                Ok(None) if known == 0 && !self.continuity.is_replicated() => return Ok(None),
                _ => {}
            }
        }
        self.last_from_leader(stream, self.deadline()).await
    }

    /// Messages that a load will most likely need, those that some replica has.
    pub(crate) async fn likely_tail(&self, stream: &StreamId) -> Vec<Message> {
        let get = |seq| self.wire.direct_at(&self.names.events, seq);
        let mut found = self.ends.likely_tail(stream).into_iter().map(get).collect::<FuturesUnordered<_>>();
        let mut messages = Vec::with_capacity(found.len());
        while let Some(message) = found.next().await {
            // What is missing is asked for again where it is needed.
            messages.extend(message.ok().flatten());
        }
        messages
    }

    /// Where a stream ends, as the leader knows it.
    pub(crate) async fn end_from_leader(&self, stream: &StreamId, deadline: Deadline) -> Result<End> {
        match self.last_from_leader(stream, deadline).await? {
            Some(last) => End::after(stream, &last),
            None => Ok(End::nothing(stream)),
        }
    }

    pub(crate) async fn read_to_vec(
        self: &Arc<Self>,
        stream: &StreamId,
        range: VersionRange,
    ) -> Result<Vec<RecordedEvent>> {
        self.read(stream, range, Direction::Forward).try_concat().await
    }

    /// The first commit that is left of a stream's life, as the leader knows it.
    pub(crate) async fn first_commit(&self, stream: &StreamId) -> Result<Option<Message>> {
        let subject = self.names.commits_of(stream);
        let mut from = 1;
        loop {
            let get = Get::next(subject.as_str(), from);
            let first = self.deadline().insist(|| self.wire.leader_get(&self.names.events, &get)).await?;
            match first {
                // It ends the life before.
                Some(tombstone) if commit::is_tombstone(&tombstone) => from = tombstone.seq + 1,
                first => return Ok(first),
            }
        }
    }

    /// The commit of a stream that holds a version, given a later commit; `None` if it was cut off.
    pub(crate) async fn locate(
        &self,
        stream: &StreamId,
        version: Version,
        later: &Message,
    ) -> Result<Option<Message>> {
        let holds = |place: Place| (place.first..=place.last).contains(&version);
        let mut highest = later.seq;
        for pointer in pointers_of(later).take_while(|pointer| pointer.last >= version) {
            highest = pointer.seq;
        }
        if let Some(message) = self.event_message(highest).await?
            && message.subject == later.subject
            && holds(Place::of(&message)?)
        {
            return Ok(Some(message));
        }
        let mut lowest = 1;
        while lowest <= highest {
            let middle = lowest + (highest - lowest) / 2;
            let get = Get::next(self.names.commits_of(stream), middle);
            let next = || self.wire.leader_get(&self.names.events, &get);
            let Some(message) = self.deadline().insist(next).await? else {
                highest = middle - 1;
                continue;
            };
            let place = Place::of(&message)?;
            // A tombstone lies before the first version, whatever it says: it belongs to the life before.
            let is_before = commit::is_tombstone(&message) || place.last < version;
            if !is_before && holds(place) {
                return Ok(Some(message));
            }
            if is_before {
                lowest = message.seq + 1;
            } else {
                highest = middle - 1;
            }
        }
        Ok(None)
    }
}

fn nothing() -> EventBatches {
    stream::empty().boxed()
}
