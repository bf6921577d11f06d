//! Doing a request again until it is answered or the deadline passes.

use std::time::Duration;

use tailfold::{Outcome, Result};
use tokio::time::{Instant, sleep};

use crate::wire::Failure;

/// When an operation gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

/// The pauses between attempts: 5 ms, doubling up to half a second.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Deadline {
    pub(crate) fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    pub(crate) fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }

    /// Does what changes nothing, or what may be done twice, until it is answered.
    pub(crate) async fn insist<T, F>(self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut backoff = Backoff::new();
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) if failure.is_passing() && !self.has_passed() => {
                    tracing::debug!(?failure, "asked again");
                    backoff.pause().await;
                }
                Err(failure) => return Err(failure.into_error(Outcome::NotDone)),
            }
        }
    }
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(Duration::from_millis(5))
    }

    pub(crate) async fn pause(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_millis(500));
    }
}
