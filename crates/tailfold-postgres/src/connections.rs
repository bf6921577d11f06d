//! Connections, each of which is lent again only when all that was asked on it is answered.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, Timeouts, Transaction};
use tailfold::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::dialer::Dialer;
use crate::error::Failure;
use crate::patience::Patience;
use crate::session::{IS_AT_WORK, Look, ON_ITS_WAY, OWN_PROCESS, Session, Sessions};

/// How long the answer to a request that was given up is waited for. After that the connection is closed.
const GRACE: Duration = Duration::from_secs(1);
/// The longest time in which the server hears nothing of a transaction that is open.
const LONGEST_IDLE: Duration = Duration::from_secs(5);
/// The longest time for which a removal waits for a lock: whoever comes after it waits behind it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long it may take to ask beside an operation what holds it up.
const LOOK: Duration = Duration::from_secs(2);

pub(crate) type Values<'a> = [&'a (dyn ToSql + Sync)];

/// A pool of connections, all to the same database.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: Pool,
    /// Quoted.
    schema: Arc<str>,
    deadline: Duration,
    /// Where the pool is the store's own: how to speak to its server besides.
    own: Option<Dialer>,
    sessions: Sessions,
    /// Whoever asks beside an operation does so alone: many may be held up by the same.
    looks: Arc<Semaphore>,
}

impl Connections {
    pub(crate) fn new(pool: Pool, schema: String, deadline: Duration, own: Option<Dialer>) -> Self {
        let looks = Arc::new(Semaphore::new(1));
        Self { pool, schema: schema.into(), deadline, own, sessions: Sessions::default(), looks }
    }

    fn lend(&self, client: Object) -> Connection {
        let session = self.sessions.of(&client);
        let server = self.own.as_ref().map(|dialer| dialer.tls().clone());
        let suspect = Suspect { client: Some(client), server };
        let unanswered = AtomicBool::new(false);
        Connection { suspect: Some(suspect), session, lent: Instant::now(), unanswered }
    }

    /// How long an operation is repeated that gets no answer.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The schema that they are used for, quoted.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// A connection, however long it takes until one is free.
    pub(crate) async fn get(&self) -> Result<Connection, Failure> {
        Ok(self.lend(self.pool.get().await?))
    }

