//! Commits as messages: headers that tell the place in the stream, and the events as bytes.

use std::fmt::{Display, Write as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{HeaderMap, HeaderName};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tailfold::{
    Chain, Digest, Error, EventData, EventId, EventType, Head, Position, RecordedEvent, Result,
    SchemaVersion, StreamId, Tag, Timestamp, Version,
};

use crate::wire::{EXPECTED_LAST, Message};

/// Names the attempt to append: how a writer finds its own commit again.
static COMMIT: HeaderName = HeaderName::from_static("Tf-Commit");
static VERSIONS: HeaderName = HeaderName::from_static("Tf-Ver");
static CHAINS: HeaderName = HeaderName::from_static("Tf-Chain");
static PREVIOUS: HeaderName = HeaderName::from_static("Tf-Prev");
/// Set on the marker of a truncation while the events are not removed yet.
static PENDING: HeaderName = HeaderName::from_static("Tf-Pending");
static BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
/// Sequence at which a tombstone stood, on the copy that was recorded before it went.
static STOOD_AT: HeaderName = HeaderName::from_static("Tf-At");
/// Set where the commit is a tombstone.
static ERASED: HeaderName = HeaderName::from_static("Tf-Erased");

/// Commits that a commit points back to.
pub(crate) const POINTERS: usize = 16;
/// Positions of a commit: sequence times this, and the index of the event.
pub(crate) const POSITIONS: u64 = tailfold::Commit::MAX_EVENTS as u64;
/// More than the headers of a commit take.
pub(crate) const HEADER_ALLOWANCE: usize = 2048;

/// The last commit of a stream, as far as somebody needs to know it who appends: what the next commit names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Sequence of the last message; 0: there is none.
    pub(crate) seq: u64,
    /// 0 before a stream's first event and after an erase; the chain is the genesis then.
    pub(crate) version: Version,
    pub(crate) chain: Chain,
    /// The pointers of the next commit: `version:sequence,...`, newest first.
    pointers: String,
}

/// Where a commit stands in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) first: Version,
    pub(crate) last: Version,
    /// Chain before the first event and after the last.
    pub(crate) before: Chain,
    pub(crate) after: Chain,
}

/// An earlier commit of the same stream: its last version, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) last: Version,
    pub(crate) seq: u64,
}

impl End {
    /// Of a stream that never had an event.
    pub(crate) fn nothing(stream: &StreamId) -> Self {
        Self { seq: 0, version: Version::ZERO, chain: Chain::genesis(stream), pointers: String::new() }
    }

    /// What the marker of a truncation comes after: the marker before it, at that sequence (0: there is none). It links from the
    /// origin.
    pub(crate) fn of_marker(seq: u64, origin: Head) -> Self {
        let Head { version, chain } = origin;
        Self { seq, version: Version(version.0.saturating_sub(1)), chain, pointers: String::new() }
    }

    /// After a message of the stream.
    pub(crate) fn after(stream: &StreamId, message: &Message) -> Result<Self> {
        let place = Place::of(message)?;
        if is_tombstone(message) {
            return Ok(Self::after_erase(stream, message.seq, place));
        }
        Ok(Self::at(message.seq, place, message.header(&PREVIOUS).unwrap_or_default()))
    }

    /// After a tombstone: the next life begins.
    pub(crate) fn after_erase(stream: &StreamId, seq: u64, tombstone: Place) -> Self {
        let chain = Chain::genesis_after(stream, tombstone.after);
        Self { seq, version: Version::ZERO, chain, pointers: String::new() }
    }

    /// After a commit that was appended here.
    pub(crate) fn then(&self, seq: u64, place: Place) -> Self {
        Self::at(seq, place, &self.pointers)
    }

    fn at(seq: u64, place: Place, before: &str) -> Self {
        let mut commas = before.bytes().enumerate().filter(|(_, byte)| *byte == b',');
        let rest = match commas.nth(POINTERS - 2) {
            Some((end, _)) => before.get(..end).unwrap_or_default(),
            None => before,
        };
        let mut pointers = String::with_capacity(rest.len() + 42);
        // Writing to a string does not fail.
        let _ = write!(pointers, "{}:{seq}", place.last);
        if !rest.is_empty() {
            pointers.push(',');
            pointers.push_str(rest);
        }
        Self { seq, version: place.last, chain: place.after, pointers }
    }

    pub(crate) fn head(&self) -> Option<Head> {
        (self.version > Version::ZERO).then_some(Head { version: self.version, chain: self.chain })
    }

    /// The last commit and those before it, newest first.
    pub(crate) fn pointers(&self) -> impl Iterator<Item = Pointer> {
        parse_pointers(&self.pointers)
    }

    /// Where a commit of events with those digests stands if it comes next.
    pub(crate) fn place(&self, digests: impl IntoIterator<Item = Digest>) -> Place {
        let (mut last, mut after) = (self.version, self.chain);
        for digest in digests {
            (last, after) = (last.next(), after.link(digest));
        }
        Place { first: self.version.next(), last, before: self.chain, after }
    }

