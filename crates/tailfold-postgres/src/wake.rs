//! Who has recorded something tells those who follow the log, in this process and in others.
//!
//! Notifications are sent after the commit and apart from it: inside, they would make all commits of the database wait for each
//! other. One that is lost is made up for by a look every now and then.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tailfold::{Position, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::AsyncMessage;

use crate::dialer::Dialer;
use crate::error::Failure;
use crate::frontier;
use crate::patience::Patience;
use crate::store::Inner;
use crate::went_back::went_back;

/// Between two notifications of one process.
const TOLD_AT_MOST_EVERY: Duration = Duration::from_millis(10);
/// Between two looks for the frontier.
const LOOKED_AT_MOST_EVERY: Duration = Duration::from_millis(1);
/// Between two attempts to listen.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Nobody else has to be told of anything; somebody is telling; and something happened meanwhile.
const IDLE: u8 = 0;
const TELLING: u8 = 1;
const AGAIN: u8 = 2;

#[derive(Debug)]
pub(crate) struct Wake {
    channel: String,
    telling: AtomicU8,
    recorded: watch::Sender<u64>,
    follower: Mutex<Weak<Follower>>,
}

/// Follows the frontier for all live reads of a store; its tasks end with the last of them.
#[derive(Debug)]
pub(crate) struct Follower {
    progress: watch::Receiver<Result<Position>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Wake {
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            channel: format!("tailfold_{schema}"),
            telling: AtomicU8::new(IDLE),
            recorded: watch::Sender::new(0),
            follower: Mutex::default(),
        }
    }

    /// After a commit of this process: wakes its own followers at once, those of others in a task of its own.
    pub(crate) fn tell(inner: &Arc<Inner>) {
        inner.wake.recorded.send_modify(|times| *times += 1);
        if inner.wake.telling.swap(AGAIN, Ordering::AcqRel) == IDLE {
            let inner = inner.clone();
            tokio::spawn(async move { inner.wake.notify(&inner).await });
        }
    }

    async fn notify(&self, inner: &Inner) {
        loop {
            self.telling.store(TELLING, Ordering::Release);
            // The commit of a notification would wait for the disk, and appends behind it.
            let notify = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, '')";
            let told = Patience::new(&inner.connections)
                .attempt(|connection| async move { connection.rows(notify, &[&self.channel]).await })
                .await;
            if let Err(failure) = told {
                tracing::debug!(?failure, "others were not notified: they will look for themselves");
            }
            sleep(TOLD_AT_MOST_EVERY).await;
            let done = self.telling.compare_exchange(TELLING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if done.is_ok() {
                return;
            }
        }
    }

    /// Joins those who follow the log.
    pub(crate) fn follow(inner: &Arc<Inner>) -> Arc<Follower> {
        let mut follower = inner.wake.follower.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(follower) = follower.upgrade().filter(|follower| !follower.has_ended()) {
            return follower;
        }
        let new = Arc::new(Follower::start(inner));
        *follower = Arc::downgrade(&new);
        new
    }

    async fn listen(&self, dialer: &Dialer) -> Result<(), Failure> {
        let (client, mut connection) = dialer.dial().await?;
        let mut messages = poll_fn(move |context| connection.poll_message(context)).boxed();
        let listen = format!("LISTEN {}", self.channel);
        let begin = client.batch_execute(&listen);
        tokio::pin!(begin);
        let mut listening = false;
        loop {
            tokio::select! {
                begun = &mut begin, if !listening => {
                    begun?;
                    listening = true;
                    // Of what was recorded before, nobody told us.
                    self.recorded.send_modify(|times| *times += 1);
                }
                message = messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(_))) => self.recorded.send_modify(|times| *times += 1),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(()),
                },
            }
        }
    }
}

impl Follower {
    fn start(inner: &Arc<Inner>) -> Self {
        let (sender, progress) = watch::channel(Ok(Position::ZERO));
        let mut tasks = vec![tokio::spawn(look(inner.clone(), sender))];
        if let Some(dialer) = inner.dialer.clone() {
            let inner = inner.clone();
            tasks.push(tokio::spawn(async move {
                loop {
                    let end = inner.wake.listen(&dialer).await;
                    tracing::debug!(?end, "not listening to PostgreSQL any more");
                    sleep(LISTEN_AGAIN).await;
                }
            }));
        }
        Self { progress, tasks }
    }

    /// Whether it has met a log that went back: those who follow are told so, and it follows no further.
    fn has_ended(&self) -> bool {
        self.progress.has_changed().is_err()
    }

    /// Waits until more of the log than up to `after` is decided; the position up to which it is.
    pub(crate) async fn decided_after(&self, after: Position) -> Result<Position> {
        let mut progress = self.progress.clone();
        let farther =
            progress.wait_for(|progress| progress.as_ref().map_or(true, |decided| *decided > after));
        match farther.await {
            Ok(progress) => progress.clone(),
            Err(_) => Err(crate::error::closed()),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Looks for the frontier when something was recorded, and every now and then.
async fn look(inner: Arc<Inner>, progress: watch::Sender<Result<Position>>) {
    let mut recorded = inner.wake.recorded.subscribe();
    let mut reached = Position::ZERO;
    loop {
        recorded.borrow_and_update();
        let decided = frontier::decided(&inner.connections, &inner.statements.frontier).await;
        if let Ok(end) = decided {
            if end < reached {
                let error = went_back(reached, end);
                tracing::error!(%error, "PostgreSQL");
                progress.send_modify(|known| *known = Err(error));
                return;
            }
            reached = end;
        }
        progress.send_if_modified(|known| {
            let news = match (&decided, &*known) {
                (Ok(decided), Ok(known)) => decided > known,
                _ => true,
            };
            if news {
                *known = decided.clone();
            }
            news
        });
        sleep(LOOKED_AT_MOST_EVERY).await;
        // Who recorded something meanwhile has raised the count.
        let _ = tokio::time::timeout(inner.poll_interval, recorded.changed()).await;
    }
}
