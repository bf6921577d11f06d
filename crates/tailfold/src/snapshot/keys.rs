//! Keys of checksums: what tells a snapshot that this service has written from one that somebody else has put
//! in its place.

use std::fmt;

use crate::error::{Error, Result};

/// Most keys that a repository accepts.
const MOST_KEYS: usize = 16;

/// The keys of a repository's snapshots: the first is written with, all of them are accepted.
#[derive(Clone)]
pub(crate) struct SnapshotKeys(Vec<SnapshotKey>);

#[derive(Clone)]
struct SnapshotKey {
    id: KeyId,
    mac: [u8; 32],
}

/// Names a key without telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyId(pub(crate) [u8; 8]);

/// 16 bytes that only a holder of the key can make.
pub(crate) type Mac = [u8; 16];

impl SnapshotKeys {
    pub(crate) fn new(keys: impl IntoIterator<Item = [u8; 32]>) -> Result<Self> {
        let keys: Vec<_> = keys.into_iter().map(SnapshotKey::new).collect();
        if keys.is_empty() || keys.len() > MOST_KEYS {
            return Err(Error::invalid(format!(
                "`snapshot_keys` takes 1 to {MOST_KEYS} keys, the first to write with: {} were given",
                keys.len()
            )));
        }
        Ok(Self(keys))
    }

    /// Signs the hash of an envelope with the first key.
    pub(crate) fn sign(&self, hash: &blake3::Hash) -> Option<Mac> {
        self.0.first().map(|key| key.sign(hash))
    }

    /// Id of the key that is written with.
    pub(crate) fn id(&self) -> Option<KeyId> {
        self.0.first().map(|key| key.id)
    }

    /// Whether one of the keys has signed the hash; `None` if no key has that id.
    pub(crate) fn verify(&self, id: KeyId, hash: &blake3::Hash, mac: &Mac) -> Option<bool> {
        let key = self.0.iter().find(|key| key.id == id)?;
        // In the same time, wherever they differ.
        let differs =
            key.sign(hash).iter().zip(mac).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs));
        Some(differs == 0)
    }
}

impl SnapshotKey {
    fn new(key: [u8; 32]) -> Self {
        let mut id = [0; 8];
        let named = blake3::derive_key("tailfold 2026 id of a key of snapshots", &key);
        id.copy_from_slice(named.split_at(8).0);
        Self { id: KeyId(id), mac: blake3::derive_key("tailfold 2026 checksum of a snapshot", &key) }
    }

    fn sign(&self, hash: &blake3::Hash) -> Mac {
        let mut mac = [0; 16];
        mac.copy_from_slice(blake3::keyed_hash(&self.mac, hash.as_bytes()).as_bytes().split_at(16).0);
        mac
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Names the keys and does not tell them.
impl fmt::Debug for SnapshotKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| format_args!("{}", key.id).to_string())).finish()
    }
}
