//! State <-> envelope, for one fold: everything that is known before a store is involved.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use super::compression::Compression;
use super::config::SnapshotConfig;
use super::envelope::{Draft, Envelope};
use super::keys::SnapshotKeys;
use super::rejection::Rejection;
use super::serial::{Serial, Slot};
use super::store::StoredSnapshot;
use crate::clock::Clock;
use crate::codec::Codec;
use crate::encryption::{Encryption, StateOf};
use crate::error::{Error, Result};
use crate::fold::Fold;
use crate::loaded::Trail;
use crate::panics::caught;
use crate::schema::{EventSource, Events};
use crate::stats::Outcome;
use crate::stream::{Head, StreamId};

/// Seals states of one fold into envelopes, and opens and checks envelopes.
#[derive(Debug)]
pub(crate) struct Sealer<F> {
    fold: Arc<str>,
    serial: Serial,
    sources: Vec<EventSource>,
    codec: Codec,
    compression: Compression,
    compress_from_bytes: u64,
    max_bytes: u64,
    encryption: Option<Arc<dyn Encryption>>,
    keys: Option<SnapshotKeys>,
    clock: Arc<dyn Clock>,
    state: PhantomData<fn() -> F>,
}

impl<F: Fold> Sealer<F> {
    pub(crate) fn new(
        config: &SnapshotConfig,
        codec: Codec,
        encryption: Option<Arc<dyn Encryption>>,
        keys: Option<SnapshotKeys>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let serial = Serial::of_fold::<F>(&codec)?;
        // Also checks the fold's name.
        if Slot::new(F::NAME, serial.clone(), "-")?.is_lasting() {
            let problem = "is the name of what is kept of subscriptions, and never swept: take another";
            return Err(Error::invalid_text("fold name", F::NAME, problem));
        }
        Ok(Self {
            fold: F::NAME.into(),
            serial,
            sources: F::Event::sources(),
            codec,
            compression: config.compression,
            compress_from_bytes: config.compress_from_bytes,
            max_bytes: config.max_bytes,
            encryption,
            keys,
            clock,
            state: PhantomData,
        })
    }

    pub(crate) fn slot(&self, stream: &StreamId) -> Slot {
        self.slot_of(stream.as_str())
    }

    /// The slot of a key, which the caller has checked.
    pub(crate) fn slot_of(&self, key: &str) -> Slot {
        Slot::of_checked(&self.fold, &self.serial, key)
    }

