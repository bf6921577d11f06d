//! A connection that comes back: made when it is needed, given up when it is dead, by whoever finds out.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::{Cmd, Pipeline, Value};
use tailfold::{Outcome, Result};

use crate::config::Host;
use crate::error::Failure;
use crate::scripts::StepCall;
use crate::servers::{Connection, Servers};

/// One connection, shared by all requests of its kind.
pub(crate) struct Link {
    servers: Arc<Servers>,
    timeout: Duration,
    connect_timeout: Duration,
    current: Arc<Mutex<Current>>,
}

struct Current {
    // Tells whether the connection that somebody found dead is still the one in use.
    number: u64,
    attempt: Option<Attempt>,
    since: Instant,
    // Since when nothing was answered, although something was asked.
    silent_since: Option<Instant>,
}

impl Current {
    fn none(number: u64) -> Self {
        Self { number, attempt: None, since: Instant::now(), silent_since: None }
    }

    /// The next one who needs a connection makes a new one. Others may still wait for their answers on the old one.
    fn give_up(&mut self, number: u64) {
        if self.number == number {
            *self = Self::none(number + 1);
        }
    }
}

/// An attempt to connect, or its result. All who need it wait for the same one.
type Attempt = Shared<BoxFuture<'static, Result<Connection, Failure>>>;

/// What is sent.
pub(crate) enum Request<'a> {
    Step(&'a StepCall),
    Commands(&'a Pipeline),
    /// To one node of a cluster; to the server, if there is but one.
    Node(Option<&'a Host>, &'a Cmd),
}

/// Whether a request may be sent again on another connection, if it is not known to have been served.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing.
    Read,
    /// Twice is as good as once.
    Idempotent,
    /// The answer would be wrong the second time.
    Once,
}

impl Link {
    pub(crate) fn new(servers: Arc<Servers>, timeout: Duration, connect_timeout: Duration) -> Self {
        Self { servers, timeout, connect_timeout, current: Arc::new(Mutex::new(Current::none(0))) }
    }

    /// Sends a request and waits for the answer, connecting if need be, within the timeout.
    pub(crate) async fn call(&self, request: Request<'_>, effect: Effect) -> Result<Vec<Value>> {
        let lost = if effect == Effect::Read { Outcome::NotDone } else { Outcome::Unknown };
        let answered = tokio::time::timeout(self.timeout, self.send(&request, effect)).await;
        let timed_out = || Err(Failure::TimedOut(self.timeout.as_millis()));
        answered.unwrap_or_else(|_| timed_out()).map_err(|failure| failure.public(lost))
    }

    /// Connects, unless that is done.
    pub(crate) async fn connect(&self) -> Result<()> {
        let (_, attempt) = self.attempt();
        attempt.await.map(drop).map_err(|failure| failure.public(Outcome::NotDone))
    }

    /// Sends a request; once more where the connection turns out to have died in the meantime.
    async fn send(&self, request: &Request<'_>, effect: Effect) -> Result<Vec<Value>, Failure> {
        let mut again = effect != Effect::Once;
        loop {
            let (number, attempt) = self.attempt();
            let connection = attempt.await.inspect_err(|_| locked(&self.current).give_up(number))?;
            let cluster = connection.is_cluster();
            match self.send_on(connection, number, request).await {
                Err(failure) => {
                    match failure {
                        _ if cluster && !failure.ends_cluster() => {}
                        _ if failure.ends_connection() => locked(&self.current).give_up(number),
                        _ if failure.is_of_replica() => self.look_for_primary(number),
                        _ => {}
                    }
                    if !again || !failure.is_dead_connection() {
                        return Err(failure);
                    }
                    again = false;
                }
                Ok(values) => {
                    let refusals = values.iter().filter_map(Failure::in_answer);
                    if !cluster && refusals.into_iter().any(|refusal| refusal.is_of_replica()) {
                        self.look_for_primary(number);
                    }
                    return Ok(values);
                }
            }
        }
    }

    async fn send_on(
        &self,
        mut connection: Connection,
        number: u64,
        request: &Request<'_>,
    ) -> Result<Vec<Value>, Failure> {
        // A cluster looks after the connections to its nodes itself.
        let mut waiting =
            (!connection.is_cluster()).then(|| Waiting { link: self, number, since: Instant::now() });
        let sent = request.send_on(&mut connection).await;
        if let Some(waiting) = waiting.take() {
            waiting.answered();
        }
        sent
    }

    fn attempt(&self) -> (u64, Attempt) {
        let mut current = locked(&self.current);
        let number = current.number;
        let attempt = current.attempt.get_or_insert_with(|| self.begin(number));
        (number, attempt.clone())
    }

    /// Connects in a task of its own, so that whoever stops waiting stops nobody else. A failure is for those who wait now, and
    /// not for who comes later.
    fn begin(&self, number: u64) -> Attempt {
        let (servers, current) = (self.servers.clone(), self.current.clone());
        let patience = servers.patience(self.connect_timeout);
        let task = tokio::spawn(async move {
            let connected = tokio::time::timeout(patience, servers.connect()).await;
            let connected = connected.unwrap_or(Err(Failure::ConnectTimedOut(patience.as_millis())));
            if connected.is_err() {
                locked(&current).give_up(number);
            }
            connected
        });
        task.map(|ended| ended.unwrap_or(Err(Failure::Ended))).boxed().shared()
    }

    /// Connects anew to where the primary may be found by now; not all the time, as a replica serves loads.
    fn look_for_primary(&self, number: u64) {
        let mut current = locked(&self.current);
        if current.since.elapsed() >= self.connect_timeout {
            current.give_up(number);
        }
    }
}

fn locked(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request without an answer yet. A cut cable does not tell: where whoever asks gives up again and again, for as long as the
/// timeout, the connection is given up, however short their own patience is.
struct Waiting<'a> {
    link: &'a Link,
    number: u64,
    since: Instant,
}

impl Waiting<'_> {
    fn answered(self) {
        let mut current = locked(&self.link.current);
        if current.number == self.number {
            current.silent_since = None;
        }
        drop(current);
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut current = locked(&self.link.current);
        if current.number != self.number {
            return;
        }
        let silent_since = *current.silent_since.get_or_insert(self.since);
        if silent_since.elapsed() >= self.link.timeout {
            current.give_up(self.number);
        }
    }
}

impl Request<'_> {
    async fn send_on(&self, connection: &mut Connection) -> Result<Vec<Value>, Failure> {
        let value = match self {
            Self::Commands(commands) => return Ok(connection.send_all(commands).await?),
            Self::Node(node, command) => connection.send_to(*node, command).await?,
            Self::Step(call) => match connection.send(&call.by_hash()).await.map_err(Failure::from) {
                Err(failure) if failure.is_unknown_script() => connection.send(&call.whole()).await?,
                value => value?,
            },
        };
        Ok(vec![value])
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connected = locked(&self.current).attempt.is_some();
        f.debug_struct("Link").field("connected", &connected).finish_non_exhaustive()
    }
}
