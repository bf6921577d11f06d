//! Appending: one message for each stream, which names the one before it.
//!
//! The server stores a commit only if the stream's last message is still the one that the commit names. An attempt without
//! a clear answer is settled by asking the leader what came after that message: our commit, and it has happened; another,
//! and ours can never happen any more; nothing, and the very same commit is sent again.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::future::try_join_all;
use tailfold::{
    Commit, Committed, Conflict, Error, ErrorKind, Expected, Head, NewEvent, Outcome, Result, StreamWrite,
    Written,
};

use crate::boundary::Guarded;
use crate::commit::{self, End, Place, end_of, fresh_name, position};
use crate::parts::Body;
use crate::patience::{Backoff, Deadline};
use crate::store::Shared;
use crate::wire::{Failure, Get, Message, code};

/// Most streams in one commit: the server's limit of a batch.
const MAX_STREAMS: usize = 1000;

/// A commit's message for one stream.
pub(crate) struct Sending<'a> {
    pub(crate) subject: String,
    /// What it comes after, and names.
    pub(crate) end: &'a End,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    /// Subjects of which the commit must come next, instead of its stream's only, and the last sequence on them.
    pub(crate) within: Option<(&'a str, u64)>,
    pub(crate) payload: Bytes,
}

/// What a message is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Tombstone,
    /// The marker of a truncation.
    Marker {
        /// The events are still there.
        pending: bool,
    },
}

impl Sending<'_> {
    /// Whether others may be first although nothing comes after what the message names: elsewhere in the category, or by an erase,
    /// which removes markers.
    fn may_be_beaten_unseen(&self) -> bool {
        self.within.is_some() || matches!(self.kind, Kind::Marker { .. })
    }

    /// Whether another message of the subject, the first that is left after what this one names, stands in its place. If not,
    /// what came in between was removed, and may have been this one.
    fn is_beaten_by(&self, other: &Message) -> bool {
        match self.kind {
            Kind::Marker { .. } => true,
            Kind::Commit | Kind::Tombstone => Place::of(other)
                .map_or(true, |other| (other.first, other.before) == (self.place.first, self.place.before)),
        }
    }

    fn headers(&self, id: &str) -> HeaderMap {
        let mut headers = match self.kind {
            Kind::Commit => self.end.headers(id, self.place),
            Kind::Tombstone => self.end.tombstone_headers(id, self.place),
            Kind::Marker { pending } => self.end.marker_headers(id, self.place, pending),
        };
        if let Some((subjects, last)) = self.within {
            commit::expect_last_of(&mut headers, subjects, last);
        }
        headers
    }
}

/// What became of messages that were sent until it was known.
pub(crate) enum Fate {
    /// They stand one after the other, the last of them there.
    Stored { last: u64 },
    /// Others were first; these will never be stored.
    Beaten,
}

/// What is known of an attempt.
enum Settled {
    Stored {
        last: u64,
    },
    Beaten,
    /// What came next on the subject was removed, this or something else; the first that is left stands there.
    Hidden {
        subject: String,
        seq: u64,
    },
    Nothing,
}

impl Shared {
    pub(crate) async fn append(self: &Arc<Self>, commit: Commit) -> Result<Committed> {
        commit.check()?;
        let stream = commit.writes.first().map(|write| write.stream.clone());
        self.append_checked(commit).await.map_err(|error| {
            let stream = stream.as_ref().map_or("", |stream| stream.as_str());
            error.during(format!("append to stream `{stream}`"))
        })
    }

