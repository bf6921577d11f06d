//! Stored bytes, as people and programs can read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::output::printable;

/// Bytes as JSON where they are JSON, to the last digit; as base64, said so, where they are not.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Readable {
    Nothing,
    Json(Box<RawValue>),
    Other { base64: String },
}

impl Readable {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Nothing;
        }
        json_line(bytes)
            .and_then(|line| RawValue::from_string(line).ok())
            .map_or_else(|| Self::Other { base64: BASE64.encode(bytes) }, Self::Json)
    }

    /// As one harmless line of text.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Nothing => "(empty)".to_owned(),
            Self::Json(json) => printable(json.get()),
            Self::Other { base64 } => format!("(base64) {base64}"),
        }
    }
}

/// The bytes as one line of JSON, if they are JSON. Line breaks occur between tokens only, so none of it changes.
fn json_line(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(text.replace(['\n', '\r'], " "))
}

/// Exact bytes in JSON: text where they are UTF-8, else base64.
pub(crate) fn to_exact(bytes: &[u8]) -> (String, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (BASE64.encode(bytes), true),
    }
}

/// The way back.
pub(crate) fn from_exact(text: String, is_base64: bool) -> Result<Vec<u8>, String> {
    if is_base64 {
        BASE64.decode(&text).map_err(|error| format!("bad base64: {error}"))
    } else {
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_shown_digit_by_digit_and_other_bytes_as_base64() {
        let show = |bytes: &[u8]| serde_json::to_string(&Readable::of(bytes)).unwrap();
        assert_eq!(show(b"{\"a\":\n0.10000000000000000001}"), r#"{"a": 0.10000000000000000001}"#);
        assert_eq!(show(&[0xff, 0x00]), r#"{"base64":"/wA="}"#);
        assert_eq!(show(b"hello"), r#"{"base64":"aGVsbG8="}"#);
        assert_eq!(show(b""), "null");
    }

    #[test]
    fn exact_bytes_come_back() {
        for bytes in [&b"\xff\x00"[..], b"{\"a\": 1}\n", b""] {
            let (text, is_base64) = to_exact(bytes);
            assert_eq!(from_exact(text, is_base64).unwrap(), bytes);
        }
        assert!(from_exact("%".to_owned(), true).is_err());
    }
}
