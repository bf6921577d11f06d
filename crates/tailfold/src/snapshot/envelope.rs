//! What a snapshot store keeps: the encoded state with all that is needed to check it. Byte layout: FORMAT.md.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::compression::Compression;
use super::rejection::Rejection;
use super::serial::{Serial, Slot};
use crate::chain::Chain;
use crate::clock::Timestamp;
use crate::encryption::Encryption;
use crate::error::{Error, Result};
use crate::event::{EventType, SchemaVersion};
use crate::stream::{Head, Version};

const MAGIC: &[u8; 4] = b"TFSN";
const FORMAT: u16 = 1;
const PREFIX: usize = 10;
const CHECKSUM: usize = 16;

/// A snapshot's envelope, parsed and checked; the payload stays as stored until it is [opened](Envelope::payload).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Envelope {
    /// Where the snapshot belongs.
    pub slot: Slot,
    /// The head it is anchored at.
    pub head: Head,
    /// Latest recorded-at among the events folded.
    pub latest_recorded_at: Timestamp,
    /// Every kind of event folded into the state, ordered.
    pub folded: Vec<(EventType, SchemaVersion)>,
    /// Id of the codec of the payload.
    pub codec: String,
    /// How the payload is compressed.
    pub compression: Compression,
    /// Id of the encryption scheme; `None` if the payload is not sealed.
    pub encryption: Option<String>,
    /// Size of the encoded state.
    pub raw_bytes: u64,
    /// When the snapshot was taken, by the taker's clock.
    pub created_at: Timestamp,
    /// Release of the library that wrote it.
    pub library: String,
    stored: Bytes,
}

/// What is known of a snapshot before it is sealed into an envelope.
pub(crate) struct Draft<'a> {
    pub(crate) slot: &'a Slot,
    pub(crate) head: Head,
    pub(crate) latest_recorded_at: Timestamp,
    pub(crate) folded: Vec<(EventType, SchemaVersion)>,
    pub(crate) codec: &'a str,
    pub(crate) created_at: Timestamp,
}

impl Draft<'_> {
    /// Compresses, encrypts and seals an encoded state.
    pub(crate) fn seal(
        mut self,
        encoded: &[u8],
        compression: Compression,
        encryption: Option<&dyn Encryption>,
    ) -> Result<Bytes> {
        let compressed = compression.compress(encoded);
        let compression = if compressed.is_some() { compression } else { Compression::None };
        let packed = compressed.as_deref().unwrap_or(encoded);
        let sealed = encryption.map(|hook| hook.seal(packed, &context(self.slot, self.head))).transpose()?;
        let stored = sealed.as_deref().unwrap_or(packed);
        self.folded.sort();
        self.folded.dedup();

        let mut out = BytesMut::with_capacity(stored.len() + 512);
        out.put_slice(MAGIC);
        out.put_u16_le(FORMAT);
        out.put_u32_le(0);
        put_text(&mut out, self.slot.fold())?;
        put_text(&mut out, self.slot.serial().as_str())?;
        put_text(&mut out, self.slot.key())?;
        out.put_u64_le(self.head.version.0);
        out.put_slice(self.head.chain.as_bytes());
        out.put_i64_le(self.latest_recorded_at.as_micros());
        let folded = u16::try_from(self.folded.len())
            .map_err(|_| Error::invalid("a fold handles at most 65,535 kinds of events"))?;
        out.put_u16_le(folded);
        for (event_type, version) in &self.folded {
            put_text(&mut out, event_type.as_str())?;
            out.put_u32_le(version.0);
        }
        put_text(&mut out, self.codec)?;
        out.put_u8(compression.code());
        put_text(&mut out, encryption.map_or("", |hook| hook.id()))?;
        out.put_u64_le(encoded.len() as u64);
        out.put_u64_le(stored.len() as u64);
        out.put_i64_le(self.created_at.as_micros());
        put_text(&mut out, env!("CARGO_PKG_VERSION"))?;
        let header = (out.len() - PREFIX) as u32;
        if let Some(length) = out.get_mut(6..PREFIX) {
            length.copy_from_slice(&header.to_le_bytes());
        }
        out.put_slice(stored);
        let sum = checksum(&out);
        out.put_slice(&sum);
        Ok(out.freeze())
    }
}

