//! Doing a request again until it is answered or the deadline passes.

use std::time::Duration;

use tailfold::{Error, Outcome, Result};
use tokio::time::{Instant, sleep, timeout_at};

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

    /// Waits for what others of this process hold.
    pub(crate) async fn wait_for<T>(self, free: impl Future<Output = T>) -> Result<T> {
        let waited = timeout_at(self.0, free).await;
        waited.map_err(|_| Error::unavailable(Outcome::NotDone, "others were under way until the deadline"))
    }

    /// Asks until there is an answer.
    pub(crate) async fn insist<T, F>(self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.repeat(attempt).await.map_err(|(failure, _)| failure.into_error(Outcome::NotDone))
    }

    /// Makes a change that may be made twice, until it is known to be made.
    pub(crate) async fn insist_on_change<T, F>(self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.repeat(attempt).await.map_err(|(failure, outcome)| failure.into_error(outcome))
    }

    async fn repeat<T, F>(self, attempt: impl Fn() -> F) -> std::result::Result<T, (Failure, Outcome)>
    where
        F: Future<Output = std::result::Result<T, Failure>>,
    {
        let (mut backoff, mut outcome) = (Backoff::new(), Outcome::NotDone);
        loop {
            let failure = match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if failure.may_be_done() {
                outcome = Outcome::Unknown;
            }
            if !failure.is_passing() || self.has_passed() {
                return Err((failure, outcome));
            }
            tracing::debug!(?failure, "asked again");
            backoff.pause().await;
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