    /// A connection that is free before `until`. To open one takes a part of that at most: others may be faster.
    pub(crate) async fn get_before(&self, until: Instant, part: Duration) -> Result<Connection, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        // A pool of somebody else may have no timer.
        let opened_in = self.own.as_ref().map(|_| part.min(left));
        let limits = Timeouts { wait: None, create: opened_in, recycle: opened_in };
        match timeout_at(until, self.pool.timeout_get(&limits)).await {
            Ok(client) => Ok(self.lend(client?)),
            Err(_) => Err(Failure::none_free(self.deadline)),
        }
    }

    /// One more beside those that are held; `None` if all are in use, or it cannot be had in that time.
    pub(crate) async fn another(&self, time: Duration) -> Option<Connection> {
        let at_once = Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
        let client = timeout(time, self.pool.timeout_get(&at_once)).await.ok()?.ok()?;
        Some(self.lend(client))
    }

    /// The rows of a statement about what an operation meets, if they are to be had at once. Those who wait
    /// may hold all connections of the pool, and idle ones may be silent: where it can be, a new one is
    /// opened.
    pub(crate) async fn beside(&self, sql: &str, values: &Values<'_>) -> Option<Vec<Row>> {
        let ask = async {
            let _alone = self.looks.acquire().await.ok()?;
            match &self.own {
                Some(dialer) => dialer.ask(sql, values).await,
                None => self.get().await.ok()?.rows(sql, values).await.ok(),
            }
        };
        timeout(LOOK.min(Patience::part_of(self.deadline)), ask).await.ok().flatten()
    }

    /// Whether the server is at work in a session.
    pub(crate) async fn look(&self, session: &Session) -> Look {
        // Not even that it has told.
        let Some(process) = session.process() else { return Look::Idle };
        let on_its_way = ON_ITS_WAY.min(Patience::part_of(self.deadline) / 2).as_secs_f64();
        let found = self.beside(IS_AT_WORK, &[&process, &on_its_way]).await;
        found.map_or(Look::Unknown, |found| Look::of(&found))
    }

    /// Waits for what may take as long as the server is at work on it.
    pub(crate) async fn while_at_work<T>(
        &self,
        session: &Session,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::pin!(work);
        let mut known = Instant::now();
        loop {
            if let Ok(done) = timeout(Patience::part_of(self.deadline), &mut work).await {
                return done;
            }
            let look = tokio::select! {
                biased;
                done = &mut work => return done,
                look = Box::pin(self.look(session)) => look,
            };
            match look {
                Look::AtWork => known = Instant::now(),
                Look::Unknown if known.elapsed() < self.deadline => {}
                Look::Idle | Look::Unknown => return Err(Failure::silent_since(known)),
            }
        }
    }

    /// The rows of one statement. Only for what may be done twice.
    pub(crate) async fn rows(&self, sql: &str, values: &Values<'_>) -> Result<Vec<Row>> {
        self.insist(|connection| async move { connection.rows(sql, values).await }).await
    }

    /// The only row of one statement. Only for what may be done twice.
    pub(crate) async fn row(&self, sql: &str, values: &Values<'_>) -> Result<Row> {
        let row = self.rows(sql, values).await?.pop();
        row.ok_or_else(|| Error::corrupt("the server answered with no row where there always is one"))
    }

    /// Tries until it succeeds or fails for good, at most until the deadline. Only for what may be done twice.
    pub(crate) async fn insist<T, F>(&self, attempt: impl Fn(Connection) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.insist_with(Patience::new(self), attempt).await
    }

    pub(crate) async fn insist_with<T, F>(
        &self,
        mut patience: Patience,
        attempt: impl Fn(Connection) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        loop {
            match patience.attempt(&attempt).await {
                Ok(done) => return Ok(done),
                Err(failure) => patience.after(failure).await?,
            }
        }
    }

    /// Closes the idle connections that nobody has borrowed for so long, if it is given.
    pub(crate) fn close_idle(&self, unused_for: Option<Duration>) {
        self.pool.retain(|_, metrics| unused_for.is_some_and(|unused| metrics.last_used() < unused));
    }

    /// Ends the store's own connections.
    pub(crate) fn close(&self) {
        if self.own.is_some() {
            self.pool.close();
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

/// One connection, for as long as it is held.
pub(crate) struct Connection {
    /// `None` while it is being dropped.
    suspect: Option<Suspect>,
    session: Session,
    lent: Instant,
    /// Whether something was asked, and the answer is not there.
    unanswered: AtomicBool,
}

impl Connection {
    fn object(&self) -> &Object {
        let client = self.suspect.as_ref().and_then(|suspect| suspect.client.as_ref());
        client.expect("it is there until it is dropped")
    }

    /// The server's session, which another connection can ask for once something was asked on this one.
    pub(crate) fn session(&self) -> Session {
        self.session.clone()
    }

    /// Runs a statement in one round trip; the first time on this connection in two.
    pub(crate) async fn rows(&self, sql: &str, values: &Values<'_>) -> Result<Vec<Row>, Failure> {
        let statement = self.prepare(sql).await?;
        self.query(&statement, values).await
    }

    /// Runs a statement, the first time on this connection only if `check` says so; otherwise there are no rows.
    pub(crate) async fn rows_checked<F>(
        &self,
        sql: &str,
        values: &Values<'_>,
        check: impl FnOnce() -> F,
    ) -> Result<Vec<Row>, Failure>
    where
        F: Future<Output = Result<bool, Failure>>,
    {
        let prepared = self.object().statement_cache.size();
        let statement = self.prepare(sql).await?;
        if self.object().statement_cache.size() > prepared {
            let checked = check().await;
            if !matches!(checked, Ok(true)) {
                self.object().statement_cache.remove(sql, &[]);
            }
            if !checked? {
                return Ok(Vec::new());
            }
        }
        self.query(&statement, values).await
    }

    async fn query(&self, statement: &Statement, values: &Values<'_>) -> Result<Vec<Row>, Failure> {
        self.unanswered.store(true, Ordering::Release);
        let answer = self.object().query(statement, values).await;
        self.settled();
        Ok(answer?)
    }

    /// Runs a statement without values, and without preparing it.
    pub(crate) async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Failure> {
        self.unanswered.store(true, Ordering::Release);
        let answer = self.object().simple_query(sql).await;
        self.settled();
        Ok(answer?)
    }

    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        self.unanswered.store(true, Ordering::Release);
        let prepared = match self.session.process() {
            Some(_) => self.object().prepare_cached(sql).await,
            // Sent together: the first time takes no longer.
            None => {
                let both = async { tokio::join!(self.learn_session(), self.object().prepare_cached(sql)).1 };
                Box::pin(both).await
            }
        };
        self.settled();
        // Preparing does nothing.
        prepared.map_err(|error| Failure::from(error).of_nothing_done())
    }

    async fn learn_session(&self) {
        if self.session.process().is_some() {
            return;
        }
        // Whatever goes wrong with it goes wrong with what is sent after it.
        if let Ok(messages) = self.object().simple_query(OWN_PROCESS).await {
            self.note_session(&messages);
        }
    }

    fn note_session(&self, messages: &[SimpleQueryMessage]) {
        let processes = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        if let Some(process) = processes.last() {
            self.session.served_by(process);
        }
    }

    /// For more than one statement. Whoever is done with it says so by [`settled`](Self::settled).
    pub(crate) fn client(&mut self) -> &mut Object {
        self.unanswered.store(true, Ordering::Release);
        let client = self.suspect.as_mut().and_then(|suspect| suspect.client.as_mut());
        client.expect("it is there until it is dropped")
    }

    /// All that was asked is answered, and no transaction is open.
    pub(crate) fn settled(&self) {
        self.unanswered.store(false, Ordering::Release);
    }

    /// A transaction whose statements may take as long as they take, but for the time that they wait for
    /// locks: whoever comes after them would wait, too. In between the server ends it where it hears nothing:
    /// it may hold up others, and whoever has begun it may be gone.
    pub(crate) async fn transaction_at_leisure(
        &mut self,
        deadline: Duration,
    ) -> Result<Transaction<'_>, Failure> {
        self.unanswered.store(true, Ordering::Release);
        self.learn_session().await;
        let transaction = self.client().transaction().await?;
        let settings = format!("SET LOCAL statement_timeout = 0; {}", limits(deadline));
        transaction.batch_execute(&settings).await?;
        Ok(transaction)
    }
}