impl Envelope {
    /// Parses and checks an envelope: magic, format, checksum, and that the parts fill it exactly. Allocates no more than
    /// the envelope's own size.
    ///
    /// # Errors
    /// [`Rejection::Corrupt`] or [`Rejection::NewerFormat`].
    pub fn parse(bytes: &Bytes) -> Result<Self, Rejection> {
        let body_len =
            bytes.len().checked_sub(CHECKSUM).filter(|len| *len >= PREFIX).ok_or(Rejection::Corrupt)?;
        let (body, sum) = bytes.split_at(body_len);
        let mut prefix = Reader(body);
        if prefix.take(4)? != MAGIC {
            return Err(Rejection::Corrupt);
        }
        let format = prefix.u16()?;
        if checksum(body) != sum {
            return Err(Rejection::Corrupt);
        }
        // After the checksum: a flipped bit is corruption, not a newer release.
        if format != FORMAT {
            return Err(Rejection::NewerFormat);
        }
        let header_len = prefix.u32()? as usize;
        let mut header = Reader(prefix.take(header_len)?);
        let (fold, serial, key) = (header.text()?, header.text()?, header.text()?);
        let serial: Serial = serial.parse().map_err(|_| Rejection::Corrupt)?;
        let slot = Slot::new(fold, serial, key).map_err(|_| Rejection::Corrupt)?;
        let version = Version(header.u64()?);
        let head = Head { version, chain: Chain::from_bytes(header.array()?) };
        let latest_recorded_at = Timestamp::from_micros(header.i64()?);
        let count = header.u16()?;
        let mut folded = Vec::new();
        for _ in 0..count {
            let event_type = EventType::new(header.text()?).map_err(|_| Rejection::Corrupt)?;
            folded.push((event_type, SchemaVersion(header.u32()?)));
        }
        let codec = header.text()?.to_owned();
        let compression = Compression::from_code(header.u8()?).ok_or(Rejection::Corrupt)?;
        let encryption = Some(header.text()?.to_owned()).filter(|id| !id.is_empty());
        let (raw_bytes, stored_bytes) = (header.u64()?, header.u64()?);
        let created_at = Timestamp::from_micros(header.i64()?);
        let library = header.text()?.to_owned();
        if !header.0.is_empty() || prefix.0.len() as u64 != stored_bytes {
            return Err(Rejection::Corrupt);
        }
        let stored = bytes.slice(PREFIX + header_len..body_len);
        Ok(Self {
            slot,
            head,
            latest_recorded_at,
            folded,
            codec,
            compression,
            encryption,
            raw_bytes,
            created_at,
            library,
            stored,
        })
    }

    /// Size of the payload as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.stored.len() as u64
    }

    /// The encoded state: decrypted and decompressed. `max_bytes` is checked before anything is allocated.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`], [`Rejection::Sealed`] or [`Rejection::Corrupt`].
    pub fn payload(&self, max_bytes: u64, encryption: Option<&dyn Encryption>) -> Result<Bytes, Rejection> {
        let plain_len = usize::try_from(self.raw_bytes).map_err(|_| Rejection::TooLarge)?;
        if self.raw_bytes > max_bytes {
            return Err(Rejection::TooLarge);
        }
        let packed = match (&self.encryption, encryption) {
            (None, None) => self.stored.clone(),
            (Some(id), Some(hook)) if id == hook.id() => hook
                .open(&self.stored, &context(&self.slot, self.head))
                .map(Bytes::from)
                .map_err(|_| Rejection::Sealed)?,
            _ => return Err(Rejection::Sealed),
        };
        match self.compression {
            Compression::None if packed.len() == plain_len => Ok(packed),
            Compression::None => Err(Rejection::Corrupt),
            compression => compression.decompress(&packed, plain_len).map(Bytes::from),
        }
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(blake3::hash(body).as_bytes().split_at(CHECKSUM).0);
    sum
}

/// What a sealed payload is bound to.
fn context(slot: &Slot, head: Head) -> Vec<u8> {
    format!("snapshot {slot} {head}").into_bytes()
}

