//! The derives are silent under every lint that a user may have switched on: this file is checked by rustc and clippy.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, unused_qualifications)]
#![deny(
    dead_code,
    non_camel_case_types,
    unused_results,
    single_use_lifetimes,
    let_underscore_drop,
    deprecated
)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery)]
#![deny(clippy::indexing_slicing, clippy::allow_attributes, clippy::allow_attributes_without_reason)]
#![deny(clippy::absolute_paths, clippy::missing_docs_in_private_items)]
#![deny(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    clippy::min_ident_chars,
    clippy::single_char_lifetime_names
)]

/// Facts of a strict crate.
#[derive(Debug, tailfold::Event)]
#[event(category = "strict", codec = message_pack)]
#[non_exhaustive]
pub enum Fact {
    /// Named.
    #[event(origin, tag = "course:{course}")]
    Opened {
        /// Of the course.
        course: String,
    },
    /// Tuple.
    Moved(u8, u16),
    /// Newtype.
    #[event(version = 2, upcast = moved_once)]
    MovedOnce(u8),
    /// Unit.
    Closed,
}

/// Reads version 1.
fn moved_once(old: u16) -> Fact {
    Fact::MovedOnce(u8::try_from(old).unwrap_or(u8::MAX))
}

/// State of a strict crate.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, tailfold::State)]
#[state(name = "strict", serial = "v1", codec = message_pack)]
#[non_exhaustive]
pub struct Course {
    /// Of the course.
    pub course: String,
    /// Where it is.
    pub place: Place,
}

/// Part of a state.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, tailfold::State)]
#[non_exhaustive]
pub enum Place {
    /// Unit.
    #[default]
    Nowhere,
    /// Tuple.
    At(u8, u16),
}

impl tailfold::Fold for Course {
    type Event = Fact;

    fn apply(&mut self, event: Fact, _meta: &tailfold::EventMeta<'_>) {
        match event {
            Fact::Opened { course } => self.course = course,
            Fact::Moved(room, floor) => self.place = Place::At(room, floor),
            Fact::MovedOnce(room) => self.place = Place::At(room, 0),
            Fact::Closed => self.place = Place::Nowhere,
        }
    }
}

#[test]
fn strict_crates_can_derive() {
    use tailfold::{Event as _, State};

    assert_eq!(Fact::Closed.schema().name, "strict.closed");
    assert_eq!(<Course as State>::NAME, "strict");
}
