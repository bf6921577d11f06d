//! A follower of the log: in the end it must have seen every event once, in order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tailfold::{EventId, EventStore as _, Filter, Follow, Position};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::client::{Client, is_unavailable};

pub(crate) struct LiveReader {
    task: JoinHandle<()>,
    seen: Arc<Mutex<Vec<(Position, EventId)>>>,
}

impl LiveReader {
    pub(crate) fn start(client: &Arc<Client>) -> Self {
        let seen = Arc::default();
        let task = tokio::spawn(follow(client.clone(), Arc::clone(&seen)));
        Self { task, seen }
    }

    /// Waits until it has seen that many events, for a while, then stops it. Answers what it has seen.
    pub(crate) async fn finish(self, events: usize) -> Vec<(Position, EventId)> {
        let count = || self.seen.lock().unwrap_or_else(PoisonError::into_inner).len();
        for _ in 0..600 {
            if count() >= events || self.task.is_finished() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        // What should not come would come now.
        sleep(Duration::from_millis(200)).await;
        self.task.abort();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn follow(client: Arc<Client>, seen: Arc<Mutex<Vec<(Position, EventId)>>>) {
    let mut after = Position::ZERO;
    loop {
        let mut log = client.store.read_all(after, Filter::all(), Follow::Live);
        let error = loop {
            match log.try_next().await {
                Ok(Some(batch)) => {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.extend(batch.events.iter().map(|event| (event.position, event.data.id)));
                    after = batch.checked_to;
                }
                Ok(None) => {
                    client.truth.violation("a live read came to an end".to_owned());
                    return;
                }
                Err(error) => break error,
            }
        };
        if !is_unavailable(&error) {
            client.truth.violation(format!("live read after {after}: {error}"));
            return;
        }
        client.truth.count(|counts| counts.live_restarts += 1);
    }
}