fn put_text(out: &mut BytesMut, text: &str) -> Result<()> {
    let len = u16::try_from(text.len())
        .map_err(|_| Error::invalid(format!("a name of {} bytes in a snapshot's header", text.len())))?;
    out.put_u16_le(len);
    out.put_slice(text.as_bytes());
    Ok(())
}

/// Reads from the front; running out is corruption.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Rejection> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(Rejection::Corrupt)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Rejection> {
        self.take(N)?.try_into().map_err(|_| Rejection::Corrupt)
    }

    fn u8(&mut self) -> Result<u8, Rejection> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Rejection> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Rejection> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Rejection> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Rejection> {
        self.array().map(i64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'a str, Rejection> {
        let len = self.u16()?;
        std::str::from_utf8(self.take(len.into())?).map_err(|_| Rejection::Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot::new("account", "3-0123456789abcdef".parse().unwrap(), "account/1787").unwrap()
    }

    fn seal(encoded: &[u8], compression: Compression) -> Bytes {
        let draft = Draft {
            slot: &slot(),
            head: Head { version: Version(42), chain: Chain::from_bytes([7; 16]) },
            latest_recorded_at: Timestamp::from_micros(1_000_000),
            folded: vec![
                (EventType::new("account.withdrawn").unwrap(), SchemaVersion(1)),
                (EventType::new("account.deposited").unwrap(), SchemaVersion(2)),
                (EventType::new("account.deposited").unwrap(), SchemaVersion(2)),
            ],
            codec: "msgpack",
            created_at: Timestamp::from_micros(2_000_000),
        };
        draft.seal(encoded, compression, None).unwrap()
    }

    #[test]
    fn what_was_sealed_is_read_back() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let encoded = vec![9u8; 10_000];
            let envelope = Envelope::parse(&seal(&encoded, compression)).unwrap();
            assert_eq!(envelope.slot, slot());
            assert_eq!(envelope.head.version, Version(42));
            assert_eq!(envelope.folded.len(), 2);
            assert_eq!(envelope.compression, compression);
            assert_eq!(envelope.payload(10_000, None).unwrap(), encoded);
            assert_eq!(envelope.payload(9_999, None), Err(Rejection::TooLarge));
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored_plain() {
        let mut random = fastrand::Rng::with_seed(1);
        let encoded: Vec<u8> = (0..5_000).map(|_| random.u8(..)).collect();
        let envelope = Envelope::parse(&seal(&encoded, Compression::Zstd)).unwrap();
        assert_eq!(envelope.compression, Compression::None);
        assert_eq!(envelope.payload(u64::MAX, None).unwrap(), encoded);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_corrupt() {
        let bytes = seal(b"some encoded state", Compression::Zstd);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Envelope::parse(&flipped.into()), Err(Rejection::Corrupt), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Envelope::parse(&bytes.slice(..len)), Err(Rejection::Corrupt), "length {len}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_corruption() {
        let mut bytes = seal(b"state", Compression::None).to_vec();
        bytes[4] = 2;
        let body = bytes.len() - CHECKSUM;
        let sum = checksum(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum);
        assert_eq!(Envelope::parse(&bytes.into()), Err(Rejection::NewerFormat));
    }

    #[test]
    fn a_decompression_bomb_is_refused_before_allocation() {
        // A valid envelope whose header claims 1 TiB, as an attacker with write access could make it.
        let honest = seal(&vec![0u8; 1 << 20], Compression::Zstd);
        let mut bytes = honest.to_vec();
        let claim = (1u64 << 20).to_le_bytes();
        let at = bytes.windows(8).position(|window| window == claim).unwrap();
        bytes[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        let body = bytes.len() - CHECKSUM;
        let sum = checksum(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum);
        let envelope = Envelope::parse(&bytes.clone().into()).unwrap();
        assert_eq!(envelope.payload(64 << 20, None), Err(Rejection::TooLarge));
        // One that claims less than it holds is corrupt, and allocates no more than it claims.
        bytes[at..at + 8].copy_from_slice(&1000u64.to_le_bytes());
        let sum = checksum(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum);
        assert_eq!(Envelope::parse(&bytes.into()).unwrap().payload(64 << 20, None), Err(Rejection::Corrupt));
    }
}
