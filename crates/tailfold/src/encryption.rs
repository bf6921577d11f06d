//! The encryption hook: below the codec, for payloads of events and of snapshots alike.

use std::sync::Arc;

use crate::error::{Error, Outcome, Result};
use crate::event::EventId;
use crate::loaded::Trail;
use crate::snapshot::Slot;
use crate::stream::{Head, StreamId};

/// Seals payloads before they reach a store and opens them after. Given to
/// [`RepositoryBuilder::encryption`](crate::RepositoryBuilder::encryption).
///
/// tailfold brings no cipher: implement this over an AEAD of your choice, with a fresh nonce per call, the
/// nonce and the key's name in the sealed bytes, and [`Binding::associated_data`] as associated data. The
/// digest of an event covers the sealed bytes. Headers (types, times, metadata, tags, ids of streams) are not
/// sealed: keep what is about a person out of them.
///
/// # Forgetting a person: one key for each
///
/// Give each subject a key of its own and destroy the key when the subject is to be forgotten
/// (crypto-shredding): the events stay, their chains verify, and nobody can read them any more. Three answers
/// make that work:
///
/// - [`Encryption::open`] answers [`Opened::Forgotten`] for what was sealed with a key that is gone **on
///   purpose**. Such events count as erased: folds go on without them, and
///   [`Report::forgotten_events`](crate::Report::forgotten_events) counts them.
/// - [`Encryption::forgotten_keys`] answers **how many** keys are gone. The number is kept with each
///   snapshot; a snapshot that was begun when fewer were gone may hold what was forgotten, and is rejected,
///   removed and made anew.
/// - A key that cannot be had **at the moment** is an error, never `Forgotten`: `Unavailable` lets a load
///   fail, and a subscription wait, until the service is back.
///
/// What goes when: an aggregate's and a projection's snapshots go from every tier with the next load of that
/// instance, states that wait to be written are dropped, and states in memory go with their owners.
/// [`remove_forgotten`](crate::remove_forgotten) removes the snapshots of every fold, serial and instance
/// from a store at once. A read model has handled what it was given: take out of it yourself what it must not
/// keep.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex, MutexGuard};
///
/// use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
/// use ring::rand::{SecureRandom, SystemRandom};
/// use serde::{Deserialize, Serialize};
/// use tailfold::{
///     Binding, Encryption, Error, Event, EventMeta, Fold, MemoryStore, Opened, Policy, Repository, Result,
///     State, StateOf,
/// };
///
/// /// One key for each stream, and one for all projections. A service has them in a table whose backups
/// /// are few and short-lived: a key that a backup holds is not gone.
/// #[derive(Clone, Debug, Default)]
/// struct Keys(Arc<Mutex<HashMap<String, Option<[u8; 32]>>>>);
///
/// impl Keys {
///     fn table(&self) -> MutexGuard<'_, HashMap<String, Option<[u8; 32]>>> {
///         self.0.lock().expect("nobody panics while holding it")
///     }
///
///     /// The key is gone, and counted, in one step.
///     fn forget(&self, stream: &str) {
///         self.table().insert(stream.to_owned(), None);
///     }
///
///     /// Whose key: that of the stream, or the one for states about many.
///     fn subject(binding: &Binding<'_>) -> String {
///         binding.stream().map_or("projections".to_owned(), |stream| stream.to_string())
///     }
/// }
///
/// fn cipher(key: &[u8; 32]) -> LessSafeKey {
///     LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"))
/// }
///
/// impl Encryption for Keys {
///     fn id(&self) -> &str {
///         "aes-256-gcm, a key for each stream"
///     }
///
///     fn seal(&self, plain: &[u8], binding: &Binding<'_>) -> Result<Vec<u8>> {
///         let subject = Self::subject(binding);
///         let fresh = || {
///             let mut key = [0; 32];
///             SystemRandom::new().fill(&mut key).map(|()| Some(key)).unwrap_or_default()
///         };
///         let Some(key) = *self.table().entry(subject.clone()).or_insert_with(fresh) else {
///             return Err(Error::invalid(format!("the key of `{subject}` is gone: it was forgotten")));
///         };
///         let mut nonce = [0; NONCE_LEN];
///         SystemRandom::new().fill(&mut nonce).map_err(|_| Error::invalid("no random numbers"))?;
///         let mut sealed = plain.to_vec();
///         let context = Aad::from(binding.associated_data());
///         cipher(&key)
///             .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), context, &mut sealed)
///             .map_err(|_| Error::invalid("too large to seal"))?;
///         sealed.extend(nonce);
///         Ok(sealed)
///     }
///
///     fn open(&self, sealed: &[u8], binding: &Binding<'_>) -> Result<Opened> {
///         let subject = Self::subject(binding);
///         let key = match self.table().get(&subject) {
///             Some(Some(key)) => *key,
///             Some(None) => return Ok(Opened::Forgotten),
///             // Not forgotten: nobody knows where it is.
///             None => return Err(Error::codec(format!("there is no key of `{subject}`"))),
///         };
///         let wrong = |_| Error::codec("altered, or sealed for another place");
///         let (sealed, nonce) = sealed.split_last_chunk::<NONCE_LEN>().ok_or(()).map_err(wrong)?;
///         let mut plain = sealed.to_vec();
///         let context = Aad::from(binding.associated_data());
///         let nonce = Nonce::assume_unique_for_key(*nonce);
///         let opened = cipher(&key).open_in_place(nonce, context, &mut plain);
///         let length = opened.map_err(|_| wrong(()))?.len();
///         plain.truncate(length);
///         Ok(Opened::Plain(plain))
///     }
///
///     fn forgotten_keys(&self, state: &StateOf<'_>) -> Result<u64> {
///         let table = self.table();
///         Ok(match state {
///             StateOf::Stream(stream) => u64::from(table.get(stream.as_str()) == Some(&None)),
///             // May have folded anybody's events.
///             _ => table.values().filter(|key| key.is_none()).count() as u64,
///         })
///     }
/// }
///
/// # #[derive(Clone, PartialEq, Serialize, Deserialize, Event)]
/// # #[event(category = "customer")]
/// # enum CustomerEvent {
/// #     Named { name: String },
/// # }
/// # #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
/// # #[state(name = "customer")]
/// # struct Customer {
/// #     name: String,
/// # }
/// # impl Fold for Customer {
/// #     type Event = CustomerEvent;
/// #     fn apply(&mut self, CustomerEvent::Named { name }: CustomerEvent, _: &EventMeta<'_>) {
/// #         self.name = name;
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = Keys::default();
/// let customers = Repository::<Customer>::builder(MemoryStore::new())
///     .snapshots(Policy::every(1))
///     .encryption(keys.clone())
///     .build()?;
/// for (id, name) in [("1", "Ada"), ("2", "Grace")] {
///     let named = CustomerEvent::Named { name: name.to_owned() };
///     customers.execute(id, move |_| Ok::<_, String>(named.clone())).await??;
/// }
/// customers.flush().await;
///
/// keys.forget("customer/1");
/// let forgotten = customers.load("1").await?;
/// assert_eq!(forgotten.state().name, "");
/// assert_eq!(forgotten.report().forgotten_events, 1);
/// assert_eq!(customers.load("2").await?.state().name, "Grace");
/// # Ok(())
/// # }
/// ```
pub trait Encryption: Send + Sync + std::fmt::Debug {
    /// Stable name of the scheme, stored in each snapshot: 1..=32 bytes. A snapshot of another scheme is rejected.
    fn id(&self) -> &str;

