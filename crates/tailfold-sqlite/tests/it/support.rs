//! What the tests share.

use std::path::PathBuf;

use rusqlite::Connection;
use tailfold::{
    Chain, Commit, Committed, Digest, EventData, EventStore as _, EventStoreExt as _, EventType, Expected,
    Head, Keep, NewEvent, Position, RecordedEvent, Save, Serial, Slot, StreamId, Tag, Timestamp,
    VersionRange,
};
use tailfold_sqlite::{SqliteConfig, SqliteStore};
use tempfile::TempDir;

/// A directory for one store file.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.tailfold");
        Self { directory, path }
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path).await.unwrap()
    }

    pub(crate) fn config(&self) -> SqliteConfig {
        SqliteConfig::new(&self.path)
    }

    /// The file as any SQLite tool sees it.
    pub(crate) fn sqlite(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        connection
    }
}

pub(crate) fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

pub(crate) fn event(payload: &str) -> NewEvent {
    NewEvent::new(EventData::new(EventType::new("test.happened").unwrap(), payload.to_owned())).unwrap()
}

pub(crate) fn tagged(payload: &str, tags: &[&str]) -> NewEvent {
    let mut data = event(payload).into_data();
    data.tags = tags.iter().map(|tag| Tag::new(tag).unwrap()).collect();
    NewEvent::new(data).unwrap()
}

pub(crate) fn origin(payload: &str) -> NewEvent {
    let mut data = event(payload).into_data();
    data.origin = true;
    NewEvent::new(data).unwrap()
}

pub(crate) fn events(count: usize) -> Vec<NewEvent> {
    (0..count).map(|number| event(&format!("{{\"number\":{number}}}"))).collect()
}

pub(crate) async fn append(
    store: &SqliteStore,
    name: &str,
    expected: Expected,
    events: Vec<NewEvent>,
) -> Committed {
    store.append(Commit::new(stream(name), expected, events)).await.unwrap()
}

pub(crate) async fn read(store: &SqliteStore, name: &str) -> Vec<RecordedEvent> {
    store.read_to_vec(&stream(name), VersionRange::ALL).await.unwrap()
}

pub(crate) fn positions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position.0).collect()
}

/// Recomputes versions and chains from a genesis; the head that they come to.
pub(crate) fn verify(events: &[RecordedEvent], genesis: Chain) -> Head {
    let mut head = Head { version: 0.into(), chain: genesis };
    let mut position = Position::ZERO;
    for event in events {
        head = Head { version: head.version.next(), chain: head.chain.link(Digest::of(&event.data)) };
        assert_eq!(event.head(), head, "{} at {}", event.stream, event.version);
        assert!(event.position > position);
        position = event.position;
    }
    head
}

pub(crate) fn slot(fold: &str, key: &str) -> Slot {
    let serial: Serial = "0123456789abcdef".parse().unwrap();
    Slot::new(fold, serial, key).unwrap()
}

pub(crate) fn save(head: Head, bytes: impl Into<Vec<u8>>) -> Save {
    Save { head, bytes: bytes.into().into(), keep: Keep::Newest, day: Timestamp::from_micros(0).day() }
}

pub(crate) fn head(version: u64, chain: u8) -> Head {
    Head { version: version.into(), chain: Chain::from_bytes([chain; 16]) }
}
