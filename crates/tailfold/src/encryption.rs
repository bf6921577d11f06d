//! The encryption hook: below the codec, for payloads of events and of snapshots alike.

use crate::error::Result;

/// Seals payloads before they reach a store and opens them after. Given to
/// [`RepositoryBuilder::encryption`](crate::RepositoryBuilder::encryption).
///
/// tailfold brings no cipher: implement this over an AEAD of your choice, with a fresh nonce per call, the nonce and the
/// key's name in the sealed bytes, and `context` as associated data. The digest of an event covers the sealed bytes.
/// Headers (types, times, metadata, tags) are not sealed.
pub trait Encryption: Send + Sync + std::fmt::Debug {
    /// Stable name of the scheme, stored in each snapshot: 1..=32 bytes. A snapshot of another scheme is rejected.
    fn id(&self) -> &str;

    /// Seals a payload. `context` names the place it belongs to (stream and event id; or slot and head); opening it in
    /// another place must fail.
    ///
    /// # Errors
    /// Any; an append then fails with nothing written, a snapshot is dropped and counted.
    fn seal(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>>;

    /// Opens a sealed payload.
    ///
    /// # Errors
    /// Any; a load of the event then fails, a snapshot is rejected.
    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>>;
}
