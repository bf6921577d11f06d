//! A process that uses the store: what it was told once, it must never see undone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tailfold::{
    Error, ErrorKind, EventStore as _, EventStoreExt as _, Head, Loaded, Policy, Repository, Result, Source,
    StreamId, Version, VersionRange,
};
use tailfold_nats::{NatsConfig, NatsStore};

use crate::actor::Trace;
use crate::truth::Truth;

/// Events between two snapshots.
const EVERY: u64 = 20;

pub(crate) struct Client {
    pub(crate) store: NatsStore,
    pub(crate) accounts: Repository<Trace>,
    pub(crate) truth: Arc<Truth>,
    /// The newest head of each stream that this process was told of.
    told: Mutex<HashMap<StreamId, Head>>,
}

impl Client {
    pub(crate) async fn connect(config: NatsConfig, truth: Arc<Truth>) -> Result<Self> {
        let store = config.connect().await?;
        let accounts = Repository::builder(store.clone()).snapshots(Policy::every(EVERY)).build()?;
        Ok(Self { store, accounts, truth, told: Mutex::default() })
    }

    /// This process was told of a head.
    pub(crate) fn told(&self, stream: &StreamId, head: Head, digest: Option<u64>) {
        self.truth.sighted(stream, head, digest);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.entry(stream.clone()).or_insert(head);
        if known.version < head.version {
            *known = head;
        }
    }

    fn floor(&self, stream: &StreamId) -> Version {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(stream).map_or(Version::ZERO, |head| head.version)
    }

    /// Loads the state of a stream; `None` if the store does not answer.
    pub(crate) async fn load(&self, stream: &StreamId, without_snapshots: bool) -> Option<Loaded<Trace>> {
        let (floor, begun) = (self.floor(stream), Instant::now());
        let load = self.accounts.load(stream.id());
        let loaded = if without_snapshots { load.without_snapshots().await } else { load.await };
        let loaded = self.answered("load", loaded)?;
        let took = begun.elapsed();
        self.truth.count(|counts| {
            counts.loads += 1;
            counts.snapshot_loads += u64::from(matches!(loaded.report().source, Source::Snapshot(_)));
            counts.longest_load = counts.longest_load.max(took);
        });
        for rejected in &loaded.report().rejected {
            self.truth.rejected(rejected.reason.as_str());
        }
        self.not_behind("load", stream, loaded.version(), floor);
        if loaded.state().count != loaded.version().0 {
            let (count, version) = (loaded.state().count, loaded.version());
            self.truth.violation(format!("load of {stream}: {count} events are folded at version {version}"));
        }
        if let Some(head) = loaded.head() {
            self.told(stream, head, Some(loaded.state().digest));
        }
        Some(loaded)
    }

    /// Reads all events of a stream.
    pub(crate) async fn read(&self, stream: &StreamId) {
        let floor = self.floor(stream);
        let read = self.store.read_to_vec(stream, VersionRange::ALL).await;
        let Some(events) = self.answered("read", read) else { return };
        self.truth.count(|counts| counts.reads += 1);
        for (event, wanted) in events.iter().zip(1..) {
            if event.version.0 != wanted {
                self.truth
                    .violation(format!("read of {stream}: version {} at place {wanted}", event.version));
                return;
            }
        }
        let last = events.last().map_or(Version::ZERO, |event| event.version);
        self.not_behind("read", stream, last, floor);
        if let Some(last) = events.last() {
            self.told(stream, last.head(), None);
        }
    }

    /// Asks for the head of a stream.
    pub(crate) async fn head(&self, stream: &StreamId) {
        let (floor, acknowledged) = (self.floor(stream), self.truth.head(stream));
        let Some(head) = self.answered("head", self.store.head(stream).await) else { return };
        let version = head.map_or(Version::ZERO, |head| head.version);
        self.not_behind("head", stream, version, floor);
        // What a leader that was deposed and does not know it yet may do to other processes than the writer's.
        if acknowledged.is_some_and(|acknowledged| version < acknowledged.version) {
            self.truth.count(|counts| counts.stale_heads += 1);
        }
        if let Some(head) = head {
            self.told(stream, head, None);
        }
    }

    fn not_behind(&self, what: &str, stream: &StreamId, version: Version, floor: Version) {
        if version < floor {
            self.truth.violation(format!(
                "{what} of {stream} at version {version}, although this process knew of {floor}"
            ));
        }
    }

    /// What a read answers, unless nobody is there to answer.
    fn answered<T>(&self, what: &str, answer: Result<T>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(error) => {
                self.truth.count(|counts| counts.failed_loads += 1);
                if !is_unavailable(&error) {
                    self.truth.violation(format!("{what}: {error}"));
                }
                None
            }
        }
    }
}

pub(crate) fn is_unavailable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable(_))
}
