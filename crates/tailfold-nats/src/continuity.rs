//! Whether the log is still the one that this process knows.
//!
//! A stream that was deleted and made again has the same name, and an older copy that was put in its place has even the same id.
//! Versions and positions are given out a second time there, so that what this process remembers, its projections and its
//! subscriptions would mix two histories. So a process keeps the store's id, the highest sequence that it knows the log has
//! had, and the name of a commit at the end of what it knows. They are compared
//!
//! - with each acknowledgement, whose sequence must be higher;
//! - where a stream ends before what this process knows of it;
//! - once a second beside what is asked for anyway;
//! - by live readers, whenever their consumer is made again and nothing comes;
//! - before and after each append, and by readers whose consumer is made again, where there is doubt: a stream can only be replaced
//!   while a server is down, which breaks the connection to it, or by deleting it first, which servers tell whoever listens. So
//!   what is acknowledged without doubt is in the log that was looked at. A server tells of the deletion before it answers it, on
//!   the connection that a later acknowledgement comes on; servers of a cluster may tell late, and where a user may not listen,
//!   what is left is the look once a second.
//!
//! A leader that was deposed and does not know it yet has a shorter log as well. With several replicas a leader is therefore
//! believed only if a majority has heard from it lately, and only some time after the shorter log was met first: a leader that
//! was deposed before that has heard from no majority since. Another commit in the place of one that is known needs no majority.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::future::{FutureExt as _, OptionFuture, try_join3};
use futures_util::stream::StreamExt as _;
use serde_json::json;
use tailfold::{Error, Result, StoreId};
use tokio::task::unconstrained;
use tokio::time::timeout;

use crate::commit;
use crate::info::StreamFacts;
use crate::names::Names;
use crate::setup::id_of;
use crate::store::Shared;
use crate::wire::{Failure, Get, Message, Wire};

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
    /// A commit of the log, about as high as any that is known.
    landmark: Mutex<Landmark>,
    /// Milliseconds after `began` at which it is to be looked at again.
    due: AtomicU64,
    doubts: Mutex<Doubts>,
    /// How much doubt there was when somebody looked last, and when the log was last found to be the same.
    looked_at: AtomicU64,
    believed_at: AtomicU64,
    /// An answer of any replica may be behind: there are several, or were.
    replicated: AtomicBool,
    /// When the log was first shorter than what is known, since it last was not.
    short_since: Mutex<Option<Instant>>,
    /// Why this process cannot go on with it.
    broken: OnceLock<Error>,
}

/// What a server tells of streams that are deleted.
struct Doubts {
    deletions: Subscriber,
    deleted: u64,
}

/// Sequence and name of a commit; 0 before any is known.
#[derive(Clone, Default)]
struct Landmark {
    seq: u64,
    name: String,
}

impl Continuity {
    /// Before anything of the log is known.
    pub(crate) async fn begin(wire: &Wire, names: &Names) -> Result<Self, Failure> {
        let deletions = wire.subscribe(format!("$JS.EVENT.ADVISORY.STREAM.DELETED.{}", names.events)).await?;
        let doubt = wire.connects();
        Ok(Self {
            began: Instant::now(),
            highest: AtomicU64::new(0),
            landmark: Mutex::default(),
            due: AtomicU64::new(EVERY.as_millis() as u64),
            doubts: Mutex::new(Doubts { deletions, deleted: 0 }),
            looked_at: AtomicU64::new(doubt),
            believed_at: AtomicU64::new(doubt),
            replicated: AtomicBool::new(false),
            short_since: Mutex::new(None),
            broken: OnceLock::new(),
        })
    }

    /// The highest sequence that the log is known to have had.
    pub(crate) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// Notes a sequence that the log has had.
    pub(crate) fn note(&self, seq: u64) {
        self.highest.fetch_max(seq, Ordering::AcqRel);
    }

    /// Notes a message of the log.
    pub(crate) fn note_message(&self, message: &Message) {
        match commit::name_of(message) {
            Some(name) => self.note_commit(message.seq, name),
            None => self.note(message.seq),
        }
    }

    /// Notes a commit of the log.
    pub(crate) fn note_commit(&self, seq: u64, name: &str) {
        self.note(seq);
        let mut landmark = self.landmark.lock().unwrap_or_else(PoisonError::into_inner);
        if landmark.seq < seq {
            landmark.seq = seq;
            name.clone_into(&mut landmark.name);
        }
    }

