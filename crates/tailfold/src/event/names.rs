//! Names and places of events.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result, beginning};
use crate::stream::StreamId;

/// Identity of an event, a UUID: version 7 (ordered by time), or version 8 where it was derived from an idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(Uuid);

impl EventId {
    /// A fresh id: UUIDv7 of the system's time and random bits.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that belongs to a key, a stream and a place among the events of one decision; the same for the same input.
    pub fn derived(key: &str, stream: &StreamId, index: usize) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("tailfold 2026 event id from an idempotency key");
        for part in [key.as_bytes(), stream.as_str().as_bytes(), &(index as u64).to_le_bytes()] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(hash.finalize().as_bytes().split_at(16).0);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// From a UUID made elsewhere.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({})", self.0)
    }
}

impl FromStr for EventId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse()
            .map(Self)
            .map_err(|error| Error::invalid_text("event id", text, "must be a UUID").caused_by(error))
    }
}

impl TryFrom<String> for EventId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

/// Place of an event in one store: increasing, gaps allowed, visible in order, never reused. 0 means "before everything".
/// A location, not an identity: no fold sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before the first event of the store.
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Stable name of a kind of event: `account.opened`. 1..=128 bytes of ASCII letters, digits, `_`, `-`, `.` and `:`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(Arc<str>);

impl EventType {
    /// Type of the event that a store appends where a stream was erased.
    pub const TOMBSTONE: &'static str = "tailfold.erased";
    /// Type of the event that a store puts into the log where a stream was truncated.
    pub const TRUNCATED: &'static str = "tailfold.truncated";

    /// Checks and takes a name.
    ///
    /// # Errors
    /// `Invalid` if the name breaks the rules above.
    pub fn new(name: &str) -> Result<Self> {
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b':');
        if name.is_empty() || name.len() > 128 || !name.bytes().all(good) {
            return Err(Error::invalid_text(
                "event type",
                name,
                "must be 1..=128 ASCII letters, digits, `_`, `-`, `.` or `:`",
            ));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this names the tombstone of an erased stream.
    pub fn is_tombstone(&self) -> bool {
        self.as_str() == Self::TOMBSTONE
    }

    /// Whether this names the marker of a truncation.
    pub fn is_truncation(&self) -> bool {
        self.as_str() == Self::TRUNCATED
    }

    /// Whether this names an event that tells of events that are gone, a tombstone or the marker of a truncation: what every filter
    /// of the stream matches, and no decision records.
    pub fn tells_of_removal(&self) -> bool {
        self.is_tombstone() || self.is_truncation()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventType({})", self.0)
    }
}

impl TryFrom<String> for EventType {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.as_str().to_owned()
    }
}

/// Version of an event type's payload, 1 and up; older ones are upcast when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchemaVersion(pub u32);

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A label on an event by which a store finds it: `course:42`. 1..=255 bytes without control characters.
/// Tags lie beside the chain; names that start with `tailfold.` are the library's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

/// What the tag of an idempotency key begins with.
const KEY_PREFIX: &str = "tailfold.key:";

impl Tag {
    /// Checks and takes a tag.
    ///
    /// # Errors
    /// `Invalid` if the text breaks the rules above or starts with `tailfold.`.
    pub fn new(text: &str) -> Result<Self> {
        if text.starts_with("tailfold.") {
            return Err(Error::invalid_text("tag", text, "names that start with `tailfold.` are reserved"));
        }
        Self::from_stored(text)
    }

