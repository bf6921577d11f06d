//! The files of one commit, as git names them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tailfold::State;

/// Path -> what stands there. Paths are kept as git prints them (`"b\303\274cher.txt"`, quotes and all), and shared:
/// cloning a tree of 10,000 files copies no text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
#[serde(transparent)]
pub(crate) struct Tree(BTreeMap<Arc<str>, File>);

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, State)]
pub(crate) struct File {
    pub(crate) mode: Mode,
    pub(crate) blob: ObjectId,
}

/// `100644`, `100755`, `120000` (a symbolic link), `160000` (a submodule).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, State)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Mode(u32);

/// Name of a commit or of a blob: 20 or 32 bytes here, 40 or 64 hex digits wherever it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, State)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum ObjectId {
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

impl Tree {
    pub(crate) fn file(&self, path: &str) -> Option<File> {
        self.0.get(path).copied()
    }

    /// Puts a file at a path, or takes it away.
    pub(crate) fn set(&mut self, path: Arc<str>, file: Option<File>) {
        match file {
            Some(file) => self.0.insert(path, file),
            None => self.0.remove(&path),
        };
    }

    /// Number of files.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// SHA-256 over one line a file, `<mode> <blob>\t<path>\n`, in the order of the paths' bytes.
    pub(crate) fn digest(&self) -> String {
        let mut sha256 = Sha256::new();
        for (path, file) in &self.0 {
            sha256.update(format!("{} {}\t{path}\n", file.mode, file.blob));
        }
        hex(&sha256.finalize())
    }

    /// Paths at which two trees differ.
    pub(crate) fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let missing = other.0.keys().filter(|path| !self.0.contains_key(*path));
        let changed = self.0.iter().filter(|(path, file)| other.0.get(*path) != Some(*file));
        missing.chain(changed.map(|(path, _)| path)).map(|path| &**path).collect()
    }
}

impl FromIterator<(Arc<str>, File)> for Tree {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, File)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            // The parser would take a sign as well.
            Ok(mode) if text.len() == 6 && !text.starts_with('+') => Ok(Self(mode)),
            _ => Err(format!("{text:?} is no file mode: not six octal digits")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06o}", self.0)
    }
}

impl FromStr for ObjectId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = unhex(text).map(Self::Sha1).or_else(|| unhex(text).map(Self::Sha256));
        id.ok_or_else(|| format!("{text:?} is no object name: not 40 or 64 hex digits"))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Sha1(bytes) => hex(bytes),
            Self::Sha256(bytes) => hex(bytes),
        })
    }
}

/// Serde goes through the written form.
macro_rules! written {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}

written!(Mode, ObjectId);

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("a nibble is below 16");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut nibbles =
        text.chars().map(|digit| digit.to_digit(16).and_then(|nibble| u8::try_from(nibble).ok()));
    let mut bytes = [0; N];
    for byte in &mut bytes {
        *byte = nibbles.next()?? << 4 | nibbles.next()??;
    }
    nibbles.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str, &str)]) -> Tree {
        let file = |(path, mode, blob): &(&str, &str, &str)| {
            (Arc::from(*path), File { mode: mode.parse().unwrap(), blob: blob.parse().unwrap() })
        };
        files.iter().map(file).collect()
    }

    #[test]
    fn names_and_modes_are_written_as_they_were_read() {
        for name in ["0123456789abcdef".repeat(4), "89abcdef".repeat(5)] {
            assert_eq!(name.parse::<ObjectId>().unwrap().to_string(), name);
        }
        assert_eq!("100644".parse::<Mode>().unwrap().to_string(), "100644");
        for bad in [String::new(), "8".repeat(39), "8".repeat(41), "g".repeat(40), "ä".repeat(20)] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad}");
        }
        for bad in ["", "644", "100648", "+10064"] {
            assert!(bad.parse::<Mode>().is_err(), "{bad}");
        }
    }

    #[test]
    fn digest_is_taken_over_the_lines_in_the_order_of_the_paths() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let one = tree(&[("z", "100644", &a), ("a/b", "100755", &b)]);
        let lines = format!("100755 {b}\ta/b\n100644 {a}\tz\n");
        assert_eq!(one.digest(), hex(&Sha256::digest(lines)));
    }

    #[test]
    fn differences_name_what_is_missing_on_either_side_and_what_changed() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let one = tree(&[
            ("same", "100644", &a),
            ("mode", "100644", &a),
            ("blob", "100644", &a),
            ("left", "100644", &a),
        ]);
        let other = tree(&[
            ("same", "100644", &a),
            ("mode", "100755", &a),
            ("blob", "100644", &b),
            ("right", "100644", &a),
        ]);
        assert_eq!(one.differences(&other), ["right", "blob", "left", "mode"]);
        assert!(one.differences(&one).is_empty());
    }
}
