//! Which snapshots mean the same: serials, and the slots where snapshots of one kind live.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::fingerprint::Shape;
use crate::fold::{Fold, State};
use crate::schema::Events as _;
use crate::scope::Scope as _;

/// Identity of what a state means: the fingerprint of its shape, after the label set by hand, if there is one:
/// `3-9f86d081884c7d65` or `9f86d081884c7d65`. Only snapshots of the same serial are ever read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(Arc<str>);

impl Serial {
    /// The serial of a state whose snapshots are encoded by `codec`. Stable across compilers, platforms and releases.
    ///
    /// # Errors
    /// `Invalid` if the label breaks the rules of [`State::LABEL`].
    pub fn of<S: State>(codec: &Codec) -> Result<Self> {
        Self::made_of::<S>(&[&Shape::of::<S>(), codec.fingerprint()])
    }

    /// The serial of what a fold makes: that of its state; of a projection, also of the types of events that it handles, since
    /// another selection gives another state.
    ///
    /// # Errors
    /// As [`Serial::of`].
    pub fn of_fold<F: Fold>(codec: &Codec) -> Result<Self> {
        if !F::Scope::IS_PROJECTION {
            return Self::of::<F>(codec);
        }
        let mut types: Vec<_> = F::Event::sources()
            .iter()
            .flat_map(|source| {
                source.schemas.iter().map(|schema| format!("{} {}", source.category, schema.name))
            })
            .collect();
        types.sort_unstable();
        types.dedup();
        Self::made_of::<F>(&[&Shape::of::<F>(), codec.fingerprint(), &types.join("\n")])
    }

    fn made_of<S: State>(parts: &[&str]) -> Result<Self> {
        let mut hash = blake3::Hasher::new_derive_key("tailfold 2026 fingerprint of a state");
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let hex = hash.finalize().to_hex();
        let fingerprint = hex.get(..16).unwrap_or_default();
        match S::LABEL {
            None => fingerprint.parse(),
            Some(label) => format!("{label}-{fingerprint}").parse(),
        }
    }

    /// The written form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (label, fingerprint) = match text.rsplit_once('-') {
            Some((label, fingerprint)) => (Some(label), fingerprint),
            None => (None, text),
        };
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if fingerprint.len() != 16
            || !fingerprint.bytes().all(hex)
            || !label.is_none_or(|label| is_word(label, 32))
        {
            return Err(Error::invalid_text(
                "serial",
                text,
                "must be 16 hexadecimal digits, after a label of 1..=32 ASCII letters, digits, `_` or \
                 `-` and a `-`, if there is a label",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Serial {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.as_str().to_owned()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({})", self.0)
    }
}

/// Where snapshots of one kind live: fold, serial and key. Two releases with different serials use two slots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    fold: Arc<str>,
    serial: Serial,
    key: Arc<str>,
}

impl Slot {
    /// The slot of a fold for a key: the written form of a stream's id, or a projection's key.
    ///
    /// # Errors
    /// `Invalid` if the fold's name breaks the rules of [`State::NAME`], or the key is not 1..=320 bytes without control
    /// characters.
    pub fn new(fold: &str, serial: Serial, key: &str) -> Result<Self> {
        if !is_word(fold, 64) {
            return Err(Error::invalid_text(
                "fold name",
                fold,
                "must be 1..=64 ASCII letters, digits, `_` or `-`",
            ));
        }
        if key.is_empty() || key.len() > 320 || key.chars().any(char::is_control) {
            return Err(Error::invalid_text(
                "snapshot key",
                key,
                "must be 1..=320 bytes without control characters",
            ));
        }
        Ok(Self { fold: fold.into(), serial, key: key.into() })
    }

    /// The slot of a fold and serial that are known to be good, for a key that is.
    pub(super) fn of_checked(fold: &Arc<str>, serial: &Serial, key: &str) -> Self {
        Self { fold: fold.clone(), serial: serial.clone(), key: key.into() }
    }

    /// Name of the fold of what is kept among snapshots and is none: the checkpoints and parked events of
    /// [`ByPosition`](crate::ByPosition). Nothing makes them anew, so no sweep removes them.
    pub const LASTING: &'static str = "tailfold-subscription";

    /// Whether it holds what no sweep removes; see [`Slot::LASTING`].
    pub fn is_lasting(&self) -> bool {
        self.fold() == Self::LASTING
    }

    /// Name of the fold.
    pub fn fold(&self) -> &str {
        &self.fold
    }

    /// Serial of the state.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Stream or projection key.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.fold, self.serial, self.key)
    }
}

fn is_word(text: &str, longest: usize) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
    !text.is_empty() && text.len() <= longest && text.bytes().all(good)
}
