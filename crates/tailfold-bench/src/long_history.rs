//! A store with a stream of a million events and one of a thousand.

use std::path::{Path, PathBuf};

use tailfold::{
    Commit, Event as _, EventData, EventStore, EventType, Expected, Head, NewEvent, Policy, Repository,
    StreamId,
};
use tailfold_sqlite::SqliteStore;

use crate::appending;
use crate::harness::{Result, Scratch};
use crate::trade::{Account, AccountEvent, LINES_OF_1_KIB};

#[derive(Debug)]
pub(crate) struct LongHistory {
    pub(crate) store: SqliteStore,
    path: PathBuf,
    _scratch: Scratch,
}

impl LongHistory {
    pub(crate) const LONG: &str = "long";
    pub(crate) const LONG_EVENTS: u64 = 1_000_000;
    pub(crate) const SHORT: &str = "short";
    pub(crate) const SHORT_EVENTS: u64 = 1_000;

    pub(crate) async fn build() -> Result<Self> {
        let scratch = Scratch::new()?;
        let path = scratch.path("long.tailfold");
        let store = SqliteStore::open(&path).await?;
        append_many(&store, Self::LONG, Self::LONG_EVENTS, LINES_OF_1_KIB).await?;
        append_many(&store, Self::SHORT, Self::SHORT_EVENTS, LINES_OF_1_KIB).await?;
        // So that all of it is in the file, and none in the log.
        store.close().await?;
        let store = SqliteStore::open(&path).await?;
        Ok(Self { store, path, _scratch: scratch })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn accounts(&self) -> Result<Repository<Account>> {
        Ok(Repository::builder(self.store.clone()).snapshots(Policy::every(100)).build()?)
    }
}

/// Appends trades to an empty stream, a thousand a commit.
pub(crate) async fn append_many(
    store: &impl EventStore,
    id: &str,
    events: u64,
    items: u64,
) -> Result<Option<Head>> {
    let stream = StreamId::new(AccountEvent::CATEGORY, id)?;
    let event_type = EventType::new(AccountEvent::TRADED)?;
    let metadata = appending::metadata()?;
    let mut head = None;
    for first in (0..events).step_by(1000) {
        let mut batch = Vec::with_capacity(1000);
        for number in first..events.min(first + 1000) {
            let payload = AccountEvent::traded(number, items).encode()?;
            let mut data = EventData::new(event_type.clone(), payload);
            data.metadata = metadata.clone();
            batch.push(NewEvent::new(data)?);
        }
        let commit = Commit::new(stream.clone(), Expected::from_head(head), batch);
        head = store.append(commit).await?.writes.first().map(|written| written.head);
    }
    Ok(head)
}
