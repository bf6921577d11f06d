//! Decisions on projections: a dynamic consistency boundary (dcb.events). What is appended stands only if nothing that the
//! decision looked at has changed meanwhile.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::load::{Instance, Options};
use super::{Facts, Projected, Projection, ProjectionKey as _};
use crate::append::Stamp;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::{EventId, Metadata, Position};
use crate::filter::Filter;
use crate::repository::{Inner, Repository};
use crate::store::{Commit, Expected, StreamWrite, Written};
use crate::stream::StreamId;

/// A decision on a projection, to be refined and awaited; see [`Repository::decide`].
#[must_use = "a decision does nothing until it is awaited"]
pub struct Decide<'a, P: Projection, E> {
    repository: Repository<P>,
    key: P::Key,
    decide: Box<Decision<'a, P, E>>,
    stamp: Stamp,
}

type Decision<'a, P, E> = dyn Fn(&P) -> Result<Facts, E> + Send + 'a;

/// What came of a decision.
pub struct Decided<P> {
    seen: Projected<P>,
    writes: Vec<Written>,
    position: Option<Position>,
}

impl<P: Projection> Repository<P> {
    /// Loads the projection of a key, decides, and appends what the decision returns, to the streams that it names, only if no
    /// event that matches the projection's query was added since the state was read; otherwise again, as
    /// [`Retry`](crate::Retry) says. Events that do not match never conflict, nor do the streams appended to.
    ///
    /// The outer result is tailfold's, the inner one the decision's own. A decision that returns no facts appends nothing: it
    /// holds for the state that it has seen, which may be outdated by then. The closure is never run again after an outcome that is
    /// unknown: what it decided is looked for, and sent again.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tailfold::{Event, EventMeta, Filter, Fold, MemoryStore, Projection, Repository, State, Tag};
    /// #[derive(Clone, Serialize, Deserialize, Event)]
    /// #[event(category = "user")]
    /// enum UserEvent {
    ///     #[event(tag = "username:{name}")]
    ///     Registered { name: String },
    /// }
    ///
    /// #[derive(Clone, Default, Serialize, Deserialize, State)]
    /// #[state(name = "username", projection)]
    /// struct Username {
    ///     taken: bool,
    /// }
    ///
    /// impl Fold for Username {
    ///     type Event = UserEvent;
    ///     fn apply(&mut self, _: UserEvent, _: &EventMeta<'_>) {
    ///         self.taken = true;
    ///     }
    /// }
    ///
    /// impl Projection for Username {
    ///     type Key = String;
    ///     fn query(name: &String) -> tailfold::Result<Filter> {
    ///         Ok(Filter::tag(Tag::new(&format!("username:{name}"))?))
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let usernames = Repository::<Username>::builder(MemoryStore::new()).build()?;
    /// let register = |id: &'static str| {
    ///     usernames.decide("ada", move |username| match username.taken {
    ///         true => Err("taken"),
    ///         false => Ok((id, UserEvent::Registered { name: "ada".to_owned() })),
    ///     })
    /// };
    /// assert!(register("u-1").await?.is_ok());
    /// assert_eq!(register("u-2").await?.err(), Some("taken"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Invalid` if a clause of the query binds no tag; `Unsupported` if the store cannot check that query, see
    /// [`Capabilities`](crate::Capabilities); `Conflict` only after the last retry; otherwise as [`Repository::load`] and
    /// [`EventStore::append`](crate::EventStore::append).
    pub fn decide<'a, R, E>(
        &self,
        key: impl Into<P::Key>,
        decide: impl Fn(&P) -> Result<R, E> + Send + 'a,
    ) -> Decide<'a, P, E>
    where
        R: Into<Facts>,
    {
        let decide = Box::new(move |state: &P| decide(state).map(Into::into));
        Decide { repository: self.clone(), key: key.into(), decide, stamp: Stamp::default() }
    }
}

impl<P: Projection, E> Decide<'_, P, E> {
    /// Sets the metadata of the events. Default: none.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.stamp.metadata = metadata;
        self
    }

    /// When the events were recorded, for imports. Default: now, by the repository's clock.
    pub fn recorded_at(mut self, time: Timestamp) -> Self {
        self.stamp.recorded_at = Some(time);
        self
    }
}

impl<'a, P: Projection, E: 'a> IntoFuture for Decide<'a, P, E> {
    type Output = Result<Result<Decided<P>, E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { repository, key, decide, stamp } = self;
            let operation = || match key.text() {
                None => format!("decide on `{}`", P::NAME),
                Some(text) => format!("decide on `{}` of `{text}`", P::NAME),
            };
            let decided = repository.inner.decide(&key, decide, &stamp).await;
            decided.map_err(|error| error.during(operation()))
        })
    }
}