    /// The headers of a commit that comes next.
    pub(crate) fn headers(&self, id: &str, place: Place) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED_LAST.clone(), self.seq.to_string());
        headers.insert(COMMIT.clone(), id);
        headers.insert(VERSIONS.clone(), joined(place.first, place.last, 24));
        headers.insert(CHAINS.clone(), joined(place.before, place.after, 65));
        if !self.pointers.is_empty() {
            headers.insert(PREVIOUS.clone(), self.pointers.as_str());
        }
        headers
    }

    /// The headers of a marker: it takes the place of the one before, in one step.
    pub(crate) fn marker_headers(&self, id: &str, place: Place, pending: bool) -> HeaderMap {
        let mut headers = self.headers(id, place);
        headers.insert("Nats-Rollup", "sub");
        if pending {
            headers.insert(PENDING.clone(), "1");
        }
        headers
    }

    /// The headers of the tombstone: it takes the place of all that the stream has, in one step.
    pub(crate) fn tombstone_headers(&self, id: &str, place: Place) -> HeaderMap {
        let mut headers = self.headers(id, place);
        headers.insert("Nats-Rollup", "sub");
        headers.insert(ERASED.clone(), "1");
        headers
    }
}

impl Place {
    /// From the headers.
    pub(crate) fn of(message: &Message) -> Result<Self> {
        let parse = || {
            let (first, last) = message.header(&VERSIONS)?.split_once('-')?;
            let (before, after) = message.header(&CHAINS)?.split_once('-')?;
            Some(Self {
                first: Version(first.parse().ok()?),
                last: Version(last.parse().ok()?),
                before: before.parse().ok()?,
                after: after.parse().ok()?,
            })
        };
        let place = parse().filter(|place| place.first > Version::ZERO && place.first <= place.last);
        place.ok_or_else(|| {
            Error::corrupt(format!(
                "message {} on `{}` has no place in a stream",
                message.seq, message.subject
            ))
        })
    }

    pub(crate) fn head(&self) -> Head {
        Head { version: self.last, chain: self.after }
    }

    /// Number of events.
    pub(crate) fn len(&self) -> u64 {
        self.last.next().since(self.first)
    }
}

/// Whether the events that the marker tells of may not be removed yet.
pub(crate) fn is_pending(marker: &Message) -> bool {
    marker.header(&PENDING).is_some()
}

pub(crate) fn is_tombstone(message: &Message) -> bool {
    message.header(&ERASED).is_some()
}

/// The name of the attempt to append that has stored a message.
pub(crate) fn name_of(message: &Message) -> Option<&str> {
    message.header(&COMMIT)
}

/// Whether the message was stored by that attempt to append.
pub(crate) fn is_of(message: &Message, id: &str) -> bool {
    name_of(message) == Some(id)
}

/// The headers of a copy of a tombstone; it takes the place of the stream's copy before.
pub(crate) fn moved_headers(tombstone: &Message) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [&COMMIT, &VERSIONS, &CHAINS, &ERASED] {
        if let Some(value) = tombstone.header(name) {
            headers.insert(name.clone(), value);
        }
    }
    headers.insert(STOOD_AT.clone(), tombstone.seq.to_string());
    headers.insert("Nats-Rollup", "sub");
    headers
}

/// Where the tombstone stood that a message is a copy of.
pub(crate) fn stood_at(copy: &Message) -> Option<u64> {
    copy.header(&STOOD_AT)?.parse().ok()
}

/// Whether two messages were stored by the same attempt to append.
pub(crate) fn same_attempt(one: &Message, other: &Message) -> bool {
    name_of(one).is_some_and(|name| is_of(other, name))
}

/// The place of a message in a commit to several streams, from 1; `None`: there is only one, or it was restored from a backup.
pub(crate) fn number_in_batch(message: &Message) -> Option<usize> {
    message.header(&BATCH_SEQUENCE)?.parse().ok()
}

/// The earlier commits that a commit points to, newest first.
pub(crate) fn pointers_of(message: &Message) -> impl Iterator<Item = Pointer> {
    parse_pointers(message.header(&PREVIOUS).unwrap_or_default())
}

fn parse_pointers(text: &str) -> impl Iterator<Item = Pointer> {
    text.split(',').filter_map(|pointer| {
        let (last, seq) = pointer.split_once(':')?;
        Some(Pointer { last: Version(last.parse().ok()?), seq: seq.parse().ok()? })
    })
}

/// Position of an event of a commit, by its index.
pub(crate) fn position(seq: u64, index: u64) -> Position {
    Position(seq * POSITIONS + index)
}

/// The position after everything that the message at a sequence can hold.
pub(crate) fn end_of(seq: u64) -> Position {
    position(seq, POSITIONS - 1)
}

