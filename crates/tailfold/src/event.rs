//! Events as stores see them: bytes with names. Typed events are in `schema.rs`.

mod names;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::names::{EventId, EventType, Position, SchemaVersion, Tag};
use crate::chain::{Chain, Digest};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::stream::{Head, StreamId, Version};

/// What is known of an event besides the fact itself. Stored as JSON, part of the digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Names the conversation that the event belongs to, across streams and services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Names what caused the event: a command's or another event's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// The user's own keys.
    #[serde(flatten)]
    pub user: BTreeMap<String, String>,
}

impl Metadata {
    /// As stored: JSON, or no bytes at all where there is nothing to say.
    ///
    /// # Errors
    /// `Invalid` if a user key takes the name of a field.
    pub fn to_bytes(&self) -> Result<Bytes> {
        if *self == Self::default() {
            return Ok(Bytes::new());
        }
        for reserved in ["correlation_id", "causation_id"] {
            if self.user.contains_key(reserved) {
                return Err(Error::invalid(format!("metadata key `{reserved}` is a field of its own")));
            }
        }
        let bytes =
            serde_json::to_vec(self).map_err(|error| Error::codec("encode metadata").caused_by(error))?;
        Ok(bytes.into())
    }

    /// From stored bytes.
    ///
    /// # Errors
    /// `Codec` if the bytes are no metadata.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map_err(|error| Error::codec("decode metadata").caused_by(error))
    }
}

/// An event as stored, without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventData {
    /// Identity.
    pub id: EventId,
    /// Kind of fact.
    pub event_type: EventType,
    /// Version of the payload's layout.
    pub schema_version: SchemaVersion,
    /// When the fact was recorded, by the writer's clock; not necessarily increasing.
    pub recorded_at: Timestamp,
    /// Encoded [`Metadata`]; empty if there is none.
    pub metadata: Bytes,
    /// The encoded fact.
    pub payload: Bytes,
    /// Labels to find it by; outside the digest.
    pub tags: Vec<Tag>,
    /// Whether a fold may start here from empty; outside the digest.
    pub origin: bool,
}

impl EventData {
    /// Largest payload, in bytes: 16 MiB. A store may allow less and says so with `Invalid`.
    pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;
    /// Largest encoded metadata, in bytes.
    pub const MAX_METADATA_BYTES: usize = 64 * 1024;
    /// Most tags on one event.
    pub const MAX_TAGS: usize = 32;

    /// A fact of the given type with a fresh id, version 1, recorded now by the system's clock; set what differs.
    pub fn new(event_type: EventType, payload: impl Into<Bytes>) -> Self {
        Self {
            id: EventId::fresh(),
            event_type,
            schema_version: SchemaVersion(1),
            recorded_at: std::time::SystemTime::now().into(),
            metadata: Bytes::new(),
            payload: payload.into(),
            tags: Vec::new(),
            origin: false,
        }
    }
}

/// An event that is ready to be appended: its digest is computed, so that a store's writer does not have to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    data: EventData,
    digest: Digest,
}

impl NewEvent {
    /// Checks sizes and computes the digest, on the caller's thread.
    ///
    /// # Errors
    /// `Invalid` if payload, metadata or tags exceed the limits of [`EventData`], or the type is that of a tombstone or of a
    /// truncation's marker.
    pub fn new(data: EventData) -> Result<Self> {
        let too_large = |what: &str, size: usize, limit: usize| {
            Error::invalid(format!(
                "event `{}`: {what} of {size} exceeds the limit of {limit}",
                data.event_type
            ))
        };
        if data.payload.len() > EventData::MAX_PAYLOAD_BYTES {
            return Err(too_large("payload bytes", data.payload.len(), EventData::MAX_PAYLOAD_BYTES));
        }
        if data.metadata.len() > EventData::MAX_METADATA_BYTES {
            return Err(too_large("metadata bytes", data.metadata.len(), EventData::MAX_METADATA_BYTES));
        }
        if data.tags.len() > EventData::MAX_TAGS {
            return Err(too_large("tag count", data.tags.len(), EventData::MAX_TAGS));
        }
        if data.event_type.tells_of_removal() {
            return Err(Error::invalid(format!(
                "event type `{}` is written by erasing and truncating only",
                data.event_type
            )));
        }
        let digest = Digest::of(&data);
        Ok(Self { data, digest })
    }

