//! The names that end up in stores: how they are made from Rust's, and which are allowed.

use syn::{Ident, LitStr, Result, ext::IdentExt as _};

/// A name that is written into stores, checked when the user's crate is compiled.
pub(crate) struct NameRule {
    what: &'static str,
    longest: usize,
    punctuation: &'static str,
}

/// Category of streams.
pub(crate) const CATEGORY: NameRule = NameRule { what: "category", longest: 64, punctuation: "_-." };
/// Stable name of an event.
pub(crate) const EVENT_TYPE: NameRule = NameRule { what: "event name", longest: 128, punctuation: "_-.:" };
/// Stable name of a state.
pub(crate) const STATE_NAME: NameRule = NameRule { what: "state name", longest: 64, punctuation: "_-" };
/// Label of a serial.
pub(crate) const LABEL: NameRule = NameRule { what: "serial label", longest: 32, punctuation: "_-" };

impl NameRule {
    /// What is wrong with the name, if anything.
    pub(crate) fn broken_by(&self, name: &str) -> Option<String> {
        let good = |c: char| c.is_ascii_alphanumeric() || self.punctuation.contains(c);
        if (1..=self.longest).contains(&name.len()) && name.chars().all(good) {
            return None;
        }
        let marks: Vec<_> = self.punctuation.chars().map(|mark| format!("`{mark}`")).collect();
        Some(format!(
            "{} {name:?}: must be 1..={} ASCII letters, digits, {}",
            self.what,
            self.longest,
            marks.join(", ")
        ))
    }

    /// Takes a name that the user wrote.
    pub(crate) fn check(&self, name: &LitStr) -> Result<String> {
        let text = name.value();
        match self.broken_by(&text) {
            None => Ok(text),
            Some(problem) => Err(syn::Error::new(name.span(), problem)),
        }
    }
}

/// The identifier as serde sees it: without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// `HttpServerStarted` and `HTTPServerStarted` become `http_server_started`. Part of the stored format: never to change.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut previous: Option<char> = None;
    let mut rest = name.chars().peekable();
    while let Some(current) = rest.next() {
        let starts_word = current.is_uppercase()
            && previous.is_some_and(|before| {
                let ends_acronym =
                    before.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase());
                before != '_' && (!before.is_uppercase() || ends_acronym)
            });
        if starts_word {
            snake.push('_');
        }
        snake.extend(current.to_lowercase());
        previous = Some(current);
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_of_variants_are_golden() {
        for (variant, stored) in [
            ("Opened", "opened"),
            ("SeatBooked", "seat_booked"),
            ("HTTPServerStarted", "http_server_started"),
            ("HttpServer", "http_server"),
            ("OAuth2Login", "o_auth2_login"),
            ("V2Opened", "v2_opened"),
            ("OpenedV2", "opened_v2"),
            ("Ab3C", "ab3_c"),
            ("ABC", "abc"),
            ("Already_Split", "already_split"),
            ("already_snake", "already_snake"),
            ("A", "a"),
        ] {
            assert_eq!(snake_case(variant), stored);
        }
    }

    #[test]
    fn a_name_is_checked_for_length_and_characters() {
        for good in ["a", "bank.account-2_x", &"x".repeat(64)] {
            assert_eq!(CATEGORY.broken_by(good), None);
        }
        for bad in ["", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(CATEGORY.broken_by(bad).is_some(), "{bad}");
        }
        assert_eq!(
            STATE_NAME.broken_by("a.b").unwrap(),
            "state name \"a.b\": must be 1..=64 ASCII letters, digits, `_`, `-`"
        );
    }
}