impl<P: Projection> Inner<P> {
    async fn decide<E>(
        &self,
        key: &P::Key,
        decide: Box<Decision<'_, P, E>>,
        stamp: &Stamp,
    ) -> Result<Result<Decided<P>, E>> {
        let instance = self.instance(key).await?;
        check_boundary(&instance.filter)?;
        let mut repetition = 0;
        loop {
            // One after the other in this process: whoever decides beside another would most likely decide again.
            let mut turn = self.turns.take(&instance.key).await;
            let before = turn.handed.take();
            let seen = Box::pin(self.load_instance(&instance, &Options::default(), before)).await?;
            turn.seen = Some(Box::new(seen.clone()));
            let facts = match decide(seen.state()) {
                Ok(facts) => facts,
                Err(refused) => return Ok(Err(refused)),
            };
            if facts.is_empty() {
                return Ok(Ok(Decided { seen, writes: Vec::new(), position: None }));
            }
            let commit = self.commit_of(facts, &instance, seen.position, stamp)?;
            let appended = self.append_settled(commit).await;
            drop(turn);
            match appended {
                Ok(committed) => {
                    let position = Some(committed.position);
                    return Ok(Ok(Decided { seen, writes: committed.writes, position }));
                }
                Err(error) if error.is_conflict() && repetition < self.retry.limit => {
                    self.counters.conflicted();
                    tracing::debug!(%error, repetition, "deciding again");
                    self.retry.pause(repetition).await;
                    repetition += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn commit_of(&self, facts: Facts, instance: &Instance, seen: Position, stamp: &Stamp) -> Result<Commit> {
        let common = self.common(stamp)?;
        let mut writes: Vec<StreamWrite> = Vec::new();
        for (actor, fact) in facts.into_parts() {
            let fact = fact?;
            let stream = StreamId::new(fact.category, &actor)?;
            let event = self.new_event(&stream, EventId::fresh(), fact, None, &common)?;
            match writes.iter_mut().find(|write| write.stream == stream) {
                Some(write) => write.events.push(event),
                None => writes.push(StreamWrite { stream, expected: Expected::Any, events: vec![event] }),
            }
        }
        Ok(writes.into_iter().collect::<Commit>().unchanged(instance.filter.clone(), seen))
    }
}

/// A boundary is what its tags name: without one, every event of a category would be in it.
fn check_boundary(filter: &Filter) -> Result<()> {
    match filter.clauses().iter().all(|clause| !clause.tags.is_empty()) {
        true => Ok(()),
        false => Err(Error::invalid(
            "a decision needs a query whose every clause binds a tag: what it names is what must not change",
        )),
    }
}

impl<P> Decided<P> {
    /// The state that was decided on: before what was appended.
    pub fn seen(&self) -> &Projected<P> {
        &self.seen
    }

    /// What was written to each stream; nothing if there was nothing to record.
    pub fn writes(&self) -> &[Written] {
        &self.writes
    }

    /// Position of the last event; `None` if there was nothing to record.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

impl<P: fmt::Debug> fmt::Debug for Decided<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decided")
            .field("seen", &self.seen)
            .field("writes", &self.writes)
            .field("position", &self.position)
            .finish()
    }
}

impl<P: Projection, E> fmt::Debug for Decide<'_, P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decide")
            .field("projection", &P::NAME)
            .field("key", &self.key.text())
            .finish_non_exhaustive()
    }
}

/// Who decides on what: one task at a time for each key, who hands on what it has seen.
pub(crate) struct Turns<P>(Mutex<HashMap<String, Key<P>>>);

/// Of the last decision, if somebody waited for the next.
type Key<P> = Arc<tokio::sync::Mutex<Option<Box<Projected<P>>>>>;

/// Nobody else of this process decides on the key meanwhile.
struct Turn<P> {
    handed: OwnedMutexGuard<Option<Box<Projected<P>>>>,
    seen: Option<Box<Projected<P>>>,
}

/// Keys that are remembered at most; those that nobody waits for are forgotten beyond that.
const MOST_KEYS: usize = 1024;

impl<P> Turns<P> {
    async fn take(&self, key: &str) -> Turn<P> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if locks.len() >= MOST_KEYS {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            locks.entry(key.to_owned()).or_default().clone()
        };
        Turn { handed: lock.lock_owned().await, seen: None }
    }
}

impl<P> Default for Turns<P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<P> Drop for Turn<P> {
    /// Hands on to whoever waits: where nobody does, it would take up memory for nothing.
    fn drop(&mut self) {
        // One is with the keys, one with this turn.
        if Arc::strong_count(OwnedMutexGuard::mutex(&self.handed)) > 2 {
            *self.handed = self.seen.take();
        }
    }
}
