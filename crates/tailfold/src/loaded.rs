//! What a load returns.

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::event::{EventData, EventType, SchemaVersion};
use crate::report::Report;
use crate::snapshot::Envelope;
use crate::stream::{Head, StreamId, Version};

/// A state, where in its stream it stands, and how it was loaded.
///
/// Cloning is cheap and shares the state; no later change ever reaches a clone.
pub struct Loaded<F> {
    pub(crate) stream: StreamId,
    pub(crate) state: Arc<F>,
    pub(crate) head: Option<Head>,
    pub(crate) report: Report,
    pub(crate) trail: Trail,
}

impl<F> Loaded<F> {
    /// The state.
    pub fn state(&self) -> &F {
        &self.state
    }

    /// The state, shared.
    pub fn shared_state(&self) -> Arc<F> {
        self.state.clone()
    }

    /// The stream it was folded from.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Where it stands: what an append expects, what a snapshot is anchored at. `None` if the stream is empty.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Version of the last event folded, 0 if the stream is empty.
    pub fn version(&self) -> Version {
        self.head.map_or(Version::ZERO, |head| head.version)
    }

    /// How the load was served.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

impl<F> Clone for Loaded<F> {
    fn clone(&self) -> Self {
        Self {
            stream: self.stream.clone(),
            state: self.state.clone(),
            head: self.head,
            report: self.report.clone(),
            trail: self.trail.clone(),
        }
    }
}

impl<F: fmt::Debug> fmt::Debug for Loaded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("stream", &self.stream)
            .field("head", &self.head)
            .field("state", &self.state)
            .field("report", &self.report)
            .finish()
    }
}

/// What a state's snapshot and the policy need to know of the events that were folded into it.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    pub(crate) kinds: Kinds,
    pub(crate) latest_recorded_at: Timestamp,
    /// Version of the snapshot that the state began with, or that was last taken of it; the policy counts from it.
    pub(crate) since: Version,
    /// Events folded since then.
    pub(crate) events: u64,
    /// Their bytes of payload.
    pub(crate) bytes: u64,
    /// Whether every event was folded: a state with gaps is never kept.
    pub(crate) exact: bool,
    /// How many keys were forgotten before the first event was folded: a state that may have folded events of
    /// a key that was forgotten since is never kept.
    pub(crate) forgotten_keys: u64,
}

impl Trail {
    /// Of a state that a snapshot holds.
    pub(crate) fn of_snapshot(envelope: Envelope) -> Self {
        Self {
            kinds: Kinds::of_snapshot(envelope.folded),
            latest_recorded_at: envelope.latest_recorded_at,
            since: envelope.head.version,
            forgotten_keys: envelope.forgotten_keys,
            ..Self::empty()
        }
    }

    pub(crate) fn empty() -> Self {
        Self {
            kinds: Kinds::default(),
            latest_recorded_at: Timestamp::MIN,
            since: Version::ZERO,
            events: 0,
            bytes: 0,
            exact: true,
            forgotten_keys: 0,
        }
    }

    /// After a snapshot was taken at that version: the policy counts from there.
    pub(crate) fn taken_at(&mut self, version: Version) {
        (self.since, self.events, self.bytes) = (version, 0, 0);
    }

    pub(crate) fn note(&mut self, data: &EventData, version: Version) {
        self.kinds.note(data, version);
        self.latest_recorded_at = self.latest_recorded_at.max(data.recorded_at);
        self.events += 1;
        self.bytes += data.payload.len() as u64;
    }
}

/// The kinds of events folded, each with the version at which it was last seen. A handful, so a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds(Vec<(EventType, SchemaVersion, Version)>);

impl Kinds {
    pub(crate) fn of_snapshot(folded: Vec<(EventType, SchemaVersion)>) -> Self {
        Self(folded.into_iter().map(|(event_type, schema)| (event_type, schema, Version::ZERO)).collect())
    }

    fn note(&mut self, data: &EventData, version: Version) {
        let known = self
            .0
            .iter_mut()
            .find(|(event_type, schema, _)| *schema == data.schema_version && *event_type == data.event_type);
        match known {
            Some((_, _, last)) => *last = version,
            None => self.0.push((data.event_type.clone(), data.schema_version, version)),
        }
    }

    pub(crate) fn all(&self) -> Vec<(EventType, SchemaVersion)> {
        self.0.iter().map(|(event_type, schema, _)| (event_type.clone(), *schema)).collect()
    }

    pub(crate) fn after(&self, version: Version) -> Vec<EventType> {
        self.0
            .iter()
            .filter(|(.., last)| *last > version)
            .map(|(event_type, ..)| event_type.clone())
            .collect()
    }
}
