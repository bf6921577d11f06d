//! Where streams end, as this process knows it: what makes an append one round trip, and a load never go back.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tailfold::StreamId;

use crate::commit::End;

/// Streams that are remembered; one takes about 500 bytes.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(65_536).expect("it is not 0");

pub(crate) struct Ends {
    known: Mutex<LruCache<StreamId, End>>,
    has_forgotten: AtomicBool,
}

/// What this process knows of the last message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A message with that sequence or a later one; 0: perhaps there is none.
    AtLeast(u64),
    /// It may have known, and has forgotten.
    Forgotten,
}

impl Ends {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::new(LruCache::new(CAPACITY)), has_forgotten: AtomicBool::new(false) }
    }

    pub(crate) fn get(&self, stream: &StreamId) -> Option<End> {
        self.known().get(stream).cloned()
    }

    pub(crate) fn seen(&self, stream: &StreamId) -> Seen {
        match self.known().peek(stream) {
            Some(end) => Seen::AtLeast(end.seq),
            None if self.has_forgotten.load(Ordering::Relaxed) => Seen::Forgotten,
            None => Seen::AtLeast(0),
        }
    }

    /// Remembers an end, unless a later one is known.
    pub(crate) fn note(&self, stream: &StreamId, end: End) {
        let mut known = self.known();
        match known.get_mut(stream) {
            Some(older) if older.seq >= end.seq => {}
            Some(older) => *older = end,
            None => {
                if known.push(stream.clone(), end).is_some() {
                    self.has_forgotten.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, LruCache<StreamId, End>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The least sequences that an answer about a snapshot's subject can have which is not older than what this process did.
/// What is forgotten costs at most a load that misses the newest snapshot.
pub(crate) struct WrittenSubjects(Mutex<LruCache<String, u64>>);

impl WrittenSubjects {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }

    pub(crate) fn least(&self, subject: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(subject).copied()
    }

    pub(crate) fn note(&self, subject: &str, least: u64) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get_mut(subject) {
            Some(known) => *known = (*known).max(least),
            None => {
                written.put(subject.to_owned(), least);
            }
        }
    }
}
