//! Erasing and truncating.

use std::sync::Arc;

use tailfold::{
    Digest, Error, EventId, Outcome, Removal, Removed, Result, SlotFilter, StreamId, Timestamp, Tombstone,
    Version,
};

use crate::append::{Fate, Sending};
use crate::commit::{self, Decoder, End, Place, fresh_name, position};
use crate::parts::Body;
use crate::store::Shared;

impl Shared {
    pub(crate) async fn remove(self: &Arc<Self>, stream: &StreamId, removal: Removal) -> Result<Removed> {
        let (name, done) = match removal {
            Removal::Erase { id, recorded_at } => {
                (format!("erase stream `{stream}`"), self.erase(stream, id, recorded_at).await)
            }
            Removal::BeforeOrigin(origin) => (
                format!("truncate stream `{stream}` before version {origin}"),
                self.truncate(stream, origin).await,
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
                if end.seq > 0 {
                    self.remove_rest(stream, end.seq).await?;
                }
                return Ok(Removed::default());
            };
            let first = self.first_version(stream).await?;
            let tombstone = Tombstone::event(head, id, recorded_at)?;
            let place = end.place([Digest::of(&tombstone)]);
            let attempt = fresh_name();
            let sending = Sending {
                subject: self.names.commits_of(stream),
                end: &end,
                place,
                erases: true,
                within: None,
                payload: Body::of_tombstone(&tombstone),
            };
            match self.send(&attempt, &[sending], deadline).await? {
                Fate::Stored { last } => {
                    self.ends.note(stream, End::after_erase(stream, last, place));
                    let snapshots = self.remove_rest(stream, last).await.map_err(|error| {
                        let half = "the events are erased, what lies beside them is not yet: erase again";
                        Error::unavailable(Outcome::Unknown, half).caused_by(error)
                    })?;
                    let events = head.version.next().since(first);
                    return Ok(Removed { events, snapshots, tombstone: Some(position(last, 0)) });
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
        Ok(self.forget(stream.as_str()).await?.snapshots)
    }

    async fn truncate(self: &Arc<Self>, stream: &StreamId, origin: Version) -> Result<Removed> {
        self.refuse_if_immutable()?;
        let none = || Error::invalid("only what lies before an origin can be cut off");
        let last = self.last_from_leader(stream, self.deadline()).await?;
        let last = last.filter(|last| !commit::is_tombstone(last)).ok_or_else(none)?;
        if origin == Version::ZERO || Place::of(&last)?.last < origin {
            return Err(none());
        }
        let commit = self.locate(stream, origin, &last).await?.ok_or_else(none)?;
        let events = self.events_of(&mut Decoder::default(), stream, &commit, Place::of(&commit)?).await?;
        if !events.iter().any(|event| event.version == origin && event.data.origin) {
            return Err(none());
        }
        let first = self.first_version(stream).await?;
        let subject = self.names.commits_of(stream);
        let purge = || self.wire.purge(&self.names.events, &subject, Some(commit.seq));
        self.deadline().insist_on_change(purge).await?;
        // Where the commit is not in parts, all parts before it are those of commits that are gone.
        self.purge_parts(stream, self.lowest_part_from(&commit, origin)?.unwrap_or(commit.seq)).await?;
        let snapshots = self.forget_below(stream.as_str(), origin).await?;
        Ok(Removed { events: origin.since(first), snapshots, tombstone: None })
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