    async fn append_checked(self: &Arc<Self>, commit: Commit) -> Result<Committed> {
        self.refuse_what_cannot_be(&commit)?;
        self.look_after_log().await?;
        let deadline = self.deadline();
        let bodies: Vec<Body> = commit
            .writes
            .iter()
            .map(|write| Body::of(&write.events, self.wire.client.max_payload()))
            .collect();
        let id = fresh_name();
        let mut guarded = Box::pin(Guarded::of(&commit, self, deadline)).await?;
        let mut from_leader = guarded.is_some();
        let mut ends = match &mut guarded {
            Some(guarded) => Box::pin(guarded.ends(&commit, self, deadline)).await?,
            None => self.likely_ends(&commit, deadline).await?,
        };
        loop {
            if let Some((write, actual)) = unmet(&commit, &ends) {
                // What is remembered proves nothing: only the leader decides on a conflict.
                if from_leader {
                    let conflict = || Error::conflict(write.stream.clone(), write.expected, actual);
                    return Box::pin(self.original_receipt(&commit)).await?.ok_or_else(conflict);
                }
                (ends, from_leader) = (Box::pin(self.ends_from_leader(&commit, deadline)).await?, true);
                continue;
            }
            if let Some(guarded) = &mut guarded
                && let Err(error) = Box::pin(guarded.check(self, &ends)).await
            {
                // What was added may be this very commit.
                let ErrorKind::Conflict(Conflict::Changed { position }) = error.kind() else {
                    return Err(error);
                };
                return Box::pin(self.receipt_at(&commit, *position)).await?.ok_or(error);
            }
            let mut places = Vec::with_capacity(ends.len());
            let fate = {
                let mut sendings = Vec::with_capacity(ends.len());
                for (index, ((write, body), end)) in commit.writes.iter().zip(&bodies).zip(&ends).enumerate()
                {
                    let place = end.place(write.events.iter().map(NewEvent::digest));
                    sendings.push(Sending {
                        subject: self.names.commits_of(&write.stream),
                        end,
                        place,
                        kind: Kind::Commit,
                        within: guarded.as_ref().and_then(|guarded| guarded.within(index)),
                        payload: match body {
                            Body::Whole(events) => events.clone(),
                            Body::Segments(segments) => {
                                let write = self.write_parts_of(write, segments, place, deadline);
                                Box::pin(write).await?
                            }
                        },
                    });
                    places.push(place);
                }
                self.send(&id, &sendings, deadline).await?
            };
            match fate {
                Fate::Stored { last } => return Ok(self.receipt(&commit, &ends, &places, last)),
                Fate::Beaten if deadline.has_passed() => {
                    return Err(Error::unavailable(
                        Outcome::NotDone,
                        "others were faster until the deadline",
                    ));
                }
                Fate::Beaten => {
                    ends = match &mut guarded {
                        Some(guarded) => Box::pin(guarded.ends(&commit, self, deadline)).await?,
                        None => Box::pin(self.ends_from_leader(&commit, deadline)).await?,
                    };
                    from_leader = true;
                }
            }
        }
    }

    /// What this process knows; the leader is asked for the rest.
    async fn likely_ends(&self, commit: &Commit, deadline: Deadline) -> Result<Vec<Arc<End>>> {
        let mut ends = Vec::with_capacity(commit.writes.len());
        for write in &commit.writes {
            ends.push(match self.ends.get(&write.stream) {
                Some(end) => end,
                // Most likely true, and if it is not, the server says so.
                None if write.expected == Expected::NoStream => Arc::new(End::nothing(&write.stream)),
                None => Arc::new(Box::pin(self.end_from_leader(&write.stream, deadline)).await?),
            });
        }
        Ok(ends)
    }

    fn refuse_what_cannot_be(&self, commit: &Commit) -> Result<()> {
        if commit.snapshot.is_some() {
            return Err(Error::unsupported("JetStream has no transaction over events and snapshots"));
        }
        if commit.writes.len() > 1 && !self.several_streams {
            return Err(Error::unsupported(
                "a commit to several streams needs atomic batches: a server of release 2.12 or later",
            ));
        }
        if commit.writes.len() > MAX_STREAMS {
            return Err(Error::invalid(format!(
                "{} streams exceed the limit of {MAX_STREAMS} a commit",
                commit.writes.len()
            )));
        }
        Ok(())
    }