    /// As [`Tag::new`], for stores and imports that carry the library's own tags along.
    ///
    /// # Errors
    /// `Invalid` if the text breaks the rules on length and characters.
    pub fn from_stored(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
            return Err(Error::invalid_text("tag", text, "must be 1..=255 bytes without control characters"));
        }
        Ok(Self(text.into()))
    }

    /// The tag for a text that may be no tag: too long, empty, with control characters, or starting with `tailfold.`. What
    /// `#[event(tag = "email:{email}", long = hash)]` records is this tag of the written text, so whoever looks for it makes it
    /// in the same way:
    ///
    /// ```
    /// use tailfold::{Filter, Tag};
    ///
    /// let short = Tag::fitted("email:ann@example.com");
    /// assert_eq!(short.as_str(), "email:ann@example.com");
    /// let long = Tag::fitted(&format!("email:{}@example.com", "x".repeat(300)));
    /// assert_eq!(long.as_str().len(), 97);
    /// let registered = Filter::tag(long);
    /// ```
    ///
    /// A text that is a tag stays what it is. Of any other the first 64 bytes are kept, as far as a control character, then come
    /// `~` and 128 bits of its hash, in hexadecimal: the same for the same text, in every release. A text that looks like that
    /// already is hashed too, so that none passes for another.
    pub fn fitted(text: &str) -> Self {
        match Self::new(text) {
            Ok(tag) if !is_hashed(text) => tag,
            _ => {
                let kept = text.split(char::is_control).next().unwrap_or_default();
                let kept = if kept.starts_with("tailfold.") { "" } else { beginning(kept, 64) };
                let hash = blake3::Hasher::new_derive_key("tailfold 2026 tag of a text that does not fit")
                    .update(text.as_bytes())
                    .finalize();
                let hash = hash.to_hex();
                Self(format!("{kept}~{}", beginning(&hash, HASH_DIGITS)).into())
            }
        }
    }

    /// The tag that marks the first event of a decision made under an idempotency key.
    pub(crate) fn idempotency(key: &str) -> Result<Self> {
        if key.is_empty() || key.len() > 200 || key.chars().any(char::is_control) {
            return Err(Error::invalid_text(
                "idempotency key",
                key,
                "must be 1..=200 bytes without control characters",
            ));
        }
        Self::from_stored(&format!("{KEY_PREFIX}{key}"))
    }

    /// The idempotency key, if the tag marks the first event of a decision made under one.
    pub(crate) fn idempotency_key(&self) -> Option<&str> {
        self.0.strip_prefix(KEY_PREFIX)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Hexadecimal digits of the hash in a tag that was made to fit.
const HASH_DIGITS: usize = 32;

/// Whether a text has the form of a tag that was made to fit.
fn is_hashed(text: &str) -> bool {
    text.rsplit_once('~').is_some_and(|(_, hash)| {
        hash.len() == HASH_DIGITS && hash.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    })
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({})", self.0)
    }
}

impl TryFrom<String> for Tag {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::from_stored(&text)
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_depend_on_key_stream_and_index() {
        let (a, b): (StreamId, StreamId) = ("a/1".parse().unwrap(), "a/2".parse().unwrap());
        let id = EventId::derived("k", &a, 0);
        assert_eq!(id, EventId::derived("k", &a, 0));
        assert_eq!(id.as_uuid().get_version_num(), 8);
        for other in
            [EventId::derived("l", &a, 0), EventId::derived("k", &b, 0), EventId::derived("k", &a, 1)]
        {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn a_text_that_is_a_tag_stays_and_any_other_is_hashed() {
        for text in ["email:ann@example.com", "a~b", &"x".repeat(255)] {
            assert_eq!(Tag::fitted(text).as_str(), text);
        }
        let long = format!("email:{}", "ä".repeat(200));
        // Golden: recorded events are found by these.
        assert_eq!(
            [long.as_str(), "note:a\nb", "", "tailfold.erased"].map(|text| Tag::fitted(text).to_string()),
            [
                "email:äääääääääääääääääääääääääääää~2f31b516a0867ad9bfc9cbdb431eab69",
                "note:a~4a0b40972ad24e940da79020b796fbaf",
                "~11a91d73f05306170f7bb6f0ef703333",
                "~5582185e1ec243ac586bb0dc9e89a992",
            ]
        );
        let hashed = Tag::fitted(&long);
        assert_eq!(Tag::new(hashed.as_str()).unwrap(), hashed);
        assert_ne!(Tag::fitted(hashed.as_str()), hashed, "no text passes for another");
        assert_ne!(Tag::fitted("note:a\nc"), Tag::fitted("note:a\nb"));
    }
}
