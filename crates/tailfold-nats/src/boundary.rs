//! What a commit requires to be unchanged, and how the server guards it.
//!
//! The decision is exact: what was added after the position is read, and only what matches is a conflict. The server guards
//! what comes between that read and the commit, by the sequence that the commit's message must come next of. There is one such
//! expectation for a message, of a single subject or of a pattern, so a boundary is one of two:
//!
//! - **Streams that the commit writes to.** Their messages name their streams' last ones as always; these are what was read.
//! - **A category that the commit writes to.** One of its messages there names the last one of the whole category. Its own
//!   stream's last message is implied, *if it was read after the category's and is not later*: then there was nothing of the
//!   stream between both, and whatever comes after the category's last is refused, be it of this stream or another.
//!
//! What is removed moves neither: a tombstone is a message more, truncating leaves the last commit, and markers, parts and
//! snapshots have subjects of their own. A marker that is there before the commit is sent is a conflict; one that comes meanwhile
//! counts as recorded after it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::TryStreamExt as _;
use futures_util::future::{try_join, try_join_all};
use tailfold::{
    Clause, Commit, Error, Filter, Outcome, Position, RecordedEvent, Result, StreamId, Unchanged,
};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::commit::{Decoder, End, POSITIONS, Place, end_of};
use crate::patience::Deadline;
use crate::store::Shared;
use crate::wire::Get;

/// Messages after the position that are read one by one; a consumer costs as much as a few of them.
const ONE_BY_ONE: usize = 8;

/// Decisions of this process on one category take turns: at the same time they would only make each other read again.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<Turn<()>>>>);

