//! What a snapshot store keeps: the encoded state with all that is needed to check it. Byte layout: FORMAT.md.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::compression::Compression;
use super::keys::{KeyId, Mac, SnapshotKeys};
use super::rejection::Rejection;
use super::serial::{Serial, Slot};
use crate::chain::Chain;
use crate::clock::Timestamp;
use crate::encryption::{Binding, Encryption, Opened};
use crate::error::{Error, Result};
use crate::event::{EventType, SchemaVersion};
use crate::stream::{Head, Version};

const MAGIC: &[u8; 4] = b"TFSN";
/// The format of envelopes without a keyed checksum, taken when no key was forgotten.
const PLAIN_FORMAT: u16 = 1;
/// The same, with the number of forgotten keys and the id of the checksum's key.
const FORMAT: u16 = 2;
const PREFIX: usize = 10;
const CHECKSUM: usize = 16;
const MAC: usize = size_of::<Mac>();
/// In place of a key's id where the checksum has no key.
const NO_KEY: [u8; 8] = [0; 8];

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
    /// How many keys were forgotten when the state was begun; see
    /// [`Encryption::forgotten_keys`](crate::Encryption::forgotten_keys).
    pub forgotten_keys: u64,
    /// Id of the key of the checksum, 16 hexadecimal digits; `None` if the checksum has no key. See
    /// [`RepositoryBuilder::snapshot_keys`](crate::RepositoryBuilder::snapshot_keys).
    pub checksum_key: Option<String>,
    /// Size of the encoded state.
    pub raw_bytes: u64,
    /// When the snapshot was taken, by the taker's clock.
    pub created_at: Timestamp,
    /// Release of the library that wrote it.
    pub library: String,
    stored: Bytes,
    signature: Option<Signature>,
}

/// What a holder of the key has to say about an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signature {
    key: KeyId,
    mac: Mac,
    /// Of everything before it.
    hash: blake3::Hash,
}

