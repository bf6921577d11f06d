//! Compression of snapshot payloads. It belongs to the envelope: changing it never invalidates what is stored.

use serde::{Deserialize, Serialize};

use super::rejection::Rejection;

/// How a snapshot's payload is compressed, if that makes it smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As the codec wrote it.
    None,
    /// LZ4: the fastest.
    Lz4,
    /// zstd at level 1: about a third of the size of MessagePack, at about 1.5 GB/s of input.
    #[default]
    Zstd,
}

impl Compression {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|compression| compression.code() == code)
    }

    /// The compressed bytes; `None` if they are not smaller.
    pub(super) fn compress(self, plain: &[u8]) -> Option<Vec<u8>> {
        let compressed = match self {
            Self::None => return None,
            Self::Lz4 => lz4_flex::block::compress(plain),
            // Fails only where memory does; the plain bytes serve as well.
            Self::Zstd => zstd::bulk::compress(plain, 1).ok()?,
        };
        (compressed.len() < plain.len()).then_some(compressed)
    }

    /// The plain bytes. `plain_len` was checked against the limit, and no more than that is ever allocated.
    pub(super) fn decompress(self, stored: &[u8], plain_len: usize) -> Result<Vec<u8>, Rejection> {
        let plain = match self {
            Self::None => stored.to_vec(),
            Self::Lz4 => lz4_flex::block::decompress(stored, plain_len).map_err(|_| Rejection::Corrupt)?,
            Self::Zstd => zstd::bulk::decompress(stored, plain_len).map_err(|_| Rejection::Corrupt)?,
        };
        if plain.len() == plain_len { Ok(plain) } else { Err(Rejection::Corrupt) }
    }
}
