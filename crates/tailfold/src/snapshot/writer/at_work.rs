//! Whether a worker is at work, however it ended: a task that does not come to its end goes with its runtime.

use std::sync::Arc;

use tokio::sync::Notify;

use super::Writer;
use crate::fold::Fold;
use crate::panics::{Panicked, caught_in};
use crate::stats::Outcome;

/// What those wait for who wait for workers.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// A tier has nothing left to do.
    pub(super) room: Notify,
    /// A worker has nothing left to do.
    pub(super) idle: Notify,
    /// A snapshot was written, or was not.
    pub(super) saved: Notify,
}

/// Held by a worker's task; who has a `Weak` of it knows whether the task still is. What waits is left for the
/// next worker, which begins with the next snapshot or flush, on the runtime of its caller.
#[derive(Debug)]
pub(super) struct AtWork(Arc<Signals>);

impl AtWork {
    pub(super) fn new(signals: &Arc<Signals>) -> Arc<Self> {
        Arc::new(Self(signals.clone()))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.saved.notify_waiters();
        self.0.room.notify_one();
        self.0.idle.notify_waiters();
    }
}

impl<F: Fold> Writer<F> {
    /// The work of the worker that seals, or of a tier's.
    pub(super) async fn run(self: Arc<Self>, place: Option<usize>, _at_work: Arc<AtWork>) {
        let worked = match place {
            Some(place) => caught_in(self.run_errands(place)).await,
            None => caught_in(self.work()).await,
        };
        if let Err(panicked) = worked {
            self.give_up(place, &panicked);
        }
    }

    /// What panics besides the code that is caught where it is called (a clock, a recorder of metrics) would do
    /// so again: what waits is dropped, so that nobody waits for it.
    fn give_up(&self, place: Option<usize>, panicked: &Panicked) {
        let dropped = match place {
            Some(place) => self.empty_lane(place),
            None => self.empty_line(),
        };
        tracing::error!(fold = F::NAME, %panicked, dropped, "a writer of snapshots ended");
        (0..dropped).for_each(|_| self.dropped(Outcome::Failed));
    }
}