    /// Sends messages until it is known what became of them.
    pub(crate) async fn send(&self, id: &str, sendings: &[Sending<'_>], deadline: Deadline) -> Result<Fate> {
        let mut backoff = Backoff::new();
        let mut outcome = Outcome::NotDone;
        let known_before = self.continuity.highest();
        loop {
            let before = self.continuity.highest();
            // That the log is the one that is meant is made sure of before each attempt, and of what was stored, after it.
            let sent = match Box::pin(self.dispel_doubt()).await? {
                Ok(connects) => self.attempt(connects, id, sendings).await,
                Err(Failure::Closed) => Err(Failure::Closed),
                Err(unsure) => Err(Failure::Nobody(format!("the log may be another one: {unsure}"))),
            };
            let failure = match sent {
                Ok(last) => {
                    Box::pin(self.note_acknowledged(before, last, id)).await?;
                    match Box::pin(self.dispel_doubt()).await? {
                        Ok(_) => return Ok(Fate::Stored { last }),
                        Err(unsure) => Failure::Silence(format!("stored, perhaps in another log: {unsure}")),
                    }
                }
                Err(failure) => failure,
            };
            tracing::debug!(?failure, id, "an append without acknowledgement");
            if failure.may_be_done() {
                outcome = Outcome::Unknown;
            }
            if !failure.is_passing() {
                return Err(failure.into_error(outcome));
            }
            match Box::pin(self.settle(id, sendings)).await {
                Ok(Settled::Stored { last }) => {
                    outcome = Outcome::Unknown;
                    if Box::pin(self.dispel_doubt()).await?.is_ok() {
                        return Ok(Fate::Stored { last });
                    }
                }
                Ok(Settled::Beaten) => return Ok(Fate::Beaten),
                // No attempt was stored between the two: each was refused, or what is left was there before them.
                Ok(Settled::Hidden { seq, .. }) if outcome == Outcome::NotDone || seq <= known_before => {
                    return Ok(Fate::Beaten);
                }
                Ok(Settled::Hidden { subject, .. }) => return Err(self.untold(&subject)),
                // Others were first in what it must come next of. That never goes back, so an earlier attempt is refused as well,
                // if it was not found just now.
                Ok(Settled::Nothing)
                    if failure.is_refused(code::WRONG_LAST_SEQUENCE)
                        && sendings.iter().any(Sending::may_be_beaten_unseen) =>
                {
                    return Ok(Fate::Beaten);
                }
                // The message that it comes after is not there any more.
                Ok(Settled::Nothing) if failure.is_refused(code::WRONG_LAST_SEQUENCE) => {
                    if let Some(error) = Box::pin(self.why_refused(sendings)).await {
                        return Err(error);
                    }
                }
                Ok(Settled::Nothing) => {}
                Err(unsettled) => tracing::debug!(?unsettled, id, "not settled"),
            }
            if deadline.has_passed() {
                return Err(failure.into_error(outcome));
            }
            backoff.pause().await;
        }
    }

    fn untold(&self, subject: &str) -> Error {
        let stream = self.names.stream_of(subject).map(|stream| format!("stream `{stream}`"));
        Error::unavailable(
            Outcome::Unknown,
            format!(
                "the answer was lost, and what came next in {} was erased or cut off before it could be looked at, which may be \
                 this: read the stream before you repeat it",
                stream.unwrap_or_else(|_| format!("`{subject}`"))
            ),
        )
    }

    async fn attempt(&self, connects: u64, id: &str, sendings: &[Sending<'_>]) -> Result<u64, Failure> {
        let message =
            |sending: &Sending<'_>| (sending.subject.clone(), sending.headers(id), sending.payload.clone());
        let Some((last, others)) = sendings.split_last() else { return Ok(0) };
        let (subject, mut headers, payload) = message(last);
        if !others.is_empty() {
            // A name for each attempt, so that what is left of one that was cut off never joins the next.
            let batch = fresh_name();
            for (index, sending) in others.iter().enumerate() {
                let (subject, mut headers, payload) = message(sending);
                commit::batch_headers(&mut headers, &batch, index + 1, false);
                self.wire.send(subject, headers, payload).await?;
            }
            commit::batch_headers(&mut headers, &batch, sendings.len(), true);
        }
        self.wire.publish_on(connects, subject, headers, payload).await
    }

    /// What became of an attempt.
    async fn settle(&self, id: &str, sendings: &[Sending<'_>]) -> Result<Settled, Failure> {
        let mut settled = Settled::Nothing;
        for (index, sending) in sendings.iter().enumerate() {
            let next = Get::next(sending.subject.as_str(), sending.end.seq + 1);
            let Some(next) = self.wire.leader_get(&self.names.events, &next).await? else { continue };
            if commit::is_of(&next, id) {
                // A batch is stored without anything in between.
                let behind = sendings.len() - 1 - index;
                return Ok(Settled::Stored { last: next.seq + behind as u64 });
            }
            if sending.is_beaten_by(&next) {
                return Ok(Settled::Beaten);
            }
            if let Some(last) = self.moved_tombstone(id, sending).await? {
                return Ok(Settled::Stored { last });
            }
            settled = Settled::Hidden { subject: sending.subject.clone(), seq: next.seq };
        }
        Ok(settled)
    }

    /// Where a tombstone stood that was stored by an attempt and taken from its place since.
    async fn moved_tombstone(&self, id: &str, sending: &Sending<'_>) -> Result<Option<u64>, Failure> {
        let copies = self.names.moved_tombstone_of(&sending.subject);
        let Some(copies) = copies.filter(|_| sending.kind == Kind::Tombstone) else { return Ok(None) };
        let copy = self.wire.leader_get(&self.names.events, &Get::last(copies)).await?;
        Ok(copy.filter(|copy| commit::is_of(copy, id)).and_then(|copy| commit::stood_at(&copy)))
    }

    /// What is wrong where messages are refused although nothing came after what they name; `None`: nothing, or it cannot be said.
    async fn why_refused(&self, sendings: &[Sending<'_>]) -> Option<Error> {
        for sending in sendings {
            let (subject, known) = (sending.subject.as_str(), sending.end.seq);
            let last = self.wire.leader_get(&self.names.events, &Get::last(subject)).await.ok()?;
            let last = last.map_or(0, |last| last.seq);
            if last < known {
                return self.why_shorter(subject, known, last).await;
            }
        }
        None
    }

    pub(crate) async fn ends_from_leader(
        &self,
        commit: &Commit,
        deadline: Deadline,
    ) -> Result<Vec<Arc<End>>> {
        let end =
            async |write: &StreamWrite| self.end_from_leader(&write.stream, deadline).await.map(Arc::new);
        try_join_all(commit.writes.iter().map(end)).await
    }

    fn receipt(&self, commit: &Commit, ends: &[Arc<End>], places: &[Place], last: u64) -> Committed {
        let mut writes = Vec::with_capacity(places.len());
        let count = commit.writes.len();
        for (index, ((write, end), place)) in commit.writes.iter().zip(ends).zip(places).enumerate() {
            let seq = last - (count - 1 - index) as u64;
            self.ends.note(&write.stream, end.then(seq, *place));
            writes.push(Written { stream: write.stream.clone(), first: place.first, head: place.head() });
        }
        let position = places.last().map_or(end_of(last), |place| position(last, place.len() - 1));
        Committed { writes, position, snapshot: None, repeated: false }
    }
}

/// The first write that expects another head than its stream has, and that head.
fn unmet<'a>(commit: &'a Commit, ends: &[Arc<End>]) -> Option<(&'a StreamWrite, Option<Head>)> {
    let mut writes = commit.writes.iter().zip(ends.iter().map(|end| end.head()));
    writes.find(|(write, head)| !write.expected.is_met_by(*head))
}
