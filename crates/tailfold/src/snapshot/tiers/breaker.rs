//! Leaves a tier alone that fails again and again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

/// When a tier is left out, and for how long: its breaker opens after some failures in a row, then lets one call through
/// after each pause, until one succeeds.
///
/// A failure is a call that timed out or ended as unavailable; an answer that refuses what was asked is not. Each pause is
/// random between half of it and the whole, so that processes do not come back together. Loads and the background writer
/// of a repository share a tier's breaker; another repository has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// How many failures in a row open it; 0: it never opens. Default: 5.
    pub failures: u32,
    /// The first pause. Default: 500 ms.
    pub first_pause: Duration,
    /// The longest pause: each is twice as long as the one before it, up to here. Default: 30 s.
    pub longest_pause: Duration,
}

impl Breaker {
    /// Never opens: each call waits for the tier, however often it failed.
    pub const NEVER: Self =
        Self { failures: 0, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(30) };

    pub(super) fn check(&self) -> Result<()> {
        if self.longest_pause < self.first_pause {
            return Err(Error::invalid("breaker: `longest_pause` must be at least `first_pause`"));
        }
        Ok(())
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, ..Self::NEVER }
    }
}

/// The breaker of one tier, at work.
#[derive(Debug)]
pub(super) struct Circuit {
    settings: Breaker,
    /// In a row, since the last success.
    failures: AtomicU32,
    open: AtomicBool,
    // Meaningful while open; locked before `open` changes.
    pause: Mutex<Pause>,
}

#[derive(Debug)]
struct Pause {
    length: Duration,
    until: Instant,
}

/// The permission for one call, to be given back with its outcome. One that is lost with a dropped future does no harm:
/// after another pause another call probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// The breaker was closed.
    Ordinary,
    /// The breaker is open; this call decides.
    Probe,
}

/// What an outcome made of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Opened,
    Closed,
}

impl Circuit {
    pub(super) fn new(settings: Breaker) -> Self {
        Self {
            settings,
            failures: AtomicU32::new(0),
            open: AtomicBool::new(false),
            pause: Mutex::new(Pause { length: Duration::ZERO, until: Instant::now() }),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether a call may be made now.
    pub(super) fn admit(&self) -> Option<Pass> {
        if !self.is_open() {
            return Some(Pass::Ordinary);
        }
        let mut pause = self.lock();
        let now = Instant::now();
        if now < pause.until {
            return None;
        }
        // The next one, in case that this one never tells.
        pause.until = now + jittered(pause.length);
        Some(Pass::Probe)
    }

    pub(super) fn succeeded(&self, pass: Pass) -> Option<Turn> {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let _pause = self.lock();
        if self.is_open() && pass == Pass::Ordinary {
            // Begun before it opened: says nothing about now.
            return None;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.open.swap(false, Ordering::AcqRel).then_some(Turn::Closed)
    }

    pub(super) fn failed(&self, pass: Pass) -> Option<Turn> {
        if self.settings.failures == 0 {
            return None;
        }
        let mut pause = self.lock();
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        let opens = !self.is_open() && failures >= self.settings.failures;
        if opens {
            pause.length = self.settings.first_pause;
        } else if self.is_open() && pass == Pass::Probe {
            pause.length = (pause.length * 2).min(self.settings.longest_pause);
        } else {
            return None;
        }
        pause.until = Instant::now() + jittered(pause.length);
        self.open.store(true, Ordering::Release);
        opens.then_some(Turn::Opened)
    }

    fn lock(&self) -> MutexGuard<'_, Pause> {
        // Nothing panics while the lock is held.
        self.pause.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause};

    use super::*;

    fn opened() -> Circuit {
        let circuit = Circuit::new(Breaker::default());
        for _ in 0..4 {
            assert_eq!(circuit.failed(circuit.admit().unwrap()), None);
        }
        assert_eq!(circuit.failed(Pass::Ordinary), Some(Turn::Opened));
        circuit
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_only() {
        let circuit = Circuit::new(Breaker::default());
        for _ in 0..10 {
            for _ in 0..4 {
                assert_eq!(circuit.failed(Pass::Ordinary), None);
            }
            assert_eq!(circuit.succeeded(Pass::Ordinary), None);
        }
        assert_eq!(circuit.admit(), Some(Pass::Ordinary));
        assert!(opened().admit().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_probes_after_each_pause_which_doubles_up_to_the_longest() {
        let circuit = opened();
        let mut expected = Duration::from_millis(500);
        for _ in 0..10 {
            advance(expected / 2 - Duration::from_millis(1)).await;
            assert_eq!(circuit.admit(), None, "before half of {expected:?}");
            advance(expected / 2 + Duration::from_millis(1)).await;
            assert_eq!(circuit.admit(), Some(Pass::Probe), "after {expected:?}");
            assert_eq!(circuit.admit(), None, "one at a time");
            assert_eq!(circuit.failed(Pass::Probe), None);
            expected = (expected * 2).min(Duration::from_secs(30));
        }
        advance(expected).await;
        let probe = circuit.admit().unwrap();
        assert_eq!(circuit.succeeded(probe), Some(Turn::Closed));
        assert_eq!((circuit.admit(), circuit.is_open()), (Some(Pass::Ordinary), false));
        for _ in 0..4 {
            assert_eq!(circuit.failed(Pass::Ordinary), None, "counts from nothing again");
        }
        assert_eq!(circuit.failed(Pass::Ordinary), Some(Turn::Opened));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_or_an_old_call_that_ends_late_does_no_harm() {
        let circuit = opened();
        assert_eq!(circuit.succeeded(Pass::Ordinary), None);
        assert!(circuit.is_open(), "begun before it opened");
        advance(Duration::from_millis(500)).await;
        assert_eq!(circuit.admit(), Some(Pass::Probe));
        assert_eq!(circuit.failed(Pass::Ordinary), None);
        advance(Duration::from_millis(500)).await;
        assert_eq!(circuit.admit(), Some(Pass::Probe), "the first probe never told, the pause did not grow");
    }

    #[tokio::test]
    async fn it_never_opens_where_it_is_told_so() {
        pause();
        let circuit = Circuit::new(Breaker::NEVER);
        for _ in 0..1000 {
            assert_eq!(circuit.failed(circuit.admit().unwrap()), None);
        }
    }
}
