//! What an erase has to do with snapshots that are on their way.

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::Writer;
use super::lane::Lane;
use crate::error::Result;
use crate::fold::Fold;
use crate::schema::Events as _;
use crate::snapshot::peers::Peer;
use crate::snapshot::serial::Slot;
use crate::stream::{Head, StreamId};

impl<F: Fold> Writer<F> {
    /// Whether what a snapshot is anchored at was not erased while the state was on its way.
    pub(crate) async fn stands(&self, slot: &Slot, head: Head) -> Result<bool> {
        self.doubts.stands(slot, head).await
    }

    /// Drops what waits of a stream, and waits for what is being written of it.
    async fn stop_writing(&self, stream: &StreamId) {
        loop {
            let saved = self.signals.saved.notified();
            tokio::pin!(saved);
            saved.as_mut().enable();
            {
                let mut queue = self.lock();
                queue.line.discard(stream.as_str());
                queue.lanes.iter_mut().for_each(|lane| lane.discard(stream.as_str()));
                if !queue.lanes.iter().any(|lane: &Lane| lane.is_saving(stream.as_str())) {
                    return;
                }
            }
            saved.await;
        }
    }
}

#[async_trait]
impl<F: Fold> Peer for Writer<F> {
    fn doubt(&self, stream: &StreamId) {
        self.doubts.add(stream);
    }

    async fn forget(&self, stream: &StreamId) -> Result<u64> {
        if F::Event::sources().iter().all(|source| source.category != stream.category()) {
            return Ok(0);
        }
        let limit = self.config.write_timeout();
        // What takes longer has failed.
        let _ = timeout(limit, self.stop_writing(stream)).await;
        let removals = self.tiers.iter().map(|tier| async move {
            let forgotten = tier.insist(limit, tier.store().forget(stream.as_str())).await;
            forgotten.map_err(|failure| failure.into_error(tier.name()))
        });
        let (mut snapshots, mut failed) = (0, None);
        for forgotten in join_all(removals).await {
            match forgotten {
                Ok(swept) => snapshots += swept.snapshots,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(snapshots), Err)
    }
}