    /// Seals a payload. Opening it under another binding must fail.
    ///
    /// # Errors
    /// Any; an append then fails with nothing written, a snapshot is dropped and counted. Where the subject
    /// was forgotten, either an error, or another key under another name in the sealed bytes: never the same
    /// name again.
    fn seal(&self, plain: &[u8], binding: &Binding<'_>) -> Result<Vec<u8>>;

    /// Opens a sealed payload, or answers that its key is gone on purpose.
    ///
    /// # Errors
    /// `Unavailable` if the key cannot be had at the moment: a load of the event fails with it, a
    /// subscription waits. With any other error the event counts as malformed. A snapshot is rejected in
    /// either case.
    fn open(&self, sealed: &[u8], binding: &Binding<'_>) -> Result<Opened>;

    /// Returns how many keys were forgotten so far, of those that may have sealed an event of that state. The
    /// number names what is forgotten, so it never decreases, is never used again for other keys, and is the
    /// same for every process. `Ok(0)` if keys are never forgotten.
    ///
    /// It is asked before a load opens its first event. Whoever answers a number must no longer open anything
    /// with the keys that it counts, so a process that remembers keys forgets them first. A number that grows
    /// costs each state that it counts for a replay, so count no more keys than concern the state: of an
    /// aggregate those of its stream, of a projection that is kept by tenant those of the tenant.
    ///
    /// # Errors
    /// Any; a load then fails with it.
    fn forgotten_keys(&self, state: &StateOf<'_>) -> Result<u64>;
}

/// What came of opening a sealed payload.
#[derive(Clone, PartialEq, Eq)]
pub enum Opened {
    /// What was sealed.
    Plain(Vec<u8>),
    /// Its key is gone on purpose: nobody will ever open it.
    Forgotten,
}

/// What a sealed payload is bound to: the one place where it may be opened, by which a hook can choose the
/// key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding<'a> {
    /// The payload of an event.
    #[non_exhaustive]
    Event {
        /// The stream that it is recorded in.
        stream: &'a StreamId,
        /// Its id.
        id: EventId,
    },
    /// The state in a snapshot.
    #[non_exhaustive]
    Snapshot {
        /// Where the snapshot belongs: fold, serial, and stream or projection key.
        slot: &'a Slot,
        /// The head that it is anchored at.
        head: Head,
    },
}

impl<'a> Binding<'a> {
    /// The binding of an event's payload.
    pub const fn event(stream: &'a StreamId, id: EventId) -> Self {
        Self::Event { stream, id }
    }

    /// The binding of a snapshot's payload.
    pub const fn snapshot(slot: &'a Slot, head: Head) -> Self {
        Self::Snapshot { slot, head }
    }

    /// The bytes to bind to, as an AEAD's associated data: `event STREAM ID` or `snapshot FOLD:SERIAL:KEY
    /// VERSION@CHAIN`. They never change.
    pub fn associated_data(&self) -> Vec<u8> {
        match self {
            Self::Event { stream, id } => format!("event {stream} {id}"),
            Self::Snapshot { slot, head } => format!("snapshot {slot} {head}"),
        }
        .into_bytes()
    }

    /// The stream that the payload is about: an event's, or an aggregate's. `None` for the snapshot of a
    /// projection.
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Event { stream, .. } => Some((*stream).clone()),
            Self::Snapshot { slot, .. } => slot.key().parse().ok(),
        }
    }
}

