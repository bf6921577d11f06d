//! The repositories of this process over one store, so that an erase reaches what waits to be written in any of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use futures_util::FutureExt as _;

use super::serial::Slot;
use crate::error::Result;
use crate::store::{EventStore, EventStoreExt as _, StoreId, VersionRange};
use crate::stream::{Head, StreamId};

/// Erased streams that are remembered. A state that was loaded before as many later erases may leave a snapshot behind; it
/// never serves.
const MOST_ERASED: usize = 10_000;

/// A writer of snapshots of aggregates, as an erase sees it.
#[async_trait]
pub(crate) trait Peer: Send + Sync {
    /// From now on a snapshot of the stream is only written if its event is still there.
    fn doubt(&self, stream: &StreamId);

    /// Waits until nothing of the stream is about to be written without that, and removes what is kept of it in all tiers.
    async fn forget(&self, stream: &StreamId) -> Result<u64>;
}

/// Where the writers over a store are found by its id.
type Peers = HashMap<StoreId, Vec<Weak<dyn Peer>>>;

/// An entry goes once its writer has gone and another one is added.
static PEERS: LazyLock<Mutex<Peers>> = LazyLock::new(Mutex::default);

fn peers() -> MutexGuard<'static, Peers> {
    // Each change of the map is one call.
    PEERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets erases of other repositories over the store reach a writer. Where the store cannot tell its id without waiting, only
/// those of its own repository do.
pub(crate) fn join(store: &dyn EventStore, peer: &Arc<impl Peer + 'static>) {
    let Some(Ok(id)) = store.store_id().now_or_never() else { return };
    let peer: Weak<dyn Peer> = Arc::downgrade(&(peer.clone() as Arc<dyn Peer>));
    let mut peers = peers();
    peers.retain(|_, of_store| {
        of_store.retain(|peer| peer.strong_count() > 0);
        !of_store.is_empty()
    });
    peers.entry(id).or_default().push(peer);
}

/// The writers of this process over a store.
pub(crate) fn over(store: &dyn EventStore) -> Vec<Arc<dyn Peer>> {
    let Some(Ok(id)) = store.store_id().now_or_never() else { return Vec::new() };
    peers().get(&id).into_iter().flatten().filter_map(Weak::upgrade).collect()
}

/// Streams that were erased while this process ran, and where to look whether a state is of their next life.
pub(crate) struct Doubts {
    events: Arc<dyn EventStore>,
    erased: Mutex<Erased>,
}

#[derive(Default)]
struct Erased {
    streams: HashSet<StreamId>,
    // Every stream of `streams`, once; the one that was erased first is forgotten first.
    order: VecDeque<StreamId>,
}

impl Doubts {
    pub(crate) fn new(events: Arc<dyn EventStore>) -> Self {
        Self { events, erased: Mutex::default() }
    }

    pub(crate) fn add(&self, stream: &StreamId) {
        let mut erased = self.lock();
        if !erased.streams.insert(stream.clone()) {
            return;
        }
        erased.order.push_back(stream.clone());
        if erased.order.len() > MOST_ERASED
            && let Some(first) = erased.order.pop_front()
        {
            erased.streams.remove(&first);
        }
    }

    /// Whether what a snapshot is anchored at is still there; asked of the store only where the stream was erased meanwhile.
    pub(crate) async fn stands(&self, slot: &Slot, head: Head) -> Result<bool> {
        let Ok(stream) = slot.key().parse::<StreamId>() else { return Ok(true) };
        if !self.lock().streams.contains(&stream) {
            return Ok(true);
        }
        let at = VersionRange::from(head.version).up_to(Some(head.version));
        let found = self.events.read_to_vec(&stream, at).await?;
        Ok(found.first().is_some_and(|event| event.head() == head))
    }

    fn lock(&self) -> MutexGuard<'_, Erased> {
        self.erased.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doubts").field("erased", &self.lock().streams.len()).finish_non_exhaustive()
    }
}
