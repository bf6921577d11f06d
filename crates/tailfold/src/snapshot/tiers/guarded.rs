//! One tier at work: bounded in time, behind its breaker, counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Key, Label};
use serde::Serialize;
use tokio::time::timeout;

use super::breaker::{Breaker, Circuit, Pass, Turn};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::meter;
use crate::panics::{Panicked, caught_in};
use crate::snapshot::store::{Saved, SnapshotStore};

/// What became of one request to a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TierOutcome {
    Hit,
    Miss,
    Rejected,
    Stored,
    Superseded,
    Filled,
    Failed,
    TimedOut,
    BreakerOpen,
    QueueFull,
}

impl TierOutcome {
    const ALL: [Self; 10] = [
        Self::Hit,
        Self::Miss,
        Self::Rejected,
        Self::Stored,
        Self::Superseded,
        Self::Filled,
        Self::Failed,
        Self::TimedOut,
        Self::BreakerOpen,
        Self::QueueFull,
    ];

    /// What became of a save.
    pub(crate) const fn of_save(saved: Saved) -> Self {
        match saved {
            Saved::Stored { .. } => Self::Stored,
            Saved::Superseded(_) => Self::Superseded,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Rejected => "rejected",
            Self::Stored => "stored",
            Self::Superseded => "superseded",
            Self::Filled => "filled",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::BreakerOpen => "breaker_open",
            Self::QueueFull => "queue_full",
        }
    }
}

/// What one tier has done for a repository since that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TierStats {
    /// Its name.
    pub name: Arc<str>,
    /// Whether its breaker is open: it is left out until a probe succeeds.
    pub open: bool,
    /// Requests by outcome; outcomes that did not occur are left out.
    ///
    /// Loads: `hit`, `miss` (nothing there), `rejected` (nothing that serves). Saves: `stored`, `superseded`, `filled` (a
    /// copy of what a farther tier served), `queue_full`. Requests of every kind, removals and marks of use included:
    /// `failed`, `timed_out`, `breaker_open`.
    pub requests: BTreeMap<&'static str, u64>,
}

/// Why a tier gave no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    BreakerOpen,
    TimedOut(Duration),
    Failed(Error),
}

impl Failure {
    /// How it is counted.
    pub(crate) const fn outcome(&self) -> TierOutcome {
        match self {
            Self::BreakerOpen => TierOutcome::BreakerOpen,
            Self::TimedOut(_) => TierOutcome::TimedOut,
            Self::Failed(_) => TierOutcome::Failed,
        }
    }

    /// As an error for those who asked for this very tier.
    pub(crate) fn into_error(self, tier: &str) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::TimedOut(limit) => {
                Error::unavailable(Outcome::Unknown, format!("tier `{tier}` did not answer within {limit:?}"))
            }
            Self::BreakerOpen => {
                Error::unavailable(Outcome::NotDone, format!("the breaker of tier `{tier}` is open"))
            }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BreakerOpen => f.write_str("its breaker is open"),
            Self::TimedOut(limit) => write!(f, "no answer within {limit:?}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

fn panic_of(tier: &str, panicked: Panicked) -> Error {
    Error::unavailable(Outcome::Unknown, format!("tier `{tier}`")).caused_by(panicked)
}

/// A tier, its breaker and its counters, shared by whoever uses it.
#[derive(Debug)]
pub(crate) struct GuardedTier {
    name: Arc<str>,
    store: Arc<dyn SnapshotStore>,
    own: bool,
    timeout: Duration,
    circuit: Circuit,
    counts: [AtomicU64; TierOutcome::ALL.len()],
    keys: [Key; TierOutcome::ALL.len()],
    open_key: Key,
}

impl GuardedTier {
    pub(super) fn new(
        fold: &'static str,
        name: Arc<str>,
        store: Arc<dyn SnapshotStore>,
        own: bool,
        timeout: Duration,
        breaker: Breaker,
    ) -> Self {
        let (of_fold, of_tier) = (|| Label::new("fold", fold), || Label::new("tier", name.clone()));
        let keys = TierOutcome::ALL.map(|outcome| {
            let outcome = Label::new("outcome", outcome.as_str());
            meter::key("tailfold_tier_requests_total", [of_fold(), of_tier(), outcome])
        });
        let open_key = meter::key("tailfold_tier_open", [of_fold(), of_tier()]);
        let circuit = Circuit::new(breaker);
        Self { name, store, own, timeout, circuit, counts: Default::default(), keys, open_key }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// To be asked through [`GuardedTier::attempt`] or [`GuardedTier::insist`] only.
    pub(crate) fn store(&self) -> &dyn SnapshotStore {
        &*self.store
    }

    /// Whether this is the store of events.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// How long a load waits for it.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes a call unless the breaker is open. Counts the failures; what an answer means is for the caller to count.
    pub(crate) async fn attempt<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T, Failure> {
        match self.circuit.admit() {
            Some(pass) => self.make(pass, limit, call).await,
            None => {
                self.count(TierOutcome::BreakerOpen);
                Err(Failure::BreakerOpen)
            }
        }
    }

    /// Makes a call that somebody waits for, whatever the breaker says; it learns from it all the same.
    pub(crate) async fn insist<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T, Failure> {
        let pass = if self.circuit.is_open() { Pass::Probe } else { Pass::Ordinary };
        self.make(pass, limit, call).await
    }

    async fn make<T>(
        &self,
        pass: Pass,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T, Failure> {
        // A store that panics has failed: nothing about a snapshot may end a command, or a worker.
        let call =
            async { caught_in(call).await.unwrap_or_else(|panicked| Err(panic_of(&self.name, panicked))) };
        let (result, turn) = match timeout(limit, call).await {
            Ok(Ok(answer)) => (Ok(answer), self.circuit.succeeded(pass)),
            Ok(Err(error)) => {
                self.count(TierOutcome::Failed);
                // Whatever else it answers, it is there.
                let turn = match error.kind() {
                    ErrorKind::Unavailable(_) => self.circuit.failed(pass),
                    _ => self.circuit.succeeded(pass),
                };
                (Err(Failure::Failed(error)), turn)
            }
            Err(_) => {
                self.count(TierOutcome::TimedOut);
                (Err(Failure::TimedOut(limit)), self.circuit.failed(pass))
            }
        };
        match turn {
            Some(Turn::Opened) => {
                let why = result.as_ref().err().map(tracing::field::display);
                tracing::warn!(tier = %self.name, why, "breaker opened: tier left out");
                self.show_breaker();
            }
            Some(Turn::Closed) => {
                tracing::info!(tier = %self.name, "breaker closed: tier serves again");
                self.show_breaker();
            }
            None => {}
        }
        result
    }

    pub(crate) fn count(&self, outcome: TierOutcome) {
        if let Some(count) = self.counts.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(key) = self.keys.get(outcome as usize) {
            meter::count(key);
        }
    }

    pub(crate) fn stats(&self) -> TierStats {
        self.show_breaker();
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let requests = TierOutcome::ALL.iter().map(|outcome| outcome.as_str()).zip(counts);
        TierStats {
            name: self.name.clone(),
            open: self.circuit.is_open(),
            requests: requests.filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn show_breaker(&self) {
        meter::set(&self.open_key, f64::from(u8::from(self.circuit.is_open())));
    }
}
