//! Folding events, one by one, with everything that must hold on the way.

use std::sync::Arc;

use bytes::Bytes;

use crate::altered::Sample;
use crate::clock::Timestamp;
use crate::encryption::{Binding, Encryption, Opened};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventId, RecordedEvent};
use crate::fold::Aggregate;
use crate::loaded::Trail;
use crate::report::{Malformed, Unreadable};
use crate::schema::{DecodeError, Events};
use crate::snapshot::Envelope;
use crate::stream::{Head, StreamId, Version};

/// A fold under way.
pub(crate) struct Replay<F> {
    pub(crate) state: F,
    pub(crate) head: Option<Head>,
    pub(crate) trail: Trail,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) skipped: Vec<Malformed>,
    /// Events whose key is gone on purpose.
    pub(crate) forgotten: u64,
    /// Whether to leave out what cannot be decoded, instead of failing.
    pub(crate) lenient: bool,
    /// Whether the first event may be any.
    anywhere: bool,
    /// Which events are checked against the one before.
    pub(crate) sample: Sample,
    /// When the snapshot that it began with was taken.
    pub(crate) taken_at: Option<Timestamp>,
}

impl<F: Aggregate> Replay<F> {
    /// From nothing: the first event must be the first of its stream, or an origin.
    pub(crate) fn from_start(forgotten_keys: u64) -> Self {
        Self::new(F::default(), None, Trail { forgotten_keys, ..Trail::empty() })
    }

    /// From a snapshot whose anchor was checked.
    pub(crate) fn from_snapshot(state: F, envelope: Envelope) -> Self {
        let (head, taken_at) = (envelope.head, envelope.created_at);
        Self { taken_at: Some(taken_at), ..Self::new(state, Some(head), Trail::of_snapshot(envelope)) }
    }

    /// Begins in the middle of a stream, with its event at `from`; no state of the whole results from that.
    pub(crate) fn begin_at(&mut self, event: &RecordedEvent, from: Version) -> Result<()> {
        if event.version != from {
            return Err(crate::load::truncated(from, event.version));
        }
        self.anywhere = true;
        Ok(())
    }

    fn new(state: F, head: Option<Head>, trail: Trail) -> Self {
        Self {
            state,
            head,
            trail,
            events: 0,
            bytes: 0,
            skipped: Vec::new(),
            forgotten: 0,
            lenient: false,
            taken_at: None,
            anywhere: false,
            sample: Sample::of_a_load(),
        }
    }

    /// Folds the next event.
    ///
    /// # Errors
    /// `Corrupt` at a gap or an event that was altered, `Codec` at an event that cannot be decoded,
    /// `Unavailable` if its key cannot be had.
    pub(crate) fn apply(&mut self, event: &RecordedEvent, encryption: Option<&dyn Encryption>) -> Result<()> {
        self.expect_next(event)?;
        if let Some(before) = self.head {
            self.sample.check(before, event)?;
        }
        match decode::<F::Event>(event, encryption)? {
            Ok(typed) => {
                self.state.apply(typed, &event.meta());
                self.trail.note(&event.data, event.version);
                self.events += 1;
                self.bytes += event.data.payload.len() as u64;
            }
            // Not there for anybody: the state is as exact without it.
            Err(Unreadable::Forgotten) => self.forgotten += 1,
            Err(Unreadable::Malformed(malformed)) if self.lenient => {
                self.trail.exact = false;
                self.skipped.push(malformed);
            }
            Err(Unreadable::Malformed(malformed)) => return Err(Error::codec(malformed.to_string())),
        }
        self.head = Some(event.head());
        Ok(())
    }

    fn expect_next(&mut self, event: &RecordedEvent) -> Result<()> {
        let expected = match self.head {
            Some(head) => head.version.next(),
            None if self.anywhere || event.data.origin => {
                // Truncated before its origin: the policy counts from here.
                self.trail.since = Version(event.version.0.saturating_sub(1));
                return Ok(());
            }
            None => Version::FIRST,
        };
        if event.version != expected {
            return Err(Error::corrupt(format!(
                "stream `{}` has a gap: expected version {expected}, found {} (position {})",
                event.stream, event.version, event.position
            )));
        }
        Ok(())
    }
}

/// Reads a stored event as a typed one.
///
/// # Errors
/// `Unavailable` if its key cannot be had at the moment, which says nothing about the event.
pub(crate) fn decode<E: Events>(
    event: &RecordedEvent,
    encryption: Option<&dyn Encryption>,
) -> Result<Result<E, Unreadable>> {
    let data = &event.data;
    let read = |payload: &[u8]| {
        E::decode_from(event.stream.category(), data.event_type.as_str(), data.schema_version, payload)
    };
    let typed = match encryption {
        None => read(&data.payload),
        Some(hook) => match hook.open(&data.payload, &Binding::event(&event.stream, data.id)) {
            Ok(Opened::Plain(plain)) => read(&plain),
            Ok(Opened::Forgotten) => return Ok(Err(Unreadable::Forgotten)),
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) => {
                let operation = format!("open the event of `{}` at version {}", event.stream, event.version);
                return Err(error.during(operation));
            }
            Err(error) => Err(DecodeError::from(error)),
        },
    };
    Ok(typed.map_err(|error| {
        Unreadable::Malformed(Malformed {
            version: event.version,
            position: event.position,
            event_type: data.event_type.clone(),
            reason: match error {
                DecodeError::UnknownVersion => format!("{error} {}", data.schema_version),
                error => error.to_string(),
            },
        })
    }))
}

/// Seals an event's payload, if there is a hook.
pub(crate) fn seal(
    stream: &StreamId,
    id: EventId,
    plain: Vec<u8>,
    encryption: Option<&Arc<dyn Encryption>>,
) -> Result<Bytes> {
    match encryption {
        None => Ok(plain.into()),
        Some(hook) => hook.seal(&plain, &Binding::event(stream, id)).map(Bytes::from),
    }
}
