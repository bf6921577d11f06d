//! What a message carries of a commit: the events, or where the parts lie that are too large for it.
//!
//! A commit is in parts if its events do not fit into one message, or if one of them but the first is an origin: then what
//! lies before the origin can be removed alone. Parts are written after their commit's predecessor is known and before the
//! commit, so that a part that belongs to a commit always lies between both; the commit message stays the only point where
//! it becomes visible. A commit that fails leaves its parts behind until the stream is truncated or erased.

use async_nats::HeaderMap;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tailfold::{
    Chain, Error, ErrorKind, EventData, NewEvent, Outcome, RecordedEvent, Result, StreamId, StreamWrite,
    Version,
};

use crate::commit::{self, Decoder, HEADER_ALLOWANCE, Place};
use crate::patience::Deadline;
use crate::store::Shared;
use crate::wire::{Get, Message};

/// First byte of a message whose other bytes are the events.
const WHOLE: u8 = 1;
/// First byte of a message whose other bytes are a [`Manifest`].
const IN_PARTS: u8 = 2;
/// Largest part of commits and of snapshots.
pub(crate) const PART_BYTES: usize = 512 * 1024;
/// Parts that are written or read at the same time.
pub(crate) const PARTS_AT_ONCE: usize = 16;

/// Where the events of a commit lie.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    segments: Vec<Segment>,
}

/// Events that can only be removed together: each segment but the first begins with an origin.
#[derive(Debug, Serialize, Deserialize)]
struct Segment {
    /// Version of the first event.
    first: Version,
    /// Chain before it.
    before: Chain,
    /// Sequences of the parts, in order.
    parts: Vec<u64>,
}

/// The events of a commit, encoded.
pub(crate) enum Body {
    Whole(Bytes),
    Segments(Vec<Bytes>),
}

impl Body {
    pub(crate) fn of(events: &[NewEvent], max_payload: usize) -> Self {
        let starts = |(index, event): (usize, &NewEvent)| (index > 0 && event.data().origin).then_some(index);
        let mut begins: Vec<usize> = events.iter().enumerate().filter_map(starts).collect();
        begins.push(events.len());
        let mut from = 0;
        let mut segments = Vec::new();
        for to in begins {
            let events = events.get(from..to).unwrap_or_default();
            segments.push(commit::encode(WHOLE, events.iter().map(NewEvent::data)).freeze());
            from = to;
        }
        match segments.as_slice() {
            [only] if only.len() + HEADER_ALLOWANCE < max_payload => Self::Whole(only.clone()),
            _ => Self::Segments(segments.into_iter().map(|segment| segment.slice(1..)).collect()),
        }
    }

    /// One event that is never in parts: a tombstone, or a marker.
    pub(crate) fn of_one(event: &EventData) -> Bytes {
        commit::encode(WHOLE, [event]).freeze()
    }
}

impl Shared {
    /// Writes the parts of a commit; answers the payload of its message.
    pub(crate) async fn write_parts_of(
        &self,
        write: &StreamWrite,
        segments: &[Bytes],
        place: Place,
        deadline: Deadline,
    ) -> Result<Bytes> {
        let StreamWrite { stream, events, .. } = write;
        let subject = self.names.parts_of(stream);
        let mut manifest = Manifest { segments: Vec::with_capacity(segments.len()) };
        let (mut version, mut chain) = (place.first, place.before);
        let mut events = events.iter().enumerate().peekable();
        for bytes in segments {
            // One segment after the other, so that a purge up to a segment takes all before it.
            let pieces: Vec<Bytes> =
                bytes.chunks(self.part_bytes()).map(|piece| bytes.slice_ref(piece)).collect();
            let write = |piece: Bytes| {
                let subject = &subject;
                async move {
                    let send = || self.wire.publish(subject.clone(), HeaderMap::new(), piece.clone());
                    deadline.insist(send).await
                }
            };
            let parts = stream::iter(pieces).map(write).buffered(PARTS_AT_ONCE).try_collect().await?;
            manifest.segments.push(Segment { first: version, before: chain, parts });
            while let Some((_, event)) = events.next() {
                (version, chain) = (version.next(), chain.link(event.digest()));
                if events.peek().is_some_and(|(_, next)| next.data().origin) {
                    break;
                }
            }
        }
        let manifest = serde_json::to_vec(&manifest)
            .map_err(|error| Error::codec("encode the list of a commit's parts").caused_by(error))?;
        let mut payload = BytesMut::with_capacity(1 + manifest.len());
        payload.put_u8(IN_PARTS);
        payload.put_slice(&manifest);
        if payload.len() + HEADER_ALLOWANCE > self.wire.client.max_payload() {
            return Err(Error::invalid(
                "a commit has too many origins, or is too large, for the server's max_payload",
            ));
        }
        Ok(payload.freeze())
    }

    /// Bytes of one part.
    pub(crate) fn part_bytes(&self) -> usize {
        PART_BYTES.min(self.wire.client.max_payload().saturating_sub(HEADER_ALLOWANCE).max(1))
    }