/// What is known of a snapshot before it is sealed into an envelope.
pub(crate) struct Draft<'a> {
    pub(crate) slot: &'a Slot,
    pub(crate) head: Head,
    pub(crate) latest_recorded_at: Timestamp,
    pub(crate) folded: Vec<(EventType, SchemaVersion)>,
    pub(crate) codec: &'a str,
    pub(crate) created_at: Timestamp,
    pub(crate) forgotten_keys: u64,
    /// The first of them signs.
    pub(crate) keys: Option<&'a SnapshotKeys>,
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
        let binding = Binding::snapshot(self.slot, self.head);
        let sealed = encryption.map(|hook| hook.seal(packed, &binding)).transpose()?;
        let stored = sealed.as_deref().unwrap_or(packed);
        self.folded.sort();
        self.folded.dedup();

        let mut out = BytesMut::with_capacity(stored.len() + 512);
        let key = self.keys.and_then(SnapshotKeys::id);
        // What needs nothing of the newer format stays readable for releases that do not know it.
        let format = if key.is_some() || self.forgotten_keys > 0 { FORMAT } else { PLAIN_FORMAT };
        out.put_slice(MAGIC);
        out.put_u16_le(format);
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
        if format == FORMAT {
            out.put_u64_le(self.forgotten_keys);
            out.put_slice(&key.map_or(NO_KEY, |id| id.0));
        }
        out.put_u64_le(encoded.len() as u64);
        out.put_u64_le(stored.len() as u64);
        out.put_i64_le(self.created_at.as_micros());
        put_text(&mut out, env!("CARGO_PKG_VERSION"))?;
        let header = (out.len() - PREFIX) as u32;
        if let Some(length) = out.get_mut(6..PREFIX) {
            length.copy_from_slice(&header.to_le_bytes());
        }
        out.put_slice(stored);
        if let Some(mac) = self.keys.and_then(|keys| keys.sign(&blake3::hash(&out))) {
            out.put_slice(&mac);
        }
        let sum = first_16(&blake3::hash(&out));
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
        let (unsigned, mac) = body.split_last_chunk::<MAC>().ok_or(Rejection::Corrupt)?;
        let mut unsigned_hash = None;
        let hash = if format == FORMAT {
            // Of everything, and of everything but what may be a signature, in one pass.
            let mut hasher = blake3::Hasher::new();
            hasher.update(unsigned);
            unsigned_hash = Some(hasher.finalize());
            hasher.update(mac).finalize()
        } else {
            blake3::hash(body)
        };
        if first_16(&hash) != sum {
            return Err(Rejection::Corrupt);
        }
        // After the checksum: a flipped bit is corruption, not a newer release.
        if !(PLAIN_FORMAT..=FORMAT).contains(&format) {
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
        let (mut forgotten_keys, mut key) = (0, None);
        if format == FORMAT {
            forgotten_keys = header.u64()?;
            key = Some(header.array()?).filter(|id| *id != NO_KEY).map(KeyId);
        }
        let signature = key.zip(unsigned_hash).map(|(key, hash)| Signature { key, mac: *mac, hash });
        let (raw_bytes, stored_bytes) = (header.u64()?, header.u64()?);
        let created_at = Timestamp::from_micros(header.i64()?);
        let library = header.text()?.to_owned();
        let behind = if signature.is_some() { MAC } else { 0 };
        if !header.0.is_empty()
            || prefix.0.len().checked_sub(behind).map(|len| len as u64) != Some(stored_bytes)
        {
            return Err(Rejection::Corrupt);
        }
        let stored = bytes.slice(PREFIX + header_len..body_len - behind);
        Ok(Self {
            slot,
            head,
            latest_recorded_at,
            folded,
            codec,
            compression,
            encryption,
            forgotten_keys,
            checksum_key: key.map(|key| key.to_string()),
            raw_bytes,
            created_at,
            library,
            stored,
            signature,
        })
    }

    /// Size of the payload as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.stored.len() as u64
    }

    /// Whether the checksum is keyed as a repository with these keys, or without any, wants it.
    ///
    /// # Errors
    /// [`Rejection::OtherKey`], or [`Rejection::Corrupt`] if the key is the repository's and the checksum is not the key's.
    pub(crate) fn check_key(&self, keys: Option<&SnapshotKeys>) -> Result<(), Rejection> {
        match (keys, &self.signature) {
            (None, None) => Ok(()),
            (Some(keys), Some(Signature { key, mac, hash })) => match keys.verify(*key, hash, mac) {
                Some(true) => Ok(()),
                Some(false) => Err(Rejection::Corrupt),
                None => Err(Rejection::OtherKey),
            },
            _ => Err(Rejection::OtherKey),
        }
    }

    /// The encoded state: decrypted and decompressed. `max_bytes` is checked before anything is allocated.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`], [`Rejection::Sealed`], [`Rejection::Forgotten`] or [`Rejection::Corrupt`].
    pub fn payload(&self, max_bytes: u64, encryption: Option<&dyn Encryption>) -> Result<Bytes, Rejection> {
        let plain_len = usize::try_from(self.raw_bytes).map_err(|_| Rejection::TooLarge)?;
        if self.raw_bytes > max_bytes {
            return Err(Rejection::TooLarge);
        }
        let packed = match (&self.encryption, encryption) {
            (None, None) => self.stored.clone(),
            (Some(id), Some(hook)) if id == hook.id() => {
                match hook.open(&self.stored, &Binding::snapshot(&self.slot, self.head)) {
                    Ok(Opened::Plain(plain)) => plain.into(),
                    Ok(Opened::Forgotten) => return Err(Rejection::Forgotten),
                    Err(_) => return Err(Rejection::Sealed),
                }
            }
            _ => return Err(Rejection::Sealed),
        };
        match self.compression {
            Compression::None if packed.len() == plain_len => Ok(packed),
            Compression::None => Err(Rejection::Corrupt),
            compression => compression.decompress(&packed, plain_len).map(Bytes::from),
        }
    }
}

