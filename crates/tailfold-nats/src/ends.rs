//! Where streams end, as this process knows it: what makes an append one round trip, and a load never go back.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tailfold::{StreamId, Version};

use crate::commit::End;

/// Streams that are remembered; one takes about 500 bytes.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(65_536).expect("it is not 0");
/// Parts that are locked apart, so that appends at the same time seldom wait for each other.
const SHARDS: usize = 64;

type Shard = LruCache<StreamId, Known>;

pub(crate) struct Ends {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    has_forgotten: AtomicBool,
}

struct Known {
    end: Arc<End>,
    /// The version of the snapshot from which the last load began, or the next one will.
    base: Version,
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
        let capacity = NonZeroUsize::new(CAPACITY.get() / SHARDS).unwrap_or(NonZeroUsize::MIN);
        let shards = (0..SHARDS).map(|_| Mutex::new(LruCache::new(capacity))).collect();
        Self { shards, hasher: RandomState::new(), has_forgotten: AtomicBool::new(false) }
    }

    pub(crate) fn get(&self, stream: &StreamId) -> Option<Arc<End>> {
        Some(self.shard(stream)?.get(stream)?.end.clone())
    }

    /// The commits that a load of the stream will most likely need besides the last one: those after its snapshot. A guess,
    /// that costs no answer: a commit at a sequence never changes.
    pub(crate) fn likely_tail(&self, stream: &StreamId) -> Vec<u64> {
        let known = self.shard(stream).and_then(|mut shard| {
            let Known { end, base } = shard.get(stream)?;
            Some((end.clone(), *base))
        });
        let Some((end, base)) = known.filter(|(_, base)| *base > Version::ZERO) else { return Vec::new() };
        end.pointers().skip(1).take_while(|pointer| pointer.last >= base).map(|pointer| pointer.seq).collect()
    }

    /// Notes the version of the snapshot that loads of the stream begin from.
    pub(crate) fn note_base(&self, stream: &StreamId, version: Version) {
        if let Some(known) = self.shard(stream).as_mut().and_then(|shard| shard.peek_mut(stream)) {
            known.base = version;
        }
    }

    pub(crate) fn seen(&self, stream: &StreamId) -> Seen {
        match self.get(stream) {
            Some(end) => Seen::AtLeast(end.seq),
            None if self.has_forgotten.load(Ordering::Relaxed) => Seen::Forgotten,
            None => Seen::AtLeast(0),
        }
    }

    /// Remembers an end, unless a later one is known.
    pub(crate) fn note(&self, stream: &StreamId, end: End) {
        // What it replaces is dropped after the lock.
        let mut end = Arc::new(end);
        let Some(mut shard) = self.shard(stream) else { return };
        match shard.get_mut(stream) {
            Some(known) if known.end.seq >= end.seq => {}
            Some(known) => std::mem::swap(&mut known.end, &mut end),
            None => {
                if shard.push(stream.clone(), Known { end, base: Version::ZERO }).is_some() {
                    self.has_forgotten.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn shard(&self, stream: &StreamId) -> Option<MutexGuard<'_, Shard>> {
        let number = self.hasher.hash_one(stream) as usize % SHARDS;
        let shard = self.shards.get(number)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
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
