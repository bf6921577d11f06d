//! Folding matching events of many streams, in the order of their positions.

use super::anchor::Anchors;
use super::{Erased, Projection, Truncated};
use crate::altered::LogSample;
use crate::chain::Chain;
use crate::encryption::Encryption;
use crate::error::{Error, Result};
use crate::event::{Position, RecordedEvent};
use crate::loaded::Trail;
use crate::replay::decode;
use crate::report::{Malformed, Unreadable};
use crate::snapshot::{Envelope, Rejection};
use crate::store::Truncation;
use crate::stream::Head;

/// A fold under way.
pub(crate) struct LogReplay<P> {
    pub(crate) state: P,
    /// Anchor of what it began with.
    began_at: Option<Head>,
    /// The last event that matched since.
    last: Option<(Position, Chain)>,
    pub(crate) trail: Trail,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) skipped: Vec<Malformed>,
    /// Events whose key is gone on purpose.
    pub(crate) forgotten: u64,
    pub(crate) lenient: bool,
    /// Whether events may have been folded that were removed since: it began with a state that was there before.
    resumed: bool,
    /// The state was told of a removal: what was kept before would be told again, and may hold what was taken out.
    pub(crate) told: bool,
    /// Which events are checked against the one before in their stream.
    sample: LogSample,
}

/// What an event has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Folded,
    /// The state must be folded anew; why it is no longer any good.
    Outdated(Rejection),
}

impl<P: Projection> LogReplay<P> {
    pub(crate) fn from_start(forgotten_keys: u64) -> Self {
        Self::new(P::default(), None, Trail { forgotten_keys, ..Trail::empty() }, false)
    }

    pub(crate) fn from_snapshot(state: P, envelope: Envelope) -> Self {
        let head = envelope.head;
        Self::new(state, Some(head), Trail::of_snapshot(envelope), true)
    }

    pub(crate) fn from_memory(state: P, head: Head, trail: Trail) -> Self {
        Self::new(state, Some(head), trail, true)
    }

    fn new(state: P, head: Option<Head>, trail: Trail, resumed: bool) -> Self {
        Self {
            state,
            began_at: head,
            last: None,
            trail,
            events: 0,
            bytes: 0,
            skipped: Vec::new(),
            forgotten: 0,
            lenient: false,
            resumed,
            told: false,
            sample: LogSample::of_a_load(),
        }
    }

    /// Anchor of the last event that matched.
    pub(crate) fn head(&self, anchors: &Anchors) -> Option<Head> {
        // Made when it is asked for: it costs as much as folding an event.
        self.last.map(|(position, chain)| anchors.at_place(position, chain)).or(self.began_at)
    }

    /// Position of the last event that matched.
    pub(crate) fn position(&self) -> Position {
        let began_at = || self.began_at.map_or(Position::ZERO, |head| Position(head.version.0));
        self.last.map_or_else(began_at, |(position, _)| position)
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// From here on events may be removed that were folded: the state is told of each removal.
    pub(crate) fn resume(&mut self) {
        self.resumed = true;
    }

    /// Folds the next event.
    ///
    /// # Errors
    /// `Corrupt` if it is not the next or was altered, `Codec` if it cannot be decoded, `Unavailable` if its
    /// key cannot be had.
    pub(crate) fn apply(
        &mut self,
        event: &RecordedEvent,
        encryption: Option<&dyn Encryption>,
    ) -> Result<Applied> {
        if self.position() >= event.position {
            return Err(Error::corrupt(format!(
                "a read of the log gave position {} after {}",
                event.position,
                self.position()
            )));
        }
        self.sample.check(event)?;
        if event.data.event_type.tells_of_removal() {
            // A read to the end sees what was recorded before it began. What was removed before that, it never saw.
            if self.resumed {
                if let Some(outdated) = self.tell(event)? {
                    return Ok(Applied::Outdated(outdated));
                }
                self.told = true;
            }
        } else {
            match decode::<P::Event>(event, encryption)? {
                Ok(typed) => {
                    self.state.apply(typed, &event.meta());
                    self.trail.note(&event.data, crate::stream::Version(event.position.0));
                    self.events += 1;
                    self.bytes += event.data.payload.len() as u64;
                }
                // Not there for anybody: the state is as exact without it.
                Err(Unreadable::Forgotten) => self.forgotten += 1,
                Err(Unreadable::Malformed(malformed)) if self.lenient => {
                    self.trail.exact = false;
                    self.skipped.push(malformed);
                }
                Err(Unreadable::Malformed(malformed)) => {
                    return Err(Error::codec(format!("stream `{}`: {malformed}", event.stream)));
                }
            }
        }
        self.last = Some((event.position, event.chain));
        Ok(Applied::Folded)
    }

    /// Tells the state of a removal. Answers why it must be folded anew, if it must.
    fn tell(&mut self, event: &RecordedEvent) -> Result<Option<Rejection>> {
        if event.data.event_type.is_tombstone() {
            return Ok(match self.state.erased(&event.stream) {
                Erased::Rebuild => Some(Rejection::Erased),
                Erased::Forgotten => None,
            });
        }
        let origin = Truncation::from_event(event)?.origin();
        Ok(match self.state.truncated(&event.stream, origin.version) {
            Truncated::Rebuild => Some(Rejection::Truncated),
            Truncated::Keep => None,
        })
    }
}