    /// The event.
    pub fn data(&self) -> &EventData {
        &self.data
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Gives the event back.
    pub fn into_data(self) -> EventData {
        self.data
    }
}

/// An event with its place, as stores give it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Place in the store.
    pub position: Position,
    /// The history it belongs to.
    pub stream: StreamId,
    /// Place in that history.
    pub version: Version,
    /// Names that history up to and with this event.
    pub chain: Chain,
    /// The event itself.
    pub data: EventData,
}

impl RecordedEvent {
    /// Version and chain: the stream's head if this is its last event.
    pub fn head(&self) -> Head {
        Head { version: self.version, chain: self.chain }
    }

    /// What a fold may know of the event.
    pub fn meta(&self) -> EventMeta<'_> {
        EventMeta { stream: &self.stream, version: self.version, data: &self.data }
    }
}

/// What a fold may know of an event besides the fact: chained facts only, so never its position.
#[derive(Clone, Copy, Debug)]
pub struct EventMeta<'a> {
    stream: &'a StreamId,
    version: Version,
    data: &'a EventData,
}

impl<'a> EventMeta<'a> {
    pub(crate) fn new(stream: &'a StreamId, version: Version, data: &'a EventData) -> Self {
        Self { stream, version, data }
    }

    /// The history that the event belongs to.
    pub fn stream(&self) -> &'a StreamId {
        self.stream
    }

    /// Place in that history.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Identity of the event.
    pub fn id(&self) -> EventId {
        self.data.id
    }

    /// Stable name of the kind of event, as stored.
    pub fn event_type(&self) -> &'a EventType {
        &self.data.event_type
    }

    /// Version of the stored payload, before upcasting.
    pub fn schema_version(&self) -> SchemaVersion {
        self.data.schema_version
    }

    /// When the fact was recorded, by the writer's clock.
    pub fn recorded_at(&self) -> Timestamp {
        self.data.recorded_at
    }

    /// Decodes the metadata.
    ///
    /// # Errors
    /// `Codec` if the stored bytes are no metadata.
    pub fn metadata(&self) -> Result<Metadata> {
        Metadata::from_bytes(&self.data.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_metadata_takes_no_bytes_and_reserved_keys_are_refused() {
        assert!(Metadata::default().to_bytes().unwrap().is_empty());
        let mut metadata = Metadata { correlation_id: Some("c".into()), ..Metadata::default() };
        metadata.user.insert("user".into(), "u".into());
        assert_eq!(Metadata::from_bytes(&metadata.to_bytes().unwrap()).unwrap(), metadata);
        metadata.user.insert("causation_id".into(), "x".into());
        assert!(metadata.to_bytes().is_err());
    }

    #[test]
    fn the_library_keeps_its_own_names() {
        assert!(Tag::new("tailfold.key:1").is_err());
        for reserved in [EventType::TOMBSTONE, EventType::TRUNCATED] {
            let data = EventData::new(EventType::new(reserved).unwrap(), "");
            assert!(NewEvent::new(data).is_err());
        }
    }

    #[test]
    fn an_oversize_payload_is_refused_before_any_store_sees_it() {
        let payload = vec![0; EventData::MAX_PAYLOAD_BYTES + 1];
        let error = NewEvent::new(EventData::new(EventType::new("x").unwrap(), payload)).unwrap_err();
        assert_eq!(error.to_string(), "event `x`: payload bytes of 16777217 exceeds the limit of 16777216");
    }
}
