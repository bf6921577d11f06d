//! A table of keys, one for each subject, and the encryption hook over it: what a service that forgets people
//! has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use tailfold::{Binding, Encryption, Error, Opened, Outcome, Result, StateOf};

/// AES-256-GCM with a key for each stream, and one for all projections. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    table: Arc<Mutex<Table>>,
    finer: bool,
}

#[derive(Debug, Default)]
struct Table {
    keys: BTreeMap<String, Vec<Key>>,
    away: bool,
    /// Payloads that may still be opened, and whose key goes then.
    countdown: Option<(u32, String)>,
    /// How many forgotten keys this process does not know of yet.
    behind: u64,
}

/// A key of a subject. A subject that was forgotten and comes back gets another one.
#[derive(Debug)]
enum Key {
    Live([u8; 32]),
    Forgotten,
}

impl Keys {
    /// A key for each event instead, and one for the snapshots of each stream.
    #[must_use]
    pub fn for_each_event() -> Self {
        Self { finer: true, ..Self::default() }
    }

    /// Drops the keys of a subject: a stream, or the start of what [`Keys::for_each_event`] calls one.
    pub fn forget(&self, subject: &str) {
        self.lock().forget(subject);
    }

    /// Drops the keys of a subject when so many more payloads were opened.
    pub fn forget_after(&self, opened: u32, subject: &str) {
        self.lock().countdown = Some((opened, subject.to_owned()));
    }

    /// Whether the service that has the keys is away.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// Answers a number that is so much too low, as a process does whose copy of the table is old.
    pub fn set_behind(&self, keys: u64) {
        self.lock().behind = keys;
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subject(&self, binding: &Binding<'_>) -> String {
        match (binding, binding.stream()) {
            (Binding::Event { id, .. }, Some(stream)) if self.finer => format!("{stream} {id}"),
            (_, Some(stream)) => stream.to_string(),
            (_, None) => "projections".to_owned(),
        }
    }
}

impl Table {
    fn forget(&mut self, subject: &str) {
        for (_, keys) in self.keys.iter_mut().filter(|(name, _)| name.starts_with(subject)) {
            keys.iter_mut().for_each(|key| *key = Key::Forgotten);
        }
    }

    fn answers(&self) -> Result<()> {
        match self.away {
            true => Err(Error::unavailable(Outcome::NotDone, "the service that has the keys is away")),
            false => Ok(()),
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::invalid("no random numbers"))?;
    Ok(bytes)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| Error::invalid("no such key"))?))
}

/// Sealed: the key's number in 4 bytes, what the cipher has made of it, and the nonce.
impl Encryption for Keys {
    fn id(&self) -> &str {
        "aes-256-gcm by subject"
    }

    fn seal(&self, plain: &[u8], binding: &Binding<'_>) -> Result<Vec<u8>> {
        let (number, key) = {
            let mut table = self.lock();
            table.answers()?;
            let keys = table.keys.entry(self.subject(binding)).or_default();
            match keys.last() {
                Some(Key::Live(key)) => (keys.len(), *key),
                _ => {
                    let key = random()?;
                    keys.push(Key::Live(key));
                    (keys.len(), key)
                }
            }
        };
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = plain.to_vec();
        cipher(&key)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(binding.associated_data()),
                &mut sealed,
            )
            .map_err(|_| Error::invalid("too large to seal"))?;
        Ok([&(number as u32).to_le_bytes()[..], &sealed, &nonce].concat())
    }

    fn open(&self, sealed: &[u8], binding: &Binding<'_>) -> Result<Opened> {
        let altered = || Error::codec("altered, or sealed for another place");
        let (number, sealed) = sealed.split_first_chunk::<4>().ok_or_else(altered)?;
        let (sealed, nonce) = sealed.split_last_chunk::<NONCE_LEN>().ok_or_else(altered)?;
        let key = {
            let mut table = self.lock();
            table.answers()?;
            match table.countdown.take() {
                Some((0, subject)) => table.forget(&subject),
                Some((left, subject)) => table.countdown = Some((left - 1, subject)),
                None => {}
            }
            let index = (u32::from_le_bytes(*number) as usize).checked_sub(1).ok_or_else(altered)?;
            match table.keys.get(&self.subject(binding)).and_then(|keys| keys.get(index)) {
                Some(Key::Live(key)) => *key,
                Some(Key::Forgotten) => return Ok(Opened::Forgotten),
                None => return Err(Error::codec("nobody has ever had that key")),
            }
        };
        let mut plain = sealed.to_vec();
        let opened = cipher(&key)?.open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(binding.associated_data()),
            &mut plain,
        );
        let length = opened.map_err(|_| altered())?.len();
        plain.truncate(length);
        Ok(Opened::Plain(plain))
    }

    fn forgotten_keys(&self, state: &StateOf<'_>) -> Result<u64> {
        let table = self.lock();
        table.answers()?;
        let concerns = |subject: &str| match state {
            StateOf::Stream(stream) => {
                subject == stream.as_str()
                    || subject.strip_prefix(stream.as_str()).is_some_and(|rest| rest.starts_with(' '))
            }
            _ => true,
        };
        let of_state = table.keys.iter().filter(|(subject, _)| concerns(subject)).flat_map(|(_, keys)| keys);
        let forgotten = of_state.filter(|key| matches!(key, Key::Forgotten)).count() as u64;
        Ok(forgotten.saturating_sub(table.behind))
    }
}
