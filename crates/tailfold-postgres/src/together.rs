//! Appends of one event that are under way at the same time travel in one statement, and wait for the disk once.
//!
//! A lone append is sent by its caller. While as many statements are under way as may be, further appends gather, and the next
//! statement takes all of them. They stay independent: each is recorded or not by its own expectation.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tailfold::Result;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::append::{Columns, Single, Tried};
use crate::connections::Connection;
use crate::error::Failure;
use crate::patience::Patience;
use crate::rows;
use crate::store::Inner;

/// Most appends in one statement.
const MOST: usize = 128;
/// A statement that is under way for longer waits for somebody.
const LONG: Duration = Duration::from_millis(50);
/// Bytes of payload after which a statement takes no more.
const MOST_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Together {
    queue: Mutex<Queue>,
    at_once: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Statements under way.
    under_way: usize,
}

type Answer = oneshot::Receiver<Result<Tried>>;

#[derive(Debug)]
struct Waiting {
    single: Single,
    answer: oneshot::Sender<Result<Tried>>,
}

impl Together {
    /// `at_once`: most statements under way.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { queue: Mutex::default(), at_once }
    }

    pub(crate) async fn append(inner: &Arc<Inner>, single: Single, patience: &Patience) -> Result<Tried> {
        let (place, single) = match Self::enter(inner, single) {
            Ok(entered) => entered,
            Err(answer) => return carried(answer).await,
        };
        let to_send = &single;
        let sent = patience.attempt(|connection| async move { one(&connection, inner, to_send).await });
        match place.hold_during(sent).await.0 {
            Ok(position) => single.tried(position),
            Err(failure) => Tried::after(failure),
        }
    }

    /// A place for the caller's own statement; or what comes of going with the next one of somebody who has a place.
    fn enter(inner: &Arc<Inner>, single: Single) -> Result<(Place, Single), Answer> {
        let mut queue = inner.together.lock();
        if queue.under_way < inner.together.at_once {
            queue.under_way += 1;
            return Ok((Place { inner: inner.clone() }, single));
        }
        let (sender, answer) = oneshot::channel();
        queue.waiting.push_back(Waiting { single, answer: sender });
        Err(answer)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an append that travelled with others.
async fn carried(answer: Answer) -> Result<Tried> {
    // Whoever carried it is gone, with its runtime perhaps, and how far it got nobody knows.
    answer.await.unwrap_or(Ok(Tried::MaybeRecorded(None)))
}

/// The right to have a statement under way. Whoever gives it up hands it to those who wait, if there are any.
struct Place {
    inner: Arc<Inner>,
}

impl Place {
    /// Waits for a statement. One that takes long waits for somebody else's transaction, and must not hold up those who do not:
    /// the place is given up then.
    async fn hold_during<T>(self, statement: impl Future<Output = T>) -> (T, Option<Self>) {
        tokio::pin!(statement);
        match timeout(LONG, &mut statement).await {
            Ok(done) => (done, Some(self)),
            Err(_) => {
                drop(self);
                (statement.await, None)
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.inner.together.lock();
        if queue.waiting.is_empty() {
            queue.under_way -= 1;
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                drop(queue);
                let place = Self { inner: self.inner.clone() };
                runtime.spawn(send_all(place));
            }
            Err(_) => {
                // Dropped outside of the runtime, whose end is near: those who wait send their own.
                for Waiting { answer, .. } in queue.waiting.drain(..) {
                    // Whoever has gone away does not want to know.
                    let _ = answer.send(Ok(Tried::Open));
                }
                queue.under_way -= 1;
            }
        }
    }
}

/// Sends what waits until nothing does.
async fn send_all(mut place: Place) {
    let inner = place.inner.clone();
    loop {
        let batch = inner.together.lock().next_batch();
        if batch.is_empty() {
            return;
        }
        match place.hold_during(send(&inner, batch)).await {
            ((), Some(held)) => place = held,
            ((), None) => return,
        }
    }
}

impl Queue {
    /// What travels next: of each stream one commit at most.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let mut later = VecDeque::new();
        let mut streams = HashSet::new();
        let mut bytes = 0;
        while let Some(waiting) = self.waiting.pop_front() {
            let write = waiting.single.write();
            if batch.len() == MOST || bytes >= MOST_BYTES {
                self.waiting.push_front(waiting);
                break;
            }
            if streams.insert(write.stream.clone()) {
                bytes += write.events.iter().map(|event| event.data().payload.len()).sum::<usize>();
                batch.push(waiting);
            } else {
                later.push_back(waiting);
            }
        }
        later.append(&mut self.waiting);
        self.waiting = later;
        batch
    }
}

async fn send(inner: &Arc<Inner>, mut batch: Vec<Waiting>) {
    batch.sort_by(|a, b| a.single.write().stream.as_str().cmp(b.single.write().stream.as_str()));
    let waiting = batch.as_slice();
    let sent: Result<HashMap<String, i64>, Failure> = Patience::to_record(&inner.connections)
        .attempt(|connection| async move {
            match waiting {
                [alone] => {
                    let position = one(&connection, inner, &alone.single).await?;
                    let stream = alone.single.write().stream.as_str().to_owned();
                    Ok(position.map(|position| (stream, position)).into_iter().collect())
                }
                several => all(&connection, inner, several).await,
            }
        })
        .await;
    for Waiting { single, answer } in batch {
        let tried = match &sent {
            Ok(positions) => single.tried(positions.get(single.write().stream.as_str()).copied()),
            Err(failure) if failure.may_be_done() => Ok(Tried::MaybeRecorded(None)),
            // What is wrong with one of them is found out one by one.
            Err(_) => Ok(Tried::Open),
        };
        // Whoever has gone away does not want to know.
        let _ = answer.send(tried);
    }
}

/// Records one; answers its position, if it was recorded.
async fn one(connection: &Connection, inner: &Inner, single: &Single) -> Result<Option<i64>, Failure> {
    let write = single.write();
    let (Some(event), Some(chain)) = (write.events.first(), single.chains.first()) else { return Ok(None) };
    let data = event.data();
    let found = connection
        .rows_checked(
            &inner.statements.append.one,
            &[
                &write.stream.as_str(),
                &single.version,
                &single.expected(),
                data.id.as_uuid(),
                &data.event_type.as_str(),
                &i64::from(data.schema_version.0),
                &data.recorded_at.as_micros(),
                &data.origin,
                &&*data.metadata,
                &chain.as_bytes().as_slice(),
                &&*data.payload,
                &inner.seen.load(Ordering::Acquire),
            ],
            || Box::pin(inner.reaches(connection)),
        )
        .await?;
    Ok(found.first().map(|row| rows::value(row, 0)).transpose()?)
}

/// Records many; answers the positions of those that were recorded, by stream.
async fn all(
    connection: &Connection,
    inner: &Inner,
    batch: &[Waiting],
) -> Result<HashMap<String, i64>, Failure> {
    let singles = || batch.iter().map(|waiting| &waiting.single);
    let streams: Vec<_> = singles().map(|single| single.write().stream.as_str()).collect();
    let versions: Vec<_> = singles().map(|single| single.version).collect();
    let expected: Vec<_> = singles().map(Single::expected).collect();
    let chains: Vec<_> =
        singles().flat_map(|single| &single.chains).map(|chain| chain.as_bytes().as_slice()).collect();
    let columns = Columns::of(singles().flat_map(|single| &single.write().events));
    let found = connection
        .rows(
            &inner.statements.append.together,
            &[
                &streams,
                &versions,
                &expected,
                &columns.ids,
                &columns.types,
                &columns.schema_versions,
                &columns.recorded_ats,
                &columns.origins,
                &columns.metadatas,
                &chains,
                &columns.payloads,
                &inner.seen.load(Ordering::Acquire),
            ],
        )
        .await?;
    let placed = |row| Ok((rows::value::<&str>(row, 1)?.to_owned(), rows::value(row, 0)?));
    Ok(found.iter().map(placed).collect::<Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_append_whose_carrier_is_gone_may_be_recorded() {
        let (sender, answer) = oneshot::channel();
        drop(sender);
        assert!(matches!(carried(answer).await, Ok(Tried::MaybeRecorded(None))));
    }
}
