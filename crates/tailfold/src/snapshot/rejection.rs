//! Why a snapshot was not used.

use std::fmt;

use serde::Serialize;

/// Why a snapshot that was there, or might have been, did not serve a load. Each is counted under its own name; none
/// changes the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rejection {
    /// The tier failed.
    Unavailable,
    /// The tier did not answer within its timeout.
    TimedOut,
    /// The tier was not asked: it failed so often that its breaker is open.
    BreakerOpen,
    /// Not an envelope, or its checksum is wrong, or it contradicts itself.
    Corrupt,
    /// Written by a newer release in a format that this one does not know.
    NewerFormat,
    /// The envelope belongs to another slot.
    Foreign,
    /// Encoded by a codec that this process does not know.
    UnknownCodec,
    /// Sealed by another encryption scheme, or it could not be opened, or more keys were forgotten before it
    /// was begun than this process knows of.
    Sealed,
    /// The payload does not decode as the state.
    Undecodable,
    /// Larger than the size limit.
    TooLarge,
    /// It folded an event that the fold does not handle any more.
    Unhandled,
    /// Its version is above the stream's head: a restored backup, or another stream.
    Ahead,
    /// The event at its version has another chain: it stands for another history.
    Diverged,
    /// The event at its version was truncated, so that it cannot be checked any more; or a stream was truncated after it, of
    /// which a projection may have folded events.
    Truncated,
    /// A stream was erased after it, of which a projection may have folded events.
    Erased,
    /// A key was forgotten since it was begun, or it was sealed with one: it may hold what must not be kept.
    Forgotten,
    /// Its checksum has another key than this repository's, or none, or one although the repository has none.
    OtherKey,
}

impl Rejection {
    /// All reasons, in the order of declaration.
    pub const ALL: [Self; 17] = [
        Self::Unavailable,
        Self::TimedOut,
        Self::BreakerOpen,
        Self::Corrupt,
        Self::NewerFormat,
        Self::Foreign,
        Self::UnknownCodec,
        Self::Sealed,
        Self::Undecodable,
        Self::TooLarge,
        Self::Unhandled,
        Self::Ahead,
        Self::Diverged,
        Self::Truncated,
        Self::Erased,
        Self::Forgotten,
        Self::OtherKey,
    ];

    /// The name in metrics, stats and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::BreakerOpen => "breaker_open",
            Self::Corrupt => "corrupt",
            Self::NewerFormat => "newer_format",
            Self::Foreign => "foreign",
            Self::UnknownCodec => "unknown_codec",
            Self::Sealed => "sealed",
            Self::Undecodable => "undecodable",
            Self::TooLarge => "too_large",
            Self::Unhandled => "unhandled",
            Self::Ahead => "ahead",
            Self::Diverged => "diverged",
            Self::Truncated => "truncated",
            Self::Erased => "erased",
            Self::Forgotten => "forgotten",
            Self::OtherKey => "other_key",
        }
    }

    /// Whether the snapshot can be of no use to anybody, so that the loader makes room for a right one.
    pub(crate) const fn makes_room(self) -> bool {
        matches!(
            self,
            Self::Corrupt
                | Self::Foreign
                | Self::Undecodable
                | Self::Ahead
                | Self::Diverged
                | Self::Truncated
                | Self::Erased
                | Self::Forgotten
        )
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