impl Turns {
    async fn wait(&self, subjects: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match turns.get(subjects).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    turns.retain(|_, turn| turn.strong_count() > 0);
                    let turn = Arc::default();
                    turns.insert(subjects.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

/// A commit's condition, while it is appended.
pub(crate) struct Guarded {
    filter: Filter,
    /// Nothing that matches lies after the commit's position and up to here.
    checked_to: Position,
    guard: Guard,
    /// Subjects of the markers that may match, and the sequence from which on they were not looked at.
    markers: Vec<String>,
    markers_from: u64,
    /// Held until the commit is recorded or refused.
    _turn: Option<OwnedMutexGuard<()>>,
}

enum Guard {
    /// The places of the streams among the commit's writes.
    Streams(Vec<usize>),
    Category {
        category: String,
        subjects: String,
        /// The place of the message that is to come next.
        write: usize,
        last: u64,
    },
}

impl Guarded {
    /// The condition of a commit, if it has one.
    ///
    /// # Errors
    /// `Unsupported` if the server cannot guard it.
    pub(crate) async fn of(commit: &Commit, shared: &Shared, deadline: Deadline) -> Result<Option<Self>> {
        let Some(Unchanged { filter, after }) = &commit.unchanged else { return Ok(None) };
        let guard = Guard::of(filter, commit, shared)?;
        let turn = match &guard {
            Guard::Streams(_) => None,
            Guard::Category { subjects, .. } => Some(deadline.wait_for(shared.turns.wait(subjects)).await?),
        };
        let markers = match &guard {
            Guard::Streams(writes) => writes
                .iter()
                .filter_map(|write| commit.writes.get(*write))
                .map(|write| shared.names.marker_of(&write.stream))
                .collect(),
            Guard::Category { category, .. } => vec![shared.names.markers_of_category(category)],
        };
        let markers_from = after.0 / POSITIONS + 1;
        Ok(Some(Self {
            filter: filter.clone(),
            checked_to: *after,
            guard,
            markers,
            markers_from,
            _turn: turn,
        }))
    }

    /// The ends of the commit's streams, as the leader knows them, none of which is later than what is guarded.
    pub(crate) async fn ends(
        &mut self,
        commit: &Commit,
        shared: &Shared,
        deadline: Deadline,
    ) -> Result<Vec<Arc<End>>> {
        let Guard::Category { subjects, write, last, .. } = &mut self.guard else {
            return shared.ends_from_leader(commit, deadline).await;
        };
        loop {
            *last = shared.last_of(subjects, deadline).await?;
            let ends = shared.ends_from_leader(commit, deadline).await?;
            if ends.get(*write).is_some_and(|end| end.seq <= *last) {
                return Ok(ends);
            }
            if deadline.has_passed() {
                return Err(Error::unavailable(Outcome::NotDone, "others appended until the deadline"));
            }
        }
    }

    /// Refuses if something that matches was added, up to what is guarded, or a marker at all.
    pub(crate) async fn check(&mut self, shared: &Arc<Shared>, ends: &[Arc<End>]) -> Result<()> {
        let (filter, from) = (self.filter.clone(), self.markers_from);
        let markers = Box::pin(refuse_markers(shared, &self.markers, &filter, from));
        let markers = markers.await?;
        self.markers_from = markers;
        self.check_commits(shared, ends).await
    }

    async fn check_commits(&mut self, shared: &Arc<Shared>, ends: &[Arc<End>]) -> Result<()> {
        let last = match &self.guard {
            Guard::Streams(writes) => {
                writes.iter().filter_map(|write| ends.get(*write)).map(|end| end.seq).max().unwrap_or(0)
            }
            Guard::Category { last, .. } => *last,
        };
        if end_of(last) <= self.checked_to {
            return Ok(());
        }
        if let Guard::Category { subjects, .. } = &self.guard
            && self.checked_one_by_one(shared, subjects.clone(), last).await?
        {
            return Ok(());
        }
        let mut added = shared.read_all_up_to(self.checked_to, self.filter.clone(), last).await?;
        while let Some(batch) = added.try_next().await? {
            if let Some(first) = batch.events.first() {
                return Err(Error::changed(first.position));
            }
        }
        self.checked_to = end_of(last);
        Ok(())
    }

    /// Looks at the next few messages. Answers whether these were all.
    async fn checked_one_by_one(&mut self, shared: &Shared, subjects: String, last: u64) -> Result<bool> {
        let mut decoder = Decoder::default();
        let mut from = self.checked_to.0 / POSITIONS;
        for _ in 0..ONE_BY_ONE {
            let get = Get::next(subjects.as_str(), from);
            let next =
                shared.deadline().insist(|| shared.wire.leader_get(&shared.names.events, &get)).await?;
            let Some(message) = next.filter(|message| message.seq <= last) else {
                self.checked_to = end_of(last);
                return Ok(true);
            };
            if shared.is_in_parts(&message) {
                return Ok(false);
            }
            let (stream, place) = (shared.names.stream_of(&message.subject)?, Place::of(&message)?);
            let events = shared.events_of(&mut decoder, &stream, &message, place).await?;
            let is_added =
                |event: &&RecordedEvent| event.position > self.checked_to && self.filter.matches(event);
            if let Some(first) = events.iter().find(is_added) {
                return Err(Error::changed(first.position));
            }
            (from, self.checked_to) = (message.seq + 1, end_of(message.seq));
            if message.seq == last {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the message of a write must come next of, if that is not its own stream's last.
    pub(crate) fn within(&self, index: usize) -> Option<(&str, u64)> {
        match &self.guard {
            Guard::Category { subjects, write, last, .. } if *write == index => Some((subjects, *last)),
            _ => None,
        }
    }
}

impl Guard {
    fn of(filter: &Filter, commit: &Commit, shared: &Shared) -> Result<Self> {
        let (mut categories, mut streams) = (BTreeSet::new(), BTreeSet::new());
        for clause in filter.clauses() {
            let Clause { categories: of, streams: these, .. } = clause;
            if these.is_empty() {
                if of.is_empty() {
                    return Err(Error::unsupported(
                        "JetStream can check that nothing was added to one category, or to streams, and a clause of the filter \
                         names neither",
                    ));
                }
                categories.extend(of.iter().map(String::as_str));
            } else {
                streams.extend(these.iter().filter(|stream| clause.matches_stream(stream)));
            }
        }
        let place = |stream: &StreamId| commit.writes.iter().position(|write| &write.stream == stream);
        if categories.is_empty()
            && let Some(writes) = streams.iter().map(|stream| place(stream)).collect()
        {
            return Ok(Self::Streams(writes));
        }
        categories.extend(streams.iter().map(|stream| stream.category()));
        let mut categories = categories.into_iter();
        let (Some(category), None) = (categories.next(), categories.next()) else {
            return Err(Error::unsupported(
                "JetStream can check that nothing was added to one category, or to streams that the commit writes to, and the \
                 filter names several categories",
            ));
        };
        let Some(write) = commit.writes.iter().position(|write| write.stream.category() == category) else {
            return Err(Error::unsupported(format!(
                "JetStream can check category `{category}` for a commit that writes to it only"
            )));
        };
        if !shared.checks_categories {
            return Err(uncheckable());
        }
        let (category, subjects) = (category.to_owned(), shared.names.commits_of_category(category));
        Ok(Self::Category { category, subjects, write, last: 0 })
    }
}

/// Refuses if a marker that matches stands on some subjects, from a sequence on. Answers up to where there is none.
async fn refuse_markers(shared: &Shared, subjects: &[String], filter: &Filter, from: u64) -> Result<u64> {
    let looked = try_join_all(subjects.iter().map(|subject| async move {
        let mut from = from;
        loop {
            let get = Get::next(subject.as_str(), from);
            let next =
                shared.deadline().insist(|| shared.wire.leader_get(&shared.names.events, &get)).await?;
            let Some(message) = next else { return Ok::<_, Error>(from) };
            let (stream, place) = (shared.names.stream_of(&message.subject)?, Place::of(&message)?);
            let events = shared.events_of(&mut Decoder::default(), &stream, &message, place).await?;
            if let Some(marker) = events.iter().find(|event| filter.matches(event)) {
                return Err(Error::changed(marker.position));
            }
            from = message.seq + 1;
        }
    }));
    Ok(looked.await?.into_iter().min().unwrap_or(from))
}

fn uncheckable() -> Error {
    Error::unsupported(
        "JetStream can check that nothing was added to a category on a server of release 2.11 or later and with 1 replica; \
         elsewhere to streams that the commit writes to",
    )
}

impl Shared {
    /// The last sequence on some subjects, as the leader knows it; 0: there is none.
    async fn last_of(&self, subjects: &str, deadline: Deadline) -> Result<u64> {
        let get = Get::last(subjects);
        let last = deadline.insist(|| self.wire.leader_get(&self.names.events, &get));
        // Replicas may have been added since the store was opened.
        let (last, facts) = try_join(last, self.facts(&self.names.events)).await?;
        match facts.config.num_replicas {
            0 | 1 => Ok(last.map_or(0, |last| last.seq)),
            _ => Err(uncheckable()),
        }
    }
}
