//! How long an operation insists on an answer, and what is told where it gets none.
//!
//! An attempt has a part of the operation's time, and the rest of it where the server is at work on it: a
//! connection may have fallen silent, and another one would be answered. As soon as one attempt may have been
//! carried out, nothing that a later one meets says that nothing was done.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use tailfold::{Error, ErrorKind, Outcome, Result};
use tokio::time::{Instant, sleep, timeout_at};

use crate::connections::{Connection, Connections};
use crate::error::{Failure, too_late};
use crate::holders;
use crate::session::{Look, Session};

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// An attempt has this part of the operation's time before the server is asked whether it is at work on it.
const ATTEMPTS: u32 = 3;

/// Is committed when everything is where it must be that was recorded before. Where nobody is waited for, it
/// does nothing.
const CONFIRM: &str = "SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
                              THEN pg_logical_emit_message(true, 'tailfold', ''::text)::text END";

/// What is left of an operation's time, and growing pauses between its attempts.
pub(crate) struct Patience {
    connections: Connections,
    until: Instant,
    /// The longest that one attempt takes on which nobody is at work.
    part: Duration,
    next: Duration,
    /// A query for those who may hold it up, in a schema.
    holders: fn(&str) -> String,
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
            part: Self::part_of(deadline),
            next: SHORTEST_PAUSE,
            holders: holders::of_the_log,
            records: false,
            maybe_done: false,
            last: None,
        }
    }

    /// For what is recorded: whatever goes wrong after an attempt that may have been carried out leaves that open.
    pub(crate) fn to_record(connections: &Connections) -> Self {
        Self { records: true, ..Self::new(connections) }
    }

    /// The same, for what has the log for itself in the end: whoever has written into it holds it up.
    pub(crate) fn behind_writers(self) -> Self {
        Self { holders: holders::of_removals, ..self }
    }

    /// The part of a deadline that an attempt has.
    pub(crate) fn part_of(deadline: Duration) -> Duration {
        deadline / ATTEMPTS
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
        let session = connection.session();
        self.within(&session, pin!(request(connection))).await
    }

    /// What comes of a request in the time of one attempt.
    async fn within<T>(
        &self,
        session: &Session,
        mut request: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        loop {
            if let Ok(answer) = timeout_at(self.until.min(Instant::now() + self.part), &mut request).await {
                return answer;
            }
            if Instant::now() >= self.until {
                break;
            }
            let look = tokio::select! {
                biased;
                answer = &mut request => return answer,
                look = Box::pin(self.look(session)) => look,
            };
            if look != Look::AtWork {
                break;
            }
        }
        // Those that have answered somebody since are well; the others may have fallen silent with this one.
        self.connections.close_idle(Some(begun.elapsed()));
        Err(Failure::silent_since(begun))
    }

    /// Whether the server is at work on a request. Whoever holds that up is told of.
    async fn look(&self, session: &Session) -> Look {
        let look = self.connections.look(session).await;
        if look == Look::AtWork
            && let Some(holders) = self.holders().await
        {
            tracing::warn!(%holders, "PostgreSQL: no answer so far");
        }
        look
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
        let has_waited = matches!(failure, Failure::Silent(_) | Failure::Locked(_));
        let outcome = if failure.may_be_done() { Outcome::Unknown } else { Outcome::NotDone };
        let mut error = failure.into_error();
        if has_waited {
            if let Some(holders) = self.holders().await {
                error = Error::unavailable(outcome, format!("{error}: {holders}"));
            }
            tracing::warn!(%error, "PostgreSQL: once more");
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

    pub(crate) fn deadline(&self) -> Duration {
        self.connections.deadline()
    }

    /// Waits until what an earlier attempt has recorded is as durable as what is acknowledged. It may be seen
    /// without: whoever waits for a standby stops when it is cancelled, or its server starts again.
    pub(crate) async fn confirm(&mut self) -> Result<()> {
        self.maybe_done = true;
        loop {
            let sent = self.attempt(|connection| async move { connection.rows(CONFIRM, &[]).await });
            let Err(failure) = sent.await else { return Ok(()) };
            self.after(failure).await.map_err(|error| {
                let told = format!("it is recorded, and it is not known whether a standby has it: {error}");
                Error::unavailable(Outcome::Unknown, told)
            })?;
        }
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

    /// Who holds a lock that the operation may be waiting for, if that is found out at once.
    async fn holders(&self) -> Option<String> {
        let query = (self.holders)(self.connections.schema());
        holders::told(&Box::pin(self.connections.beside(&query, &[])).await?)
    }
}