fn first_16(hash: &blake3::Hash) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(hash.as_bytes().split_at(CHECKSUM).0);
    sum
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
        seal_with(encoded, compression, 0, None)
    }

    fn seal_with(
        encoded: &[u8],
        compression: Compression,
        forgotten_keys: u64,
        keys: Option<&SnapshotKeys>,
    ) -> Bytes {
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
            forgotten_keys,
            keys,
        };
        draft.seal(encoded, compression, None).unwrap()
    }

    fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
        first_16(&blake3::hash(body))
    }

    fn keys(bytes: &[u8]) -> SnapshotKeys {
        SnapshotKeys::new(bytes.iter().map(|byte| [*byte; 32])).unwrap()
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
        let plain = seal(b"some encoded state", Compression::Zstd);
        let keyed = seal_with(b"some encoded state", Compression::Zstd, 3, Some(&keys(&[1])));
        for bytes in [plain, keyed] {
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Envelope::parse(&flipped.into()), Err(Rejection::Corrupt), "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert_eq!(Envelope::parse(&bytes.slice(..len)), Err(Rejection::Corrupt), "length {len}");
            }
        }
    }

    #[test]
    fn a_keyed_checksum_is_accepted_by_holders_of_the_key_alone() {
        let (old, new, both) = (keys(&[1]), keys(&[2]), keys(&[2, 1]));
        let check = |bytes: &Bytes, keys| Envelope::parse(bytes).unwrap().check_key(keys);
        let keyed = seal_with(b"state", Compression::None, 0, Some(&old));
        for (keys, expected) in [
            (Some(&old), Ok(())),
            (Some(&both), Ok(())),
            (Some(&new), Err(Rejection::OtherKey)),
            (None, Err(Rejection::OtherKey)),
        ] {
            assert_eq!(check(&keyed, keys), expected, "{keys:?}");
        }
        let plain = seal(b"state", Compression::None);
        assert_eq!(check(&plain, None), Ok(()));
        assert_eq!(check(&plain, Some(&old)), Err(Rejection::OtherKey));
        assert_eq!(Envelope::parse(&keyed).unwrap().payload(100, None).unwrap(), &b"state"[..]);
        // The first key signs.
        let rotated = seal_with(b"state", Compression::None, 0, Some(&both));
        assert_eq!(check(&rotated, Some(&new)), Ok(()));
    }

    #[test]
    fn an_altered_payload_under_a_checksum_made_anew_is_noticed_with_a_key_alone() {
        let forge = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            let at = bytes.windows(5).position(|window| window == b"state").unwrap();
            bytes[at] = b'S';
            let body = bytes.len() - CHECKSUM;
            let sum = checksum(&bytes[..body]);
            bytes[body..].copy_from_slice(&sum);
            Envelope::parse(&bytes.into()).unwrap()
        };
        assert_eq!(forge(&seal(b"state", Compression::None)).check_key(None), Ok(()));
        let keys = keys(&[1]);
        let keyed = seal_with(b"state", Compression::None, 0, Some(&keys));
        assert_eq!(forge(&keyed).check_key(Some(&keys)), Err(Rejection::Corrupt));
    }

    #[test]
    fn a_number_of_forgotten_keys_is_read_back() {
        let envelope = Envelope::parse(&seal_with(b"state", Compression::None, 7, None)).unwrap();
        assert_eq!((envelope.forgotten_keys, envelope.checksum_key), (7, None));
        assert_eq!(Envelope::parse(&seal(b"state", Compression::None)).unwrap().forgotten_keys, 0);
    }

    #[test]
    fn a_newer_format_is_told_from_corruption() {
        let mut bytes = seal(b"state", Compression::None).to_vec();
        bytes[4] = 3;
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