    pub(crate) fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The keys of checksums, if there are any.
    pub(crate) fn keys(&self) -> Option<&SnapshotKeys> {
        self.keys.as_ref()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Seals a state that stands at `head`, if it survives its codec. A panic in the user's code refuses it, too: nothing
    /// about a snapshot may end a command.
    pub(crate) fn seal(&self, slot: &Slot, state: &F, head: Head, trail: &Trail) -> Result<Bytes, Refused> {
        self.check_forgotten(slot, trail)?;
        let encoded = self.encode(state)?;
        let small = (encoded.len() as u64) < self.compress_from_bytes;
        let compression = if small || self.codec.compresses() { Compression::None } else { self.compression };
        let draft = Draft {
            slot,
            head,
            latest_recorded_at: trail.latest_recorded_at,
            folded: trail.kinds.all(),
            codec: self.codec.id(),
            created_at: self.clock.now(),
            forgotten_keys: trail.forgotten_keys,
            keys: self.keys.as_ref(),
        };
        let sealed = guarded(|| draft.seal(&encoded, compression, self.encryption.as_deref()));
        sealed.map_err(|error| Refused { outcome: Outcome::Unencodable, error })
    }

    /// Refuses a fold whose default state its codec cannot keep: it could keep no other. (That one is too large for `max_bytes`
    /// says nothing about the codec.)
    pub(crate) fn check_default(&self) -> Result<()> {
        match self.encode(&F::default()) {
            Err(Refused { outcome: Outcome::Unencodable | Outcome::Unfaithful, error }) => {
                Err(Error::invalid(format!(
                    "the default state cannot be kept as a snapshot in codec `{}`: give the state another codec, as in \
                     `#[state(codec = message_pack)]`, or its fields other types",
                    self.codec.id()
                ))
                .caused_by(error))
            }
            _ => Ok(()),
        }
    }

    /// Encodes a state, decodes it again and compares both: a codec that loses something (a NaN in JSON, `Some(None)` in
    /// MessagePack), or a `Serialize` that does, is found here, before a load finds it. What comes after the codec has a
    /// checksum. Values are compared and not encodings, which would have lost the same on both sides.
    fn encode(&self, state: &F) -> Result<Vec<u8>, Refused> {
        let bytes = guarded(|| self.codec.encode(state))
            .map_err(|error| Refused { outcome: Outcome::Unencodable, error })?;
        if bytes.len() as u64 > self.max_bytes {
            let error = Error::invalid(format!(
                "the encoded state of {} bytes exceeds the limit of {} (`max_bytes`)",
                bytes.len(),
                self.max_bytes
            ));
            return Err(Refused { outcome: Outcome::TooLarge, error });
        }
        let unfaithful = |error| Refused { outcome: Outcome::Unfaithful, error };
        let compared = guarded(|| Ok(state.compare(&self.codec.decode(&bytes)?)));
        match compared {
            Ok(Ok(())) => Ok(bytes),
            Ok(Err(difference)) => Err(unfaithful(Error::codec(format!(
                "the state does not survive its codec `{}`: `{difference}` would be read back as another value",
                self.codec.id()
            )))),
            Err(error) => Err(unfaithful(
                Error::codec(format!("the state does not survive its codec `{}`", self.codec.id()))
                    .caused_by(error),
            )),
        }
    }

    /// A state that waited while a key was forgotten may hold what was sealed with it, and this seal is made
    /// with another key.
    fn check_forgotten(&self, slot: &Slot, trail: &Trail) -> Result<(), Refused> {
        let Some((hook, state)) = self.encryption.as_deref().zip(StateOf::in_slot(slot)) else {
            return Ok(());
        };
        match guarded(|| hook.forgotten_keys(&state)) {
            Ok(keys) if keys == trail.forgotten_keys => Ok(()),
            Ok(_) => {
                let error = Error::invalid("a key was forgotten since the state was loaded: load it again");
                Err(Refused { outcome: Outcome::Forgotten, error })
            }
            Err(error) => Err(Refused { outcome: Outcome::Failed, error }),
        }
    }

    /// Everything that can be checked before decoding, but the key of the checksum: what is of no use to
    /// anybody makes room whoever has written it. `forgotten_keys`: as many as there were before the load
    /// began to read.
    pub(crate) fn check(
        &self,
        slot: &Slot,
        stored: &StoredSnapshot,
        forgotten_keys: u64,
    ) -> Result<Envelope, Rejection> {
        // Nothing in an envelope is that large besides the payload.
        if stored.bytes.len() as u64 > self.max_bytes.saturating_add(1 << 20) {
            return Err(Rejection::TooLarge);
        }
        let envelope = Envelope::parse(&stored.bytes)?;
        if envelope.slot != *slot {
            return Err(Rejection::Foreign);
        }
        if envelope.head != stored.head {
            return Err(Rejection::Corrupt);
        }
        if envelope.forgotten_keys < forgotten_keys {
            return Err(Rejection::Forgotten);
        }
        if envelope.forgotten_keys > forgotten_keys {
            // What its writer knew of, this process would still fold.
            return Err(Rejection::Sealed);
        }
        if self.codec_of(&envelope).is_none() {
            return Err(Rejection::UnknownCodec);
        }
        let handled = |(event_type, version): &(crate::event::EventType, _)| {
            self.sources.iter().any(|source| source.handles(event_type.as_str(), *version))
        };
        if !envelope.folded.iter().all(handled) {
            return Err(Rejection::Unhandled);
        }
        Ok(envelope)
    }

    /// Decodes the state of a checked envelope, if the key of its checksum is this repository's. A hook that panics has not
    /// opened it.
    pub(crate) fn open(&self, envelope: &Envelope) -> Result<F, Rejection> {
        envelope.check_key(self.keys())?;
        let payload = guarded(|| Ok(envelope.payload(self.max_bytes, self.encryption.as_deref())));
        let encoded = payload.unwrap_or(Err(Rejection::Sealed))?;
        let codec = self.codec_of(envelope).ok_or(Rejection::UnknownCodec)?;
        guarded(|| codec.decode(&encoded)).map_err(|_| Rejection::Undecodable)
    }

    fn codec_of(&self, envelope: &Envelope) -> Option<Codec> {
        if self.codec.id() == envelope.codec {
            return Some(self.codec.clone());
        }
        let default = Codec::process_default();
        if default.id() == envelope.codec {
            return Some(default);
        }
        Codec::built_in(&envelope.codec)
    }
}

/// Why a state does not become a snapshot.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) outcome: Outcome,
    pub(crate) error: Error,
}

impl Refused {
    /// Says so, and answers what to count.
    pub(crate) fn dropped(self, slot: &Slot, head: Head) -> Outcome {
        tracing::warn!(%slot, version = %head.version, error = %self.error, "snapshot dropped");
        self.outcome
    }
}

/// Runs code of the user's (`Serialize`, `Deserialize`, `PartialEq`, a codec, an encryption hook); a panic is an error.
fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    // Nothing of ours is left half changed: a state is only read, and what was made of it is dropped.
    caught(run).unwrap_or_else(|panicked| Err(Error::codec("encode or check a snapshot").caused_by(panicked)))
}
