//! Whether the log is still the one that this process knows.
//!
//! A stream that was deleted and made again has the same name, and an older copy that was put in its place has even the same id.
//! Versions and positions are given out a second time there, so that what this process remembers, its projections and its
//! subscriptions would mix two histories. So a process keeps the store's id, and the highest sequence that it knows the log has
//! had. Both are compared
//!
//! - with each acknowledgement, whose sequence must be higher;
//! - where a stream ends before what this process knows of it;
//! - once a second beside what is asked for anyway, and after each break of the connection;
//! - by live readers, whenever their consumer is made again and nothing comes.
//!
//! A leader that was deposed and does not know it yet has a shorter log as well. With several replicas a leader is therefore
//! believed only if a majority has heard from it lately, and only some time after the shorter log was met first: a leader that
//! was deposed before that has heard from no majority since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join;
use serde_json::json;
use tailfold::{Error, Result, StoreId};
use tokio::time::timeout;

use crate::info::StreamFacts;
use crate::setup::id_of;
use crate::store::Shared;
use crate::wire::{Failure, Get};

/// How often a process that is at work looks whether its log is still there, and how long it waits for the answer.
const EVERY: Duration = Duration::from_secs(1);
/// A replica that a leader has heard from within that time has not followed another one since.
const HEARD: Duration = Duration::from_secs(3);
/// How long a shorter log must have been there before a leader of several replicas is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(5);

/// What a process knows of its log.
pub(crate) struct Continuity {
    began: Instant,
    highest: AtomicU64,
    /// Milliseconds after `began` at which it is to be looked at again.
    due: AtomicU64,
    /// Breaks of the connection when it was looked at last.
    breaks: AtomicU64,
    /// When the log was first shorter than what is known, since it last was not.
    short_since: Mutex<Option<Instant>>,
    /// Why this process cannot go on with it.
    broken: OnceLock<Error>,
}

impl Continuity {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            highest: AtomicU64::new(0),
            due: AtomicU64::new(EVERY.as_millis() as u64),
            breaks: AtomicU64::new(0),
            short_since: Mutex::new(None),
            broken: OnceLock::new(),
        }
    }

    /// The highest sequence that the log is known to have had.
    pub(crate) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// Notes a sequence that the log has had.
    pub(crate) fn note(&self, seq: u64) {
        self.highest.fetch_max(seq, Ordering::AcqRel);
    }

    /// Whether somebody should look. One caller is told so at a time.
    fn is_due(&self, breaks: u64) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        let due = self.due.load(Ordering::Relaxed);
        let next = now + EVERY.as_millis() as u64;
        self.breaks.swap(breaks, Ordering::Relaxed) != breaks
            || due <= now
                && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes that the log is shorter than it was. Answers for how long it has been.
    fn short_for(&self) -> Duration {
        let mut since = self.short_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Instant::now).elapsed()
    }

    fn is_whole(&self) {
        *self.short_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Nothing goes on from here: the first reason stays.
    fn end(&self, error: Error) -> Error {
        self.broken.get_or_init(|| error).clone()
    }
}

impl Shared {
    /// Looks whether the log is still the one that this process knows, if it is time to. A server that does not answer proves
    /// nothing.
    ///
    /// # Errors
    /// `Corrupt` if it is another one, from then on.
    pub(crate) async fn look_after_log(&self) -> Result<()> {
        if let Some(error) = self.continuity.broken.get() {
            return Err(error.clone());
        }
        if !self.continuity.is_due(self.wire.breaks()) {
            return Ok(());
        }
        timeout(EVERY, self.check_log()).await.unwrap_or(Ok(()))
    }

    /// As [`Shared::look_after_log`], whatever the time.
    pub(crate) async fn check_log(&self) -> Result<()> {
        let known = self.continuity.highest();
        let (id, facts) = match self.id_and_facts().await {
            Ok(found) => found,
            Err(failure) => {
                tracing::debug!(?failure, "whether the log is the same cannot be said");
                return Ok(());
            }
        };
        if let Some(id) = id.filter(|id| *id != self.id) {
            return Err(self.continuity.end(self.made_again(id)));
        }
        let last = facts.state.last_seq;
        if id.is_some() && last >= known {
            self.continuity.is_whole();
            return Ok(());
        }
        let short_for = self.continuity.short_for();
        let is_certain = facts.config.num_replicas <= 1
            || short_for >= BELIEVED_AFTER && facts.is_heard_by_a_majority(HEARD);
        if !is_certain {
            tracing::debug!(last, known, "a server's log is shorter than what was acknowledged");
            return Ok(());
        }
        Err(self.continuity.end(match id {
            None => self.purged(),
            Some(_) => self.went_back(known, last),
        }))
    }

    /// Notes what was acknowledged to a request that was sent when the log had a sequence.
    ///
    /// # Errors
    /// `Corrupt` if it is not above that sequence.
    pub(crate) async fn note_acknowledged(&self, before: u64, seq: u64) -> Result<()> {
        if seq > before {
            self.continuity.note(seq);
            return Ok(());
        }
        self.check_log().await?;
        Err(self.continuity.end(self.went_back(before, seq)))
    }

    /// Why a subject ends before what is known of it; `None` if that may be because a leader was deposed, or cannot be said.
    pub(crate) async fn why_shorter(&self, subject: &str, known: u64, last: u64) -> Option<Error> {
        if let Err(error) = self.check_log().await {
            return Some(error);
        }
        (!self.replicated).then(|| {
            Error::corrupt(format!(
                "the last message on `{subject}` is {last}, although {known} was there: it was purged from stream `{}`; restore \
                 a backup, or start this process again to go on without what is gone",
                self.names.events
            ))
        })
    }

    async fn id_and_facts(&self) -> Result<(Option<StoreId>, StreamFacts), Failure> {
        let get = Get::last(self.names.identity());
        let operation = format!("STREAM.INFO.{}", self.names.events);
        let body = json!({});
        let id = self.wire.leader_get(&self.names.events, &get);
        let (id, facts) = try_join(id, self.wire.api(&operation, &body)).await?;
        Ok((id.as_ref().and_then(id_of), facts))
    }

    fn made_again(&self, id: StoreId) -> Error {
        Error::corrupt(format!(
            "stream `{}` is not the one that this process opened: it was deleted and made again, or a backup was restored in its \
             place (store {id} in place of {}); look at what was read and appended since, then start this process again",
            self.names.events, self.id
        ))
    }

    fn went_back(&self, known: u64, last: u64) -> Error {
        Error::corrupt(format!(
            "the log of stream `{}` went back: its last sequence is {last}, although {known} was there; the server lost what it \
             had acknowledged, or an older copy was put in its place: reset whatever has followed the log further than that, \
             then start this process again",
            self.names.events
        ))
    }

    fn purged(&self) -> Error {
        Error::corrupt(format!(
            "stream `{}` has no store's id any more: it was purged; restore a backup, then start this process again",
            self.names.events
        ))
    }
}