/// Whose events a state is folded from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateOf<'a> {
    /// An aggregate: one stream's.
    Stream(StreamId),
    /// One instance of a projection: those that its query selects from many streams.
    #[non_exhaustive]
    Projection {
        /// The fold's name.
        name: &'a str,
        /// The key's text; empty for the only instance.
        key: &'a str,
    },
}

impl<'a> StateOf<'a> {
    /// An instance of a projection; the key's text is empty for the only one.
    pub const fn projection(name: &'a str, key: &'a str) -> Self {
        Self::Projection { name, key }
    }

    /// Whose state lies in a slot; `None` if what lies there is no state.
    pub(crate) fn in_slot(slot: &'a Slot) -> Option<Self> {
        match slot.key().strip_prefix('*') {
            Some(key) => Some(Self::projection(slot.fold(), key)),
            None => slot.key().parse().ok().map(Self::Stream),
        }
    }
}

/// Keeps the plain bytes out of logs.
impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(plain) => write!(f, "Plain({} bytes)", plain.len()),
            Self::Forgotten => f.write_str("Forgotten"),
        }
    }
}

/// How often a state was folded anew because a key was forgotten meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Attempts(u32);

impl Attempts {
    /// Keys that may be forgotten one after the other while a state is folded.
    const MOST: u32 = 8;

    /// Whether a fold that left out so many events may stand. Where a key was forgotten while it went on, it
    /// may have folded some of a person's events and left out the others, which no history ever was.
    ///
    /// # Errors
    /// The hook's; `Unavailable` after the last attempt.
    pub(crate) fn is_settled(
        &mut self,
        encryption: &Option<Arc<dyn Encryption>>,
        state: &StateOf<'_>,
        forgotten_events: u64,
        trail: &Trail,
    ) -> Result<bool> {
        let Some(hook) = encryption.as_deref().filter(|_| forgotten_events > 0) else { return Ok(true) };
        if hook.forgotten_keys(state)? == trail.forgotten_keys {
            return Ok(true);
        }
        self.0 += 1;
        if self.0 < Self::MOST {
            return Ok(false);
        }
        let message =
            format!("keys were forgotten {} times while the state was folded: load it again", self.0);
        Err(Error::unavailable(Outcome::NotDone, message))
    }
}
