//! Keys on the command line.

use tailfold::{EventId, ProjectionKey, StreamId};

/// A key that can be written on the command line: what [`ProjectionKey::text`] gives, read back. `()`, strings, integers,
/// stream and event ids are; implement it for your own.
pub trait KeyFromText: ProjectionKey {
    /// The key of that text, which is `None` where none was given.
    ///
    /// # Errors
    /// What is wrong with the text, or that one is needed.
    fn from_text(text: Option<&str>) -> Result<Self, String>;
}

impl KeyFromText for () {
    fn from_text(text: Option<&str>) -> Result<Self, String> {
        match text {
            None => Ok(()),
            Some(_) => Err("there is one instance, without a key".to_owned()),
        }
    }
}

fn parsed<K>(text: Option<&str>, parse: impl FnOnce(&str) -> Result<K, String>) -> Result<K, String> {
    let text = text.ok_or("there is an instance for each key: name one with --key")?;
    parse(text).map_err(|error| format!("key `{text}`: {error}"))
}

macro_rules! keys {
    ($($key:ty),*) => {$(
        impl KeyFromText for $key {
            fn from_text(text: Option<&str>) -> Result<Self, String> {
                parsed(text, |text| text.parse().map_err(|error| format!("{error}")))
            }
        }
    )*};
}

keys!(String, StreamId, EventId);

macro_rules! numbers {
    ($($key:ty),*) => {$(
        impl KeyFromText for $key {
            fn from_text(text: Option<&str>) -> Result<Self, String> {
                let wanted = |_| format!("must be a whole number, {} to {}", Self::MIN, Self::MAX);
                parsed(text, |text| text.parse().map_err(wanted))
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, i8, i16, i32, i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_text() {
        assert_eq!(<()>::from_text(None), Ok(()));
        assert!(<()>::from_text(Some("tea")).is_err());
        assert_eq!(u32::from_text(Some("17")), Ok(17));
        let message = u32::from_text(Some("tea")).unwrap_err();
        assert_eq!(message, "key `tea`: must be a whole number, 0 to 4294967295");
        assert!(String::from_text(None).unwrap_err().contains("--key"));
    }
}
