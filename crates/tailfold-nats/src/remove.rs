//! Erasing and truncating.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use tailfold::{
    Digest, Direction, Error, ErrorKind, EventId, Head, Outcome, Position, Removal, Removed, Result,
    SlotFilter, StreamId, Timestamp, Tombstone, Truncation, Version, VersionRange,
};

use crate::append::{Fate, Kind, Sending};
use crate::commit::{self, Decoder, End, HEADER_ALLOWANCE, Place, fresh_name, position};
use crate::parts::Body;
use crate::patience::Deadline;
use crate::store::Shared;
use crate::wire::Get;

impl Shared {
    pub(crate) async fn remove(self: &Arc<Self>, stream: &StreamId, removal: Removal) -> Result<Removed> {
        let (name, done) = match removal {
            Removal::Erase { id, recorded_at } => {
                (format!("erase stream `{stream}`"), self.erase(stream, id, recorded_at).await)
            }
            Removal::BeforeOrigin { version, id, recorded_at } => (
                format!("truncate stream `{stream}` before version {version}"),
                self.truncate(stream, version, id, recorded_at).await,
            ),
        };
        done.map_err(|error| error.during(name))
    }

    /// The tombstone replaces all commits of the stream in one step, if nobody appended meanwhile. What lies elsewhere is
    /// of no use without them and goes after: if that is interrupted, erasing again completes it.
    async fn erase(
        self: &Arc<Self>,
        stream: &StreamId,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Removed> {
        self.refuse_if_immutable()?;
        let deadline = self.deadline();
        loop {
            let end = self.end_from_leader(stream, deadline).await?;
            let Some(head) = end.head() else {
                let snapshots = match end.seq {
                    0 => 0,
                    tombstone => self.remove_rest(stream, tombstone).await?,
                };
                return Ok(Removed { snapshots, ..Removed::default() });
            };
            let first = self.first_version(stream).await?;
            let tombstone = Tombstone::event(head, id, recorded_at)?;
            let place = end.place([Digest::of(&tombstone)]);
            let attempt = fresh_name();
            let sending = Sending {
                subject: self.names.commits_of(stream),
                end: &end,
                place,
                kind: Kind::Tombstone,
                within: None,
                payload: Body::of_one(&tombstone),
            };
            match self.send(&attempt, &[sending], deadline).await? {
                Fate::Stored { last } => {
                    self.ends.note(stream, End::after_erase(stream, last, place));
                    let snapshots = self.remove_rest(stream, last).await.map_err(|error| {
                        let half = "the events are erased, what lies beside them is not yet: erase again";
                        Error::unavailable(Outcome::Unknown, half).caused_by(error)
                    })?;
                    let events = head.version.next().since(first);
                    return Ok(Removed {
                        events,
                        snapshots,
                        tombstone: Some(position(last, 0)),
                        marker: None,
                    });
                }
                Fate::Beaten if deadline.has_passed() => {
                    return Err(Error::unavailable(Outcome::NotDone, "others appended until the deadline"));
                }
                Fate::Beaten => {}
            }
        }
    }

    /// Removes what an erased stream has besides its commits. Answers how many snapshots there were.
    async fn remove_rest(self: &Arc<Self>, stream: &StreamId, tombstone: u64) -> Result<u64> {
        self.purge_parts(stream, tombstone).await?;
        let copy = self.names.moved_tombstone_of(&self.names.commits_of(stream));
        for beside in [self.names.marker_of(stream)].into_iter().chain(copy) {
            let purge = || self.wire.purge(&self.names.events, &beside, Some(tombstone));
            self.deadline().insist_on_change(purge).await?;
        }
        Ok(self.forget(stream.as_str()).await?.snapshots)
    }

    /// The marker is recorded first, so that the commands are remembered, then the events go, then the marker is recorded again at
    /// a later position: a projection that was told by the first may have folded the events once more. Whoever truncates again
    /// after an interruption does what is left of it.
    async fn truncate(
        self: &Arc<Self>,
        stream: &StreamId,
        origin: Version,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Removed> {
        self.refuse_if_immutable()?;
        let none = || Error::invalid("only what lies before an origin can be cut off");
        let last = self.last_from_leader(stream, self.deadline()).await?;
        let last = last.filter(|last| !commit::is_tombstone(last)).ok_or_else(none)?;
        if origin == Version::ZERO || Place::of(&last)?.last < origin {
            return Err(none());
        }
        let commit = self.locate(stream, origin, &last).await?.ok_or_else(none)?;
        let events = self.events_of(&mut Decoder::default(), stream, &commit, Place::of(&commit)?).await?;
        let at_origin = events.iter().find(|event| event.version == origin && event.data.origin);
        let head = at_origin.ok_or_else(none)?.head();
        let first = self.first_version(stream).await?;
        let deadline = self.deadline();
        if first < origin {
            loop {
                let earlier = self.marker_of(stream, first, deadline).await?;
                let after = earlier.as_ref().map_or(0, |marker| marker.seq);
                let truncation = self.noted(stream, head, earlier).await?;
                let kind = Kind::Marker { pending: true };
                let told =
                    self.record_marker(stream, &truncation, (id, recorded_at), kind, after, deadline).await?;
                if told.is_some() {
                    break;
                }
            }
        }
        let cut = async {
            // Where nothing is to be cut off, only the tombstone of the life before would go, from which the first event follows.
            if first < origin {
                let subject = self.names.commits_of(stream);
                self.copy_tombstone(&subject).await?;
                let purge = || self.wire.purge(&self.names.events, &subject, Some(commit.seq));
                self.deadline().insist_on_change(purge).await?;
            }
            // Where the commit is not in parts, all parts before it are those of commits that are gone.
            self.purge_parts(stream, self.lowest_part_from(&commit, origin)?.unwrap_or(commit.seq)).await?;
            let snapshots = self.forget_below(stream.as_str(), origin).await?;
            let marker = self.tell(stream, first, head, recorded_at).await?;
            Ok(Removed { events: origin.since(first), snapshots, tombstone: None, marker })
        };
        cut.await.map_err(|error: Error| match error.kind() {
            ErrorKind::Unavailable(_) => {
                let half = "the stream may be truncated in part: truncate again";
                Error::unavailable(Outcome::Unknown, half).caused_by(error)
            }
            _ => error,
        })
    }

    /// Records the stream's marker once more, after its events have gone. Answers where it stands; `None` if it was recorded for
    /// good before.
    async fn tell(
        self: &Arc<Self>,
        stream: &StreamId,
        first: Version,
        origin: Head,
        recorded_at: Timestamp,
    ) -> Result<Option<Position>> {
        let deadline = self.deadline();
        loop {
            let marker = self.marker_of(stream, origin.version, deadline).await?;
            let Some(Marker { seq, truncation, pending }) = marker else { return Ok(None) };
            let Some(truncation) = truncation else {
                // Erased meanwhile: what the marker remembers must not count in the next life.
                let marker = self.names.marker_of(stream);
                let purge = || self.wire.purge(&self.names.events, &marker, Some(seq + 1));
                self.deadline().insist_on_change(purge).await?;
                return Ok(None);
            };
            if first == origin.version && !pending {
                return Ok(None);
            }
            // One that cuts off more is somebody else's, who is not done yet.
            let pending = pending && truncation.origin().version > origin.version;
            let (kind, identity) = (Kind::Marker { pending }, (EventId::fresh(), recorded_at));
            let told = self.record_marker(stream, &truncation, identity, kind, seq, deadline).await?;
            if told.is_some() {
                return Ok(told);
            }
        }
    }

    /// The marker of a stream's life whose first event has that version, as the leader knows it.
    async fn marker_of(
        self: &Arc<Self>,
        stream: &StreamId,
        first: Version,
        deadline: Deadline,
    ) -> Result<Option<Marker>> {
        let get = Get::last(self.names.marker_of(stream));
        let last = deadline.insist(|| self.wire.leader_get(&self.names.events, &get)).await?;
        let Some(message) = last else { return Ok(None) };
        let events = self.events_of(&mut Decoder::default(), stream, &message, Place::of(&message)?).await?;
        let event = events.first().ok_or_else(|| Error::corrupt("a marker without an event"))?;
        let (truncation, pending) = (Truncation::from_event(event)?, commit::is_pending(&message));
        let pending = pending || truncation.is_pending();
        let origin = truncation.origin();
        if origin.version >= first {
            // An erase that was interrupted leaves the marker of the life before.
            let range = VersionRange::from(origin.version).up_to(Some(origin.version));
            let there = self.read_to_vec(stream, range).await?;
            if there.first().map(tailfold::RecordedEvent::head) != Some(origin) {
                tracing::debug!(%stream, "the marker of a life that was erased is passed over");
                return Ok(Some(Marker { seq: message.seq, truncation: None, pending }));
            }
        }
        Ok(Some(Marker { seq: message.seq, truncation: Some(truncation), pending }))
    }

    /// The first version that is to stay, where a marker says that a stream's event of that version is to go.
    pub(crate) async fn is_to_begin_with(
        &self,
        stream: &StreamId,
        version: Version,
    ) -> Result<Option<Version>> {
        let get = Get::last(self.names.marker_of(stream));
        let last = self.deadline().insist(|| self.wire.leader_get(&self.names.events, &get)).await?;
        let Some(message) = last else { return Ok(None) };
        Ok(Some(Place::of(&message)?.first).filter(|origin| *origin > version))
    }

    /// What the marker says once the events before an origin are gone.
    async fn noted(
        self: &Arc<Self>,
        stream: &StreamId,
        origin: Head,
        earlier: Option<Marker>,
    ) -> Result<Truncation> {
        let mut notes = Truncation::begin(stream, origin, earlier.and_then(|marker| marker.truncation));
        let below = VersionRange::ALL.up_to(Some(Version(origin.version.0.saturating_sub(1))));
        let mut batches = self.read(stream, below, Direction::Forward);
        while let Some(batch) = batches.try_next().await? {
            batch.iter().for_each(|event| notes.note_event(event));
        }
        Ok(notes.finish())
    }

    /// Records a marker after the one at a sequence. Answers where it stands; `None` if others were first.
    async fn record_marker(
        &self,
        stream: &StreamId,
        truncation: &Truncation,
        (id, recorded_at): (EventId, Timestamp),
        kind: Kind,
        after: u64,
        deadline: Deadline,
    ) -> Result<Option<Position>> {
        let pending = kind == Kind::Marker { pending: true };
        let truncation = truncation.clone().with_pending(pending);
        let marker = truncation.event(id, recorded_at)?;
        let payload = Body::of_one(&marker);
        if payload.len() + HEADER_ALLOWANCE > self.wire.client.max_payload() {
            return Err(Error::invalid(format!(
                "the marker remembers {} idempotency keys in {} bytes, more than the server's max_payload: raise it to 1 MiB",
                truncation.commands(),
                payload.len()
            )));
        }
        let end = End::of_marker(after, truncation.origin());
        let place = end.place([Digest::of(&marker)]);
        let subject = self.names.marker_of(stream);
        let sending = Sending { subject, end: &end, place, kind, within: None, payload };
        match self.send(&fresh_name(), &[sending], deadline).await? {
            Fate::Stored { last } => Ok(Some(position(last, 0))),
            Fate::Beaten if deadline.has_passed() => {
                Err(Error::unavailable(Outcome::NotDone, "others truncated the stream until the deadline"))
            }
            Fate::Beaten => Ok(None),
        }
    }

    async fn purge_parts(&self, stream: &StreamId, before: u64) -> Result<()> {
        let subject = self.names.parts_of(stream);
        let purge = || self.wire.purge(&self.names.events, &subject, Some(before));
        self.deadline().insist_on_change(purge).await?;
        Ok(())
    }

    /// The first version of a stream that is there.
    async fn first_version(&self, stream: &StreamId) -> Result<Version> {
        let Some(first) = self.first_commit(stream).await? else { return Ok(Version::FIRST) };
        let place = Place::of(&first)?;
        if place.first == Version::FIRST && !self.is_in_parts(&first) {
            return Ok(Version::FIRST);
        }
        let events = self.events_of(&mut Decoder::default(), stream, &first, place).await?;
        Ok(events.first().map_or(place.first, |event| event.version))
    }

    fn refuse_if_immutable(&self) -> Result<()> {
        match self.immutable {
            true => Err(Error::unsupported("the store is immutable: its streams deny purging")),
            false => Ok(()),
        }
    }

    /// Removes the snapshots of a key below a version. Answers how many.
    async fn forget_below(self: &Arc<Self>, key: &str, version: Version) -> Result<u64> {
        let found = self.find(&SlotFilter::key(key)).await?;
        let mut removed = 0;
        for snapshot in found.into_iter().filter(|snapshot| snapshot.info.head.version < version) {
            removed += u64::from(self.discard(&snapshot).await?);
        }
        Ok(removed)
    }
}

/// The marker of a stream.
struct Marker {
    seq: u64,
    /// `None`: it is that of a life before, which an erase has left behind.
    truncation: Option<Truncation>,
    /// The events that it tells of may still be there.
    pending: bool,
}
