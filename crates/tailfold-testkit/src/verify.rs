//! Chains, recomputed from a log by whoever does not trust the store that computed them: a store passes or it fails.

use tailfold::{Error, EventStore, Filter, Result, verify_chains};

/// What [`verify_chain`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifiedChains {
    /// Events, tombstones included.
    pub events: u64,
    /// Streams that hold events now.
    pub streams: u64,
    /// Lives that ended in a tombstone.
    pub erased: u64,
    /// Streams whose beginning was cut off, so that their chain is trusted at the first event that is left.
    pub truncated: u64,
}

/// Recomputes the chain of every stream from the log, second lives and truncated streams included, and compares the
/// last one with the store's list of heads. Nobody may write meanwhile. Memory grows with the number of streams.
///
/// # Errors
/// `Corrupt`, naming the event, at the first difference; and what the store answers.
pub async fn verify_chain<S: EventStore + ?Sized>(store: &S) -> Result<VerifiedChains> {
    verify_chain_where(store, Filter::all()).await
}

/// As [`verify_chain`], for the streams that match.
///
/// # Errors
/// As [`verify_chain`]; `Unsupported` if the filter names event types or tags.
pub async fn verify_chain_where<S: EventStore + ?Sized>(store: &S, filter: Filter) -> Result<VerifiedChains> {
    let seen = verify_chains(store, filter, |_| {}).await?;
    match seen.damages.first() {
        Some(damage) => Err(Error::corrupt(damage.to_string()).during("verify")),
        None => Ok(VerifiedChains {
            events: seen.events,
            streams: seen.streams,
            erased: seen.erased,
            truncated: seen.truncated,
        }),
    }
}