    /// The events of a commit, those that are left of it. Checks that they are what the commit's chain says.
    ///
    /// # Errors
    /// `Unavailable` if the commit was removed meanwhile; `Corrupt` for damage.
    pub(crate) async fn events_of(
        &self,
        decoder: &mut Decoder,
        stream: &StreamId,
        message: &Message,
        place: Place,
    ) -> Result<Vec<RecordedEvent>> {
        let error = match self.events_left_of(decoder, stream, message, place).await {
            Err(error) if error.kind() == &ErrorKind::Corrupt && self.is_in_parts(message) => error,
            read => return read,
        };
        // Where the stream is erased or truncated, the commit goes before its parts, or some parts alone while others are read.
        let get = Get::at(message.seq);
        let there = self.deadline().insist(|| self.wire.leader_get(&self.names.events, &get)).await?;
        if there.is_none() {
            let removed = format!(
                "versions {} to {} of stream `{stream}` were removed meanwhile",
                place.first, place.last
            );
            return Err(Error::unavailable(Outcome::NotDone, removed));
        }
        tracing::debug!(%error, "parts are read once more");
        self.events_left_of(decoder, stream, message, place).await
    }

    async fn events_left_of(
        &self,
        decoder: &mut Decoder,
        stream: &StreamId,
        message: &Message,
        place: Place,
    ) -> Result<Vec<RecordedEvent>> {
        let corrupt = |what: &str| {
            Error::corrupt(format!(
                "commit {} of stream `{stream}`, versions {} to {}: {what}",
                message.seq, place.first, place.last
            ))
        };
        let broken = || corrupt("its bytes are not events");
        let mut payload = message.payload.clone();
        let kind = (!payload.is_empty()).then(|| payload.split_to(1)).ok_or_else(broken)?;
        let (events, chain) = match kind.first() {
            Some(&WHOLE) => decoder
                .events(stream, message.seq, place.first, place.first, place.before, payload)
                .ok_or_else(broken)?,
            Some(&IN_PARTS) => {
                let manifest: Manifest = serde_json::from_slice(&payload)
                    .map_err(|error| corrupt("the list of its parts cannot be read").caused_by(error))?;
                let mut events: Vec<RecordedEvent> = Vec::new();
                let mut chain = None;
                for segment in &manifest.segments {
                    let Some(bytes) = self.segment(segment).await? else {
                        if chain.is_some() {
                            return Err(corrupt("a part is missing"));
                        }
                        continue;
                    };
                    if chain.is_some_and(|chain| chain != segment.before) {
                        return Err(corrupt("its parts do not follow each other"));
                    }
                    let (more, after) = decoder
                        .events(stream, message.seq, place.first, segment.first, segment.before, bytes)
                        .ok_or_else(broken)?;
                    // What was cut off ends where an origin begins.
                    if chain.is_none()
                        && segment.first > place.first
                        && !more.first().is_some_and(|event| event.data.origin)
                    {
                        return Err(corrupt("a part is missing"));
                    }
                    events.extend(more);
                    chain = Some(after);
                }
                (events, chain.ok_or_else(|| corrupt("its parts are missing"))?)
            }
            _ => return Err(corrupt("it is of a format that this release does not know")),
        };
        if chain != place.after || events.last().is_none_or(|event| event.version != place.last) {
            return Err(corrupt("its events are not those of its chain"));
        }
        Ok(events)
    }

    /// The bytes of a segment; `None` if it was removed.
    async fn segment(&self, segment: &Segment) -> Result<Option<Bytes>> {
        let parts: Vec<Option<Message>> = stream::iter(segment.parts.clone())
            .map(|seq| self.event_message(seq))
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        Ok(Some(match <[Message; 1]>::try_from(parts) {
            Ok([only]) => only.payload,
            Err(parts) => {
                let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| part.payload.len()).sum());
                parts.iter().for_each(|part| bytes.put_slice(&part.payload));
                bytes.freeze()
            }
        }))
    }

    /// The message at a sequence of the events' stream, from any replica that has it.
    pub(crate) async fn event_message(&self, seq: u64) -> Result<Option<Message>> {
        if let Ok(Some(message)) = self.wire.direct_at(&self.names.events, seq).await {
            return Ok(Some(message));
        }
        let get = Get::at(seq);
        self.deadline().insist(|| self.wire.leader_get(&self.names.events, &get)).await
    }

    pub(crate) fn is_in_parts(&self, message: &Message) -> bool {
        message.payload.first() == Some(&IN_PARTS)
    }

    /// The lowest sequence among the parts of a commit that hold its events from a version on, if it is in parts.
    pub(crate) fn lowest_part_from(&self, message: &Message, from: Version) -> Result<Option<u64>> {
        let Some((&IN_PARTS, manifest)) = message.payload.split_first() else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(|error| {
            Error::corrupt(format!("commit {}: the list of its parts cannot be read", message.seq))
                .caused_by(error)
        })?;
        let needed = manifest.segments.into_iter().filter(|segment| segment.first >= from);
        Ok(needed.flat_map(|segment| segment.parts).min())
    }
}
