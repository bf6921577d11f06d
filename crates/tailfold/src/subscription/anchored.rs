//! Whether a log is the one that a checkpoint was written in.

use futures_util::TryStreamExt as _;

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::event::Position;
use crate::filter::Filter;
use crate::store::{Direction, EventStore, EventStoreExt as _, Follow, VersionRange};
use crate::stream::Version;

/// Fails if the last event that was handled is not the log's own any more, other than by being erased or cut off since: a
/// restored backup, another store, a log that was written anew. What was handled then says nothing about what is recorded now.
pub(super) async fn check(events: &dyn EventStore, checkpoint: &Checkpoint) -> Result<()> {
    let store = events.store_id().await?;
    if checkpoint.store != store {
        return Err(Error::invalid(format!(
            "the read model stands in store {}, and this is store {store}: it must be built anew",
            checkpoint.store
        )));
    }
    let Some(last) = &checkpoint.last else { return Ok(()) };
    let version = last.head.version;
    let range = VersionRange::from(version).up_to(Some(version));
    let found = events.read_to_vec(&last.stream, range).await?;
    if found.first().is_some_and(|event| event.head() == last.head && event.position == last.position) {
        return Ok(());
    }
    // In this order: an erase between the two takes away what the first looks at, and leaves what the second does.
    if was_cut_off(events, checkpoint, version).await? || was_erased(events, checkpoint).await? {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the event at position {} that the read model has handled last is not in the log any more: it must be built anew",
        last.position
    )))
}

/// Whether the stream's tombstone stands at or after the event.
async fn was_erased(events: &dyn EventStore, checkpoint: &Checkpoint) -> Result<bool> {
    let Some(last) = &checkpoint.last else { return Ok(false) };
    let after = Position(last.position.0.saturating_sub(1));
    let mut batches = events.read_all(after, Filter::stream(last.stream.clone()), Follow::ToEnd);
    while let Some(batch) = batches.try_next().await? {
        if batch.events.iter().any(|event| event.data.event_type.is_tombstone()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the stream begins after the event, with an origin.
async fn was_cut_off(events: &dyn EventStore, checkpoint: &Checkpoint, version: Version) -> Result<bool> {
    let Some(last) = &checkpoint.last else { return Ok(false) };
    let mut batches = events.read(&last.stream, VersionRange::ALL, Direction::Forward);
    let first = batches.try_next().await?;
    Ok(first
        .is_some_and(|batch| batch.first().is_some_and(|event| event.version > version && event.data.origin)))
}