    fn landmark(&self) -> Landmark {
        self.landmark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A number that changes when the stream may have been replaced.
    fn doubt(&self, wire: &Wire) -> u64 {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever has arrived counts, also for a task that has done much already.
        while let Some(Some(_)) = unconstrained(doubts.deletions.next()).now_or_never() {
            doubts.deleted += 1;
        }
        doubts.deleted + wire.connects()
    }

    /// Whether an answer of any replica may be behind.
    pub(crate) fn is_replicated(&self) -> bool {
        self.replicated.load(Ordering::Relaxed)
    }

    /// Notes how many replicas there are. Once there were several, somebody may still be behind.
    pub(crate) fn note_replicas(&self, replicas: usize) {
        if replicas > 1 && !self.is_replicated() {
            self.replicated.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody should look. One caller is told so at a time.
    fn is_due(&self, doubt: u64) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        let due = self.due.load(Ordering::Relaxed);
        let next = now + EVERY.as_millis() as u64;
        self.looked_at.swap(doubt, Ordering::Relaxed) != doubt
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

/// What a server says of the log.
struct Found {
    id: Option<StoreId>,
    facts: StreamFacts,
    /// What stands in the place of the commit that is known; `None`: nothing, as where it was removed.
    landmark: Option<Message>,
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
        if !self.continuity.is_due(self.continuity.doubt(&self.wire)) {
            return Ok(());
        }
        // On the heap: whoever reads or appends has room for it at hand otherwise, in every load and command.
        timeout(EVERY, Box::pin(self.check_log())).await.unwrap_or(Ok(()))
    }

    /// Whether the stream may have been replaced since it was looked at.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.continuity.doubt(&self.wire) != self.continuity.believed_at.load(Ordering::Relaxed)
    }

    /// Looks whether the log is still the one that this process knows, if there is doubt. Answers how many connections there have
    /// been; the failure: why it cannot be said.
    ///
    /// # Errors
    /// `Corrupt` if it is another one.
    pub(crate) async fn dispel_doubt(&self) -> Result<Result<u64, Failure>> {
        if let Some(error) = self.continuity.broken.get() {
            return Err(error.clone());
        }
        // What comes with the next connection is not known before that is there.
        if let Err(failure) = self.wire.connected().await {
            return Ok(Err(failure));
        }
        let connects = self.wire.connects();
        Ok(match self.is_in_doubt() {
            true => Box::pin(self.compare_log()).await?.map(|()| connects),
            false => Ok(connects),
        })
    }

    /// As [`Shared::look_after_log`], whatever the time.
    pub(crate) async fn check_log(&self) -> Result<()> {
        if let Err(failure) = Box::pin(self.compare_log()).await? {
            tracing::debug!(?failure, "whether the log is the same cannot be said");
        }
        Ok(())
    }

    async fn compare_log(&self) -> Result<Result<(), Failure>> {
        let (known, landmark) = (self.continuity.highest(), self.continuity.landmark());
        let doubt = self.continuity.doubt(&self.wire);
        let Found { id, facts, landmark: there } = match self.look_at_log(landmark.seq).await {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        self.continuity.note_replicas(facts.config.num_replicas);
        if let Some(id) = id.filter(|id| *id != self.id) {
            return Err(self.continuity.end(self.made_again(id)));
        }
        if there.is_some_and(|there| commit::name_of(&there) != Some(&landmark.name)) {
            return Err(self.continuity.end(self.replaced(landmark.seq)));
        }
        let last = facts.state.last_seq;
        if id.is_some() && last >= known {
            self.continuity.note(last);
            self.continuity.is_whole();
            self.continuity.believed_at.store(doubt, Ordering::Relaxed);
            return Ok(Ok(()));
        }
        let short_for = self.continuity.short_for();
        let is_certain = facts.config.num_replicas <= 1
            || short_for >= BELIEVED_AFTER && facts.is_heard_by_a_majority(HEARD);
        if !is_certain {
            return Ok(Err(Failure::Silence(format!(
                "the server's log ends at {last}, although {known} was acknowledged"
            ))));
        }
        Err(self.continuity.end(match id {
            None => self.purged(),
            Some(_) => self.went_back(known, last),
        }))
    }

    /// Notes the commit that was acknowledged to a request that was sent when the log had a sequence.
    ///
    /// # Errors
    /// `Corrupt` if it is not above that sequence.
    pub(crate) async fn note_acknowledged(&self, before: u64, seq: u64, name: &str) -> Result<()> {
        if seq > before {
            self.continuity.note_commit(seq, name);
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
        (!self.continuity.is_replicated()).then(|| {
            Error::corrupt(format!(
                "the last message on `{subject}` is {last}, although {known} was there: it was purged from stream `{}`; restore \
                 a backup, or start this process again to go on without what is gone",
                self.names.events
            ))
        })
    }

    async fn look_at_log(&self, landmark: u64) -> Result<Found, Failure> {
        let events = &self.names.events;
        let (get_id, get_landmark) = (Get::last(self.names.identity()), Get::at(landmark));
        let operation = format!("STREAM.INFO.{events}");
        let body = json!({});
        let landmark = (landmark > 0).then(|| self.wire.leader_get(events, &get_landmark));
        let landmark = OptionFuture::from(landmark).map(|there| there.unwrap_or(Ok(None)));
        let id = self.wire.leader_get(events, &get_id);
        let (id, facts, landmark) = try_join3(id, self.wire.api(&operation, &body), landmark).await?;
        Ok(Found { id: id.as_ref().and_then(id_of), facts, landmark })
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

    fn replaced(&self, seq: u64) -> Error {
        Error::corrupt(format!(
            "the log of stream `{}` went back and has grown since: at sequence {seq} stands another message than was there; an older \
             copy was put in its place, or the server lost what it had acknowledged: reset whatever has followed the log since, then \
             start this process again",
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