/// Writes events one after the other, as FORMAT.md says.
pub(crate) fn encode<'a>(kind: u8, events: impl IntoIterator<Item = &'a EventData>) -> BytesMut {
    let mut body = BytesMut::new();
    for event in events {
        body.reserve(128 + event.metadata.len() + event.payload.len());
        if body.is_empty() {
            body.put_u8(kind);
        }
        body.put_slice(event.id.as_uuid().as_bytes());
        // Core's limits: types and tags have at most 255 bytes, an event at most 32 tags.
        put_short(&mut body, event.event_type.as_str());
        body.put_u32_le(event.schema_version.0);
        body.put_i64_le(event.recorded_at.as_micros());
        body.put_u8(u8::from(event.origin));
        body.put_u8(event.tags.len() as u8);
        event.tags.iter().for_each(|tag| put_short(&mut body, tag.as_str()));
        body.put_u32_le(event.metadata.len() as u32);
        body.put_slice(&event.metadata);
        body.put_u32_le(event.payload.len() as u32);
        body.put_slice(&event.payload);
    }
    body
}

fn put_short(body: &mut BytesMut, text: &str) {
    body.put_u8(text.len() as u8);
    body.put_slice(text.as_bytes());
}

/// Reads events back. Keeps the names of types that it has seen, since there are few.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    types: Vec<EventType>,
}

impl Decoder {
    /// The events of a part of a commit that begins with a version, after a chain; `None` if the bytes are not whole.
    /// Answers the chain after them too.
    pub(crate) fn events(
        &mut self,
        stream: &StreamId,
        seq: u64,
        commit_first: Version,
        mut version: Version,
        mut chain: Chain,
        mut bytes: Bytes,
    ) -> Option<(Vec<RecordedEvent>, Chain)> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let data = self.event(&mut bytes)?;
            chain = chain.link(Digest::of(&data));
            let position = position(seq, version.since(commit_first));
            events.push(RecordedEvent { position, stream: stream.clone(), version, chain, data });
            version = version.next();
        }
        Some((events, chain))
    }

    fn event(&mut self, bytes: &mut Bytes) -> Option<EventData> {
        let mut id = [0; 16];
        bytes.try_copy_to_slice(&mut id).ok()?;
        let event_type = self.event_type(&take_short(bytes)?)?;
        let schema_version = SchemaVersion(bytes.try_get_u32_le().ok()?);
        let recorded_at = Timestamp::from_micros(bytes.try_get_i64_le().ok()?);
        let origin = match bytes.try_get_u8().ok()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let tags = (0..bytes.try_get_u8().ok()?).map(|_| {
            let text = take_short(bytes)?;
            Tag::from_stored(std::str::from_utf8(&text).ok()?).ok()
        });
        let tags = tags.collect::<Option<_>>()?;
        let (metadata, payload) = (take_long(bytes)?, take_long(bytes)?);
        let id = EventId::from_uuid(uuid::Uuid::from_bytes(id));
        Some(EventData { id, event_type, schema_version, recorded_at, metadata, payload, tags, origin })
    }

    fn event_type(&mut self, name: &[u8]) -> Option<EventType> {
        if let Some(known) = self.types.iter().find(|known| known.as_str().as_bytes() == name) {
            return Some(known.clone());
        }
        let new = EventType::new(std::str::from_utf8(name).ok()?).ok()?;
        if self.types.len() < 32 {
            self.types.push(new.clone());
        }
        Some(new)
    }
}

fn take_short(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.try_get_u8().ok()?;
    take(bytes, length.into())
}

fn take_long(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.try_get_u32_le().ok()?;
    take(bytes, length as usize)
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

/// The header that names a batch of commits, its order in it, and its end.
pub(crate) fn batch_headers(headers: &mut HeaderMap, batch: &str, number: usize, is_last: bool) {
    headers.insert("Nats-Batch-Id", batch);
    headers.insert(BATCH_SEQUENCE.clone(), number.to_string());
    if is_last {
        headers.insert("Nats-Batch-Commit", "1");
    }
}

/// Makes a commit come next of all that some subjects hold.
pub(crate) fn expect_last_of(headers: &mut HeaderMap, subjects: &str, last: u64) {
    headers.insert(EXPECTED_LAST.clone(), last.to_string());
    headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", subjects);
}

/// Two values in one header.
fn joined(first: impl Display, second: impl Display, capacity: usize) -> String {
    let mut text = String::with_capacity(capacity);
    // Writing to a string does not fail.
    let _ = write!(text, "{first}-{second}");
    text
}

/// A name that nobody else takes: one of the process, at random, and a number.
pub(crate) fn fresh_name() -> String {
    static PROCESS: LazyLock<String> = LazyLock::new(|| uuid::Uuid::now_v7().simple().to_string());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = String::with_capacity(48);
    name.push_str(&PROCESS);
    // Writing to a string does not fail.
    let _ = write!(name, "-{number:x}");
    name
}
