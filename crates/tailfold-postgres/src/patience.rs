//! How long an operation insists on an answer, and what is told where it gets none.
//!
//! An attempt has a part of the operation's time: a connection may have fallen silent, and another one would be answered.
//! As soon as one attempt may have been carried out, nothing that a later one meets says that nothing was done.

use std::future::Future;
use std::time::Duration;

use tailfold::{Error, ErrorKind, Outcome, Result};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connections::{Connection, Connections};
use crate::error::{Failure, too_late};
use crate::holders;

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// An attempt has this part of the operation's time.
const ATTEMPTS: u32 = 3;
/// How long it may take to find out who holds an operation up.
const LOOK: Duration = Duration::from_secs(2);

/// What is left of an operation's time, and growing pauses between its attempts.
pub(crate) struct Patience {
    connections: Connections,
    until: Instant,
    /// The longest that one attempt takes.
    part: Duration,
    next: Duration,
    /// Whether nothing but the answer to one of its attempts says that the operation was not carried out.
    records: bool,
    /// Whether some attempt may have been carried out.
    maybe_done: bool,
    last: Option<Error>,
}

impl Patience {
    /// For what changes nothing, or may be done twice.
    pub(crate) fn new(connections: &Connections) -> Self {
        let deadline = connections.deadline();
        Self {
            connections: connections.clone(),
            until: Instant::now() + deadline,
            part: deadline / ATTEMPTS,
            next: SHORTEST_PAUSE,
            records: false,
            maybe_done: false,
            last: None,
        }
    }

    /// For what is recorded: whatever goes wrong after an attempt that may have been carried out leaves that open.
    pub(crate) fn to_record(connections: &Connections) -> Self {
        Self { records: true, ..Self::new(connections) }
    }

    /// The same, where one attempt may take all of the time.
    pub(crate) fn at_leisure(self) -> Self {
        Self { part: self.connections.deadline(), ..self }
    }

    /// A connection for an attempt.
    pub(crate) async fn connection(&self) -> Result<Connection, Failure> {
        self.connections.get_before(self.until, self.part).await
    }

    /// One attempt, on a connection of its own.
    pub(crate) async fn attempt<T, F>(&self, request: impl FnOnce(Connection) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let connection = self.connection().await?;
        self.within(request(connection)).await
    }

    /// What comes of a request in the time of one attempt.
    pub(crate) async fn within<T>(
        &self,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let end = self.until.min(begun + self.part);
        match timeout_at(end, request).await {
            Ok(answer) => answer,
            Err(_) => {
                let waited = begun.elapsed();
                // Those that have answered somebody since are well; the others may have fallen silent with this one.
                self.connections.close_idle(Some(waited));
                Err(Failure::Silent(Duration::from_millis(waited.as_millis() as u64)))
            }
        }
    }

    /// Notes how an attempt failed and rests before the next; the error if that makes no sense, or there is no time for one.
    pub(crate) async fn after(&mut self, failure: Failure) -> Result<()> {
        self.maybe_done |= failure.may_be_done();
        let pause = match &failure {
            Failure::Final(_) => return Err(self.verdict(failure.into_error())),
            Failure::Raced | Failure::Silent(_) => Duration::ZERO,
            Failure::NotPrimary(_) => {
                // New connections lead to whoever is the primary now.
                self.connections.close_idle(None);
                self.grown_pause()
            }
            _ => self.grown_pause(),
        };
        let is_silent = matches!(failure, Failure::Silent(_));
        let mut error = failure.into_error();
        if is_silent {
            if let Some(holders) = self.holders().await {
                error = Error::unavailable(Outcome::Unknown, format!("{error}: {holders}"));
            }
            tracing::warn!(%error, "PostgreSQL: once more, on another connection");
        } else {
            tracing::debug!(%error, "PostgreSQL: once more");
        }
        self.last = Some(error);
        if Instant::now() + pause >= self.until {
            return Err(self.exhausted());
        }
        sleep(pause).await;
        Ok(())
    }

    /// What is told of an error that ends the operation.
    pub(crate) fn verdict(&self, error: Error) -> Error {
        let is_not_done = matches!(error.kind(), ErrorKind::Unavailable(Outcome::NotDone));
        if self.maybe_done && (self.records || is_not_done) {
            let told = format!("an attempt may have been carried out, and one after it failed: {error}");
            return Error::unavailable(Outcome::Unknown, told);
        }
        error
    }

    /// Notes that an attempt may have been carried out.
    pub(crate) fn may_be_done(&mut self) {
        self.maybe_done = true;
    }

    /// Does not count what took so long and was meant to.
    pub(crate) fn extend(&mut self, by: Duration) {
        self.until += by;
    }

    fn grown_pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64());
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        pause
    }

    /// The error after the last attempt.
    fn exhausted(&self) -> Error {
        let outcome = if self.maybe_done { Outcome::Unknown } else { Outcome::NotDone };
        let deadline = self.connections.deadline();
        match &self.last {
            Some(last) => Error::unavailable(outcome, format!("gave up after {deadline:?}: {last}")),
            None => too_late(deadline, outcome),
        }
    }

    /// Who holds a lock that an operation may be waiting for, if that is found out at once.
    async fn holders(&self) -> Option<String> {
        let find = async {
            let connection = self.connections.get().await.ok()?;
            let found = connection.rows(&holders::of_the_log(self.connections.schema()), &[]).await.ok()?;
            holders::told(&found)
        };
        timeout(LOOK.min(self.part), find).await.ok().flatten()
    }
}
