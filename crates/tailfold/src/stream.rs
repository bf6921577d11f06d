//! Names of streams, and places in them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::error::{Error, Result};

/// The name of one actor's history: a category and an id, written `account/1787`.
///
/// A category is 1..=64 bytes of ASCII letters, digits, `_`, `-` and `.`; an id is 1..=255 bytes of UTF-8 without
/// control characters (it may hold `/` and spaces). Cloning is cheap. Ordered by the bytes of the written form.
///
/// ```
/// use tailfold::StreamId;
/// let stream: StreamId = "account/1787".parse()?;
/// assert_eq!((stream.category(), stream.id()), ("account", "1787"));
/// assert!(StreamId::new("account", "").is_err());
/// # Ok::<(), tailfold::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId {
    // Category, `/`, id. The category never holds a `/`, so the first one splits.
    text: Arc<str>,
}

impl StreamId {
    /// Longest category, in bytes.
    pub const MAX_CATEGORY_BYTES: usize = 64;
    /// Longest id, in bytes.
    pub const MAX_ID_BYTES: usize = 255;

    /// Names a stream.
    ///
    /// # Errors
    /// `Invalid` if the category or the id breaks the rules above.
    pub fn new(category: &str, id: &str) -> Result<Self> {
        check_category(category)?;
        if id.is_empty() || id.len() > Self::MAX_ID_BYTES || id.chars().any(char::is_control) {
            let what = format!("stream id of category `{category}`");
            return Err(Error::invalid_text(&what, id, "must be 1..=255 bytes without control characters"));
        }
        Ok(Self { text: format!("{category}/{id}").into() })
    }

    /// The kind of actor: `account` in `account/1787`.
    pub fn category(&self) -> &str {
        self.text.split_once('/').map_or("", |(category, _)| category)
    }

    /// The actor among its kind: `1787` in `account/1787`.
    pub fn id(&self) -> &str {
        self.text.split_once('/').map_or("", |(_, id)| id)
    }

    /// The written form, `category/id`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

pub(crate) fn check_category(category: &str) -> Result<()> {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    if category.is_empty() || category.len() > StreamId::MAX_CATEGORY_BYTES || !category.bytes().all(good) {
        return Err(Error::invalid_text(
            "category",
            category,
            "must be 1..=64 ASCII letters, digits, `_`, `-` or `.`",
        ));
    }
    Ok(())
}

impl FromStr for StreamId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (category, id) = text
            .split_once('/')
            .ok_or_else(|| Error::invalid_text("stream", text, "must be written `category/id`"))?;
        Self::new(category, id)
    }
}

impl TryFrom<String> for StreamId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<StreamId> for String {
    fn from(stream: StreamId) -> Self {
        stream.as_str().to_owned()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({})", self.text)
    }
}

/// Place of an event in its stream: 1, 2, 3 ... without gaps. 0 means "before the first event".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// Before the first event.
    pub const ZERO: Self = Self(0);
    /// The first event of a stream.
    pub const FIRST: Self = Self(1);

    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many events lie after `earlier`, up to and with this one; 0 if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<u64> for Version {
    fn from(version: u64) -> Self {
        Self(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One exact history: version and [`Chain`] of a stream's last event. Two streams with equal heads hold the same
/// events, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// Version of the last event.
    pub version: Version,
    /// Chain at the last event.
    pub chain: Chain,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.version, self.chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_hold_slashes_and_spaces_a_category_may_not() {
        let stream: StreamId = "order/eu/17 b".parse().unwrap();
        assert_eq!((stream.category(), stream.id()), ("order", "eu/17 b"));
        for bad in ["", "a", "/x", "a/", "a b/c", "ä/x", "a/\n"] {
            assert!(bad.parse::<StreamId>().is_err(), "{bad:?}");
        }
        assert!(StreamId::new("a", &"x".repeat(256)).is_err());
        assert!(StreamId::new(&"x".repeat(65), "a").is_err());
    }
}
