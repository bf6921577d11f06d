//! What a projection's snapshot is anchored at: an event of one store, found by one query.

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::event::{Position, RecordedEvent};
use crate::filter::Filter;
use crate::store::StoreId;
use crate::stream::{Head, Version};

/// Makes anchors of one query over one store: positions are the versions, and the chain names the store's history, the query
/// and the event, so that a snapshot of a restored store, of another query or of an event that was rewritten never passes.
#[derive(Clone)]
pub(crate) struct Anchors(blake3::Hasher);

impl Anchors {
    pub(crate) fn of(store: StoreId, filter: &Filter) -> Result<Self> {
        let mut hash = blake3::Hasher::new_derive_key("tailfold 2026 anchor of a projection");
        hash.update(store.as_uuid().as_bytes());
        let query = serde_json::to_vec(filter).map_err(|error| Error::codec(format!("a filter: {error}")))?;
        hash.update(&(query.len() as u64).to_le_bytes());
        hash.update(&query);
        Ok(Self(hash))
    }

    pub(crate) fn at(&self, event: &RecordedEvent) -> Head {
        self.at_place(event.position, event.chain)
    }

    pub(crate) fn at_place(&self, position: Position, chain: Chain) -> Head {
        let mut hash = self.0.clone();
        hash.update(&position.0.to_le_bytes());
        hash.update(chain.as_bytes());
        let mut chain = [0; 16];
        chain.copy_from_slice(hash.finalize().as_bytes().split_at(16).0);
        Head { version: Version(position.0), chain: Chain::from_bytes(chain) }
    }
}

/// Where a read begins that is to give the event at a position first.
pub(crate) fn just_before(position: Version) -> Position {
    Position(position.0.saturating_sub(1))
}