/// Statements that limit how long the server waits for the next statement of a transaction, and a statement
/// for a lock.
pub(crate) fn limits(deadline: Duration) -> String {
    let lock = lock_limit(deadline).as_millis().max(1);
    format!("{}; SET LOCAL lock_timeout = {lock}", idle_limit(deadline))
}

/// How long a statement of such a transaction waits for a lock.
pub(crate) fn lock_limit(deadline: Duration) -> Duration {
    Patience::part_of(deadline).min(LONGEST_WAIT)
}

/// A statement that limits how long the server waits for the next one of a transaction.
pub(crate) fn idle_limit(deadline: Duration) -> String {
    let limit = deadline.min(LONGEST_IDLE).as_millis().max(1);
    format!("SET LOCAL idle_in_transaction_session_timeout = {limit}")
}

impl Drop for Connection {
    /// Whoever gave a request up may leave a connection behind on which the next one would wait for its answer, or for nobody.
    fn drop(&mut self) {
        let Some(mut suspect) = self.suspect.take() else { return };
        if !self.unanswered.load(Ordering::Acquire) {
            suspect.acquit();
        } else if self.lent.elapsed() < GRACE
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(suspect.answer());
        }
    }
}

/// A connection that is closed, and what runs on it cancelled, unless it answers.
struct Suspect {
    client: Option<Object>,
    /// How to speak to its server besides, where that is known.
    server: Option<MakeRustlsConnect>,
}

impl Suspect {
    /// What is asked now is answered after all that was asked before.
    async fn answer(mut self) {
        let Some(client) = &self.client else { return };
        if matches!(timeout(GRACE, client.simple_query("")).await, Ok(Ok(_))) {
            // What is checked when a statement is prepared may not have been.
            client.statement_cache.clear();
            self.acquit();
        }
    }

    /// Back to the pool.
    fn acquit(&mut self) {
        self.client = None;
    }
}

impl Drop for Suspect {
    fn drop(&mut self) {
        let Some(client) = self.client.take().map(Object::take) else { return };
        if let (Some(server), Ok(runtime)) = (self.server.take(), Handle::try_current()) {
            // The server does not notice that nobody listens while a statement waits for somebody's lock.
            let running = client.cancel_token();
            runtime.spawn(async move {
                let cancelled = timeout(GRACE, running.cancel_query(server)).await;
                tracing::debug!(?cancelled, "PostgreSQL: a request was given up");
            });
        }
    }
}
