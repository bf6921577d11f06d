//! Connections, and how long an operation insists on an answer.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{Object, Pool, Timeouts, Transaction};
use tailfold::{Error, Outcome, Result};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage, Statement};

use crate::error::{Failure, too_late};

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(crate) type Values<'a> = [&'a (dyn ToSql + Sync)];

/// A pool of connections, all to the same database.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: Pool,
    deadline: Duration,
    /// Whether the pool is the store's own.
    own: bool,
}

/// One connection, for as long as it is held.
pub(crate) struct Connection {
    client: Object,
}

impl Connections {
    pub(crate) fn new(pool: Pool, deadline: Duration, own: bool) -> Self {
        Self { pool, deadline, own }
    }

    /// How long an operation is repeated that gets no answer.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) async fn get(&self) -> Result<Connection, Failure> {
        Ok(Connection { client: self.pool.get().await? })
    }

    /// One more beside those that are held; `None` if all are in use, or it cannot be had in that time.
    pub(crate) async fn another(&self, time: Duration) -> Option<Connection> {
        let at_once = Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
        let client = timeout(time, self.pool.timeout_get(&at_once)).await.ok()?.ok()?;
        Some(Connection { client })
    }

    /// The rows of one statement. Only for what may be done twice.
    pub(crate) async fn rows(&self, sql: &str, values: &Values<'_>) -> Result<Vec<Row>> {
        self.insist(|| async move { self.get().await?.rows(sql, values).await }).await
    }

    /// The only row of one statement. Only for what may be done twice.
    pub(crate) async fn row(&self, sql: &str, values: &Values<'_>) -> Result<Row> {
        let row = self.rows(sql, values).await?.pop();
        row.ok_or_else(|| Error::corrupt("the server answered with no row where there always is one"))
    }

    /// Tries until it succeeds or fails for good, at most until the deadline. Only for what may be done twice.
    pub(crate) async fn insist<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut patience = self.patience();
        loop {
            match timeout_at(patience.until, attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(Failure::Final(error))) => return Err(error),
                Ok(Err(failure)) => patience.pause(failure).await?,
                Err(_) => return Err(patience.exhausted(true)),
            }
        }
    }

    /// The time of one operation.
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            pool: self.pool.clone(),
            until: Instant::now() + self.deadline,
            deadline: self.deadline,
            next: SHORTEST_PAUSE,
            maybe_done: false,
            last: None,
        }
    }

    /// Ends the store's own connections.
    pub(crate) fn close(&self) {
        if self.own {
            self.pool.close();
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Runs a statement in one round trip; the first time on this connection in two.
    pub(crate) async fn rows(&self, sql: &str, values: &Values<'_>) -> Result<Vec<Row>, Failure> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.query(&statement, values).await?)
    }

    /// Runs a statement without values, and without preparing it.
    pub(crate) async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Failure> {
        Ok(self.client.simple_query(sql).await?)
    }

    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        self.client.prepare_cached(sql).await.map_err(|error| match Failure::from(error) {
            // Preparing does nothing.
            Failure::Lost(error) => Failure::NotSent(error),
            other => other,
        })
    }

    pub(crate) fn client(&mut self) -> &mut Object {
        &mut self.client
    }

    /// Ends it, where it may be in the middle of something that nobody waits for any more.
    pub(crate) fn abandon(self) {
        drop(Object::take(self.client));
    }

    /// A transaction whose statements may take as long as they take.
    pub(crate) async fn transaction_at_leisure(&mut self) -> Result<Transaction<'_>, Failure> {
        let transaction = self.client.transaction().await?;
        transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
        Ok(transaction)
    }
}

/// What is left of an operation's time, and growing pauses between its attempts.
pub(crate) struct Patience {
    pool: Pool,
    pub(crate) until: Instant,
    deadline: Duration,
    next: Duration,
    /// Whether some attempt may have been carried out.
    maybe_done: bool,
    last: Option<Error>,
}

impl Patience {
    /// Notes how an attempt failed and rests before the next; the error if there is no time for one.
    pub(crate) async fn pause(&mut self, failure: Failure) -> Result<()> {
        self.maybe_done |= matches!(failure, Failure::Lost(_));
        if matches!(failure, Failure::NotPrimary(_)) {
            // New connections lead to whoever is the primary now.
            self.pool.retain(|_, _| false);
        }
        let raced = matches!(failure, Failure::Raced);
        tracing::debug!(?failure, "PostgreSQL: once more");
        self.last = Some(failure.into_error());
        let pause = if raced { Duration::ZERO } else { self.next.mul_f64(0.5 + fastrand::f64()) };
        if Instant::now() + pause >= self.until {
            return Err(self.exhausted(false));
        }
        sleep(pause).await;
        if !raced {
            self.next = (self.next * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// Notes that an attempt may have been carried out.
    pub(crate) fn may_be_done(&mut self) {
        self.maybe_done = true;
    }

    /// The error after the last attempt; `in_flight`: it got no answer.
    pub(crate) fn exhausted(&self, in_flight: bool) -> Error {
        let outcome = if self.maybe_done || in_flight { Outcome::Unknown } else { Outcome::NotDone };
        match &self.last {
            Some(last) if !in_flight => {
                Error::unavailable(outcome, format!("gave up after {:?}: {last}", self.deadline))
            }
            _ => too_late(self.deadline, outcome),
        }
    }
}
