//! Names of keys and fields, and the line that tells a snapshot. FORMAT.md describes them.

use std::fmt;
use std::str::FromStr;

use tailfold::{Day, Error, Head, Result, Slot, Version};

/// Where the snapshots of a store lie: one hash for each stream or projection, so that whatever belongs to it is changed, lost and
/// evicted together, on one node of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
        if name.is_empty() || name.len() > 32 || !name.bytes().all(good) {
            return Err(Error::invalid_text(
                "store name",
                name,
                "must be 1..=32 ASCII letters, digits, `_` or `-`",
            ));
        }
        Ok(Self { prefix: format!("{name}:") })
    }

    /// The hash of a stream's or projection's key.
    pub(crate) fn hash(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The reverse of [`Names::hash`], where it is one.
    pub(crate) fn key<'a>(&self, hash: &'a str) -> Option<&'a str> {
        hash.strip_prefix(&self.prefix).filter(|key| !key.is_empty())
    }

    /// A pattern for the hashes of all keys. The name holds nothing that is special in a pattern.
    pub(crate) fn all(&self) -> String {
        format!("{}*", self.prefix)
    }
}

/// The field of a slot's newest envelope. What else is kept of the slot is in fields that begin with this and a colon.
pub(crate) fn field(slot: &Slot) -> String {
    format!("{}:{}", slot.fold(), slot.serial())
}

/// The slot of a field as [`field`] makes it.
pub(crate) fn slot(field: &str, key: &str) -> Option<Slot> {
    let (fold, serial) = field.split_once(':')?;
    Slot::new(fold, serial.parse().ok()?, key).ok()
}

/// What is known of a snapshot beside its envelope: `VERSION CHAIN BYTES USED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) head: Head,
    pub(crate) bytes: u64,
    pub(crate) used: Day,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head: Head { version, chain }, bytes, used: Day(used) } = self;
        write!(f, "{version} {chain} {bytes} {used}")
    }
}

impl FromStr for Line {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(());
        let version = Version(word()?.parse().map_err(|_| ())?);
        let chain = word()?.parse().map_err(|_| ())?;
        let bytes = word()?.parse().map_err(|_| ())?;
        let used = Day(word()?.parse().map_err(|_| ())?);
        words.next().is_none().then_some(Self { head: Head { version, chain }, bytes, used }).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailfold::Chain;

    #[test]
    fn names_and_lines_are_what_the_format_says() {
        let names = Names::new("tf").unwrap();
        let slot = Slot::new("account", "3-9f86d081884c7d65".parse().unwrap(), "account/1787").unwrap();
        assert_eq!(names.hash(slot.key()), "tf:account/1787");
        assert_eq!(names.key("tf:account/1787"), Some("account/1787"));
        assert_eq!((names.key("tf2:a"), names.key("tf:")), (None, None));
        assert_eq!(field(&slot), "account:3-9f86d081884c7d65");
        assert_eq!(super::slot(&field(&slot), slot.key()), Some(slot));
        let head = Head { version: Version(u64::MAX), chain: Chain::from_bytes([0xab; 16]) };
        let line = Line { head, bytes: 1044, used: Day(20_779) };
        let text = "18446744073709551615 abababababababababababababababab 1044 20779";
        assert_eq!(line.to_string(), text);
        assert_eq!(text.parse(), Ok(line));
        for bad in ["", "1", "1 ab 1 1", "1 abababababababababababababababab 1 1 1", "x"] {
            assert_eq!(bad.parse::<Line>(), Err(()), "{bad:?}");
        }
        assert!(Names::new("a b").is_err() && Names::new("").is_err() && Names::new("a*").is_err());
    }
}
