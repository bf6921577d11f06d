//! Lanes of an import: each appends the events of its streams, one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tailfold::{Aggregate, Loaded, Repository, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::import::Counts;
use crate::error::Result;

/// Rows that wait in front of a lane.
const WAITING: usize = 256;

/// A fact on its way to its stream.
pub(super) struct Fact<F: Aggregate> {
    pub(super) id: String,
    pub(super) event: F::Event,
    pub(super) recorded_at: Timestamp,
}

/// What a lane is sent.
enum Sent<F: Aggregate> {
    Fact(Fact<F>),
    /// To be answered when everything sent before is recorded.
    Settle(oneshot::Sender<()>),
}

/// The lanes of one kind of actor.
pub(super) struct Lanes<F: Aggregate> {
    senders: Vec<mpsc::Sender<Sent<F>>>,
    /// Which lane a stream has. Dealt out in turn, so that a few busy streams get a lane each.
    dealt: HashMap<String, usize>,
}

impl<F: Aggregate> Lanes<F> {
    pub(super) fn open(
        repository: &Repository<F>,
        lanes: usize,
        counts: &Arc<Counts>,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Self {
        let mut senders = Vec::with_capacity(lanes);
        for _ in 0..lanes {
            let (sender, sent) = mpsc::channel(WAITING);
            senders.push(sender);
            tasks.spawn(run_lane(repository.clone(), counts.clone(), sent));
        }
        Self { senders, dealt: HashMap::new() }
    }

    /// Waits for room in the lane; false if the lane has ended.
    pub(super) fn send(&mut self, fact: Fact<F>) -> bool {
        let next = self.dealt.len() % self.senders.len().max(1);
        let lane = match self.dealt.get(&fact.id) {
            Some(lane) => *lane,
            None => *self.dealt.entry(fact.id.clone()).or_insert(next),
        };
        self.senders.get(lane).is_some_and(|sender| sender.blocking_send(Sent::Fact(fact)).is_ok())
    }

    /// Waits until everything sent is recorded; false if a lane has ended.
    pub(super) async fn settle(&self) -> bool {
        let mut answers = Vec::with_capacity(self.senders.len());
        for sender in &self.senders {
            let (answer, settled) = oneshot::channel();
            if sender.send(Sent::Settle(answer)).await.is_err() {
                return false;
            }
            answers.push(settled);
        }
        for settled in answers {
            if settled.await.is_err() {
                return false;
            }
        }
        true
    }
}

/// A stream of a lane: where it stands, and how many rows more it has already.
struct Standing<F> {
    loaded: Loaded<F>,
    ahead: u64,
}

async fn run_lane<F: Aggregate>(
    repository: Repository<F>,
    counts: Arc<Counts>,
    mut sent: mpsc::Receiver<Sent<F>>,
) -> Result<()> {
    let mut standing: HashMap<String, Standing<F>> = HashMap::new();
    while let Some(sent) = sent.recv().await {
        let Fact { id, event, recorded_at } = match sent {
            Sent::Fact(fact) => fact,
            Sent::Settle(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(());
                continue;
            }
        };
        let Standing { loaded, ahead } = match standing.remove(&id) {
            Some(standing) => standing,
            None => {
                let loaded = repository.load(&id).await?;
                let ahead = loaded.version().0;
                Standing { loaded, ahead }
            }
        };
        let next = if ahead > 0 {
            counts.found.fetch_add(1, Ordering::Relaxed);
            Standing { loaded, ahead: ahead - 1 }
        } else {
            // The only holder of the state gives it away, so that it is changed in place.
            let receipt = repository.append(loaded, event).recorded_at(recorded_at).await?;
            counts.appended.fetch_add(1, Ordering::Relaxed);
            Standing { loaded: receipt.into_loaded(), ahead: 0 }
        };
        standing.insert(id, next);
    }
    Ok(())
}
