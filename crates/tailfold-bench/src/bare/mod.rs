//! The limits: what a good engineer gets out of SQLite, or out of a file, without tailfold.
//!
//! The same schema, settings, statements and dispatch as `tailfold-sqlite`: a writer thread that takes all that is queued
//! into one transaction and replies after its COMMIT, checkpoints on a thread of their own, reads on pooled connections in
//! blocking tasks. What it leaves out is what tailfold adds: encoding, digests, chains, checks, typed errors, cancellation.

mod file;
mod funnel;
mod readers;
mod settings;
mod writer;

use bytes::Bytes;

pub(crate) use file::BareFile;
pub(crate) use readers::{BareReaders, Found, SnapshotQuery, events_of_type};
pub(crate) use settings::{grow_log, reader};
pub(crate) use writer::BareStore;

use crate::harness::Result;
use crate::trade::AccountEvent;

/// An event as it is stored, computed beforehand.
#[derive(Clone, Debug)]
pub(crate) struct BareEvent {
    pub(crate) id: [u8; 16],
    pub(crate) event_type: &'static str,
    pub(crate) recorded_at: i64,
    pub(crate) metadata: Bytes,
    pub(crate) chain: [u8; 16],
    pub(crate) payload: Bytes,
}

impl BareEvent {
    /// As large as the events of the other side.
    pub(crate) fn sample(metadata: Bytes) -> Result<Self> {
        let payload = tailfold::Event::encode(&AccountEvent::traded(4711, 1000))?;
        Ok(Self {
            id: [7; 16],
            event_type: AccountEvent::TRADED,
            recorded_at: 1_790_000_000_000_000,
            metadata,
            chain: [9; 16],
            payload: payload.into(),
        })
    }

    /// Its bytes, one after the other, as a log file would hold them.
    pub(crate) fn write_to(&self, stream: u64, version: u64, out: &mut Vec<u8>) {
        let length = 64 + self.event_type.len() + self.metadata.len() + self.payload.len();
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.extend_from_slice(&stream.to_le_bytes());
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&1u32.to_le_bytes());
        out.extend_from_slice(&self.recorded_at.to_le_bytes());
        out.extend_from_slice(&self.chain);
        for part in [self.event_type.as_bytes(), &self.metadata, &self.payload] {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
}
