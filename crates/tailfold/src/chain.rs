//! The chain: 16 bytes per event that name one exact history. Byte layout: FORMAT.md.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::event::EventData;
use crate::stream::StreamId;

/// 16 bytes that depend on every byte of a stream's history up to one event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chain([u8; 16]);

/// 16 bytes of BLAKE3 over one event as stored; independent of its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

impl Chain {
    /// Where a stream's first life starts.
    pub fn genesis(stream: &StreamId) -> Self {
        Self::start(stream, &[])
    }

    /// Where a stream starts again after it was erased; `tombstone` is the chain of its tombstone event. What is left
    /// over from the previous life can therefore never match.
    pub fn genesis_after(stream: &StreamId, tombstone: Chain) -> Self {
        Self::start(stream, &tombstone.0)
    }

    fn start(stream: &StreamId, previous: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [stream.as_str().as_bytes(), previous] {
            hash.update((part.len() as u32).to_le_bytes());
            hash.update(part);
        }
        Self(first_16(hash))
    }

    /// The chain at the next event.
    #[must_use]
    pub fn link(self, digest: Digest) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(digest.0);
        Self(first_16(hash))
    }

    /// The raw bytes, for stores.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From stored bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

fn first_16(hash: Sha256) -> [u8; 16] {
    let full: [u8; 32] = hash.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(full.split_at(16).0);
    short
}

impl Digest {
    /// Digest of an event as stored: each field with its length, in a fixed order.
    pub fn of(event: &EventData) -> Self {
        // Small fields share one buffer, so that BLAKE3 is called twice and not ten times.
        let mut buffer = [0u8; 256];
        let mut at = 0;
        let mut hash = blake3::Hasher::new();
        let mut put = |bytes: &[u8], hash: &mut blake3::Hasher| match buffer.get_mut(at..at + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                at += bytes.len();
            }
            None => {
                hash.update(buffer.split_at(at).0);
                at = 0;
                hash.update(bytes);
            }
        };
        put(&16u32.to_le_bytes(), &mut hash);
        put(event.id.as_uuid().as_bytes(), &mut hash);
        let event_type = event.event_type.as_str().as_bytes();
        put(&(event_type.len() as u32).to_le_bytes(), &mut hash);
        put(event_type, &mut hash);
        put(&4u32.to_le_bytes(), &mut hash);
        put(&event.schema_version.0.to_le_bytes(), &mut hash);
        put(&8u32.to_le_bytes(), &mut hash);
        put(&event.recorded_at.as_micros().to_le_bytes(), &mut hash);
        put(&(event.metadata.len() as u32).to_le_bytes(), &mut hash);
        put(&event.metadata, &mut hash);
        put(&(event.payload.len() as u32).to_le_bytes(), &mut hash);
        hash.update(buffer.split_at(at).0);
        hash.update(&event.payload);
        let mut short = [0; 16];
        short.copy_from_slice(hash.finalize().as_bytes().split_at(16).0);
        Self(short)
    }

    /// The raw bytes, for stores that link on a server.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({self})")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

fn write_hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

impl FromStr for Chain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::invalid_text("chain", text, "must be 32 hexadecimal digits");
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        };
        let digits: &[u8; 32] = text.as_bytes().try_into().map_err(|_| wrong())?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let &[high, low] = pair else { return Err(wrong()) };
            let (high, low) = value(high).zip(value(low)).ok_or_else(wrong)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Chain {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Chain> for String {
    fn from(chain: Chain) -> Self {
        chain.to_string()
    }
}
