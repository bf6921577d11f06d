//! Names and places of events.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
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
        text.parse().map(Self).map_err(|error| Error::invalid(format!("event id {text:?}")).caused_by(error))
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

    /// Checks and takes a name.
    ///
    /// # Errors
    /// `Invalid` if the name breaks the rules above.
    pub fn new(name: &str) -> Result<Self> {
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b':');
        if name.is_empty() || name.len() > 128 || !name.bytes().all(good) {
            return Err(Error::invalid(format!(
                "event type {name:?}: must be 1..=128 ASCII letters, digits, `_`, `-`, `.` or `:`"
            )));
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

impl Tag {
    /// Checks and takes a tag.
    ///
    /// # Errors
    /// `Invalid` if the text breaks the rules above or starts with `tailfold.`.
    pub fn new(text: &str) -> Result<Self> {
        if text.starts_with("tailfold.") {
            return Err(Error::invalid(format!(
                "tag {text:?}: names that start with `tailfold.` are reserved"
            )));
        }
        Self::from_stored(text)
    }

    /// As [`Tag::new`], for stores and imports that carry the library's own tags along.
    ///
    /// # Errors
    /// `Invalid` if the text breaks the rules on length and characters.
    pub fn from_stored(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "tag {text:?}: must be 1..=255 bytes without control characters"
            )));
        }
        Ok(Self(text.into()))
    }

    /// The tag that marks the first event of a decision made under an idempotency key.
    pub(crate) fn idempotency(key: &str) -> Result<Self> {
        if key.is_empty() || key.len() > 200 || key.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "idempotency key {key:?}: must be 1..=200 bytes without control characters"
            )));
        }
        Self::from_stored(&format!("tailfold.key:{key}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
}
