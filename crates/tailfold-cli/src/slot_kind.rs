//! Whose snapshots lie in a slot: its key tells, or the fold under which subscriptions keep what is theirs.

use tailfold::Slot;

/// No stream's name begins with these.
const PROJECTION: char = '*';
const CURSOR: char = '^';
const SUBSCRIPTIONS: &str = Slot::LASTING;
/// No name of a subscription holds it.
const PARKED: char = '!';

/// What is kept in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotKind<'a> {
    /// Snapshots of an aggregate.
    Stream,
    /// Snapshots of an instance of a projection, of that key; `None` where there is one.
    Projection(Option<&'a str>),
    /// How far an instance has looked beyond its last event.
    Cursor(Option<&'a str>),
    /// Where a subscription stands.
    Checkpoint,
    /// An event that a subscription has put aside.
    Parked,
}

impl<'a> SlotKind<'a> {
    pub(crate) fn of(slot: &'a Slot) -> Self {
        let key = slot.key();
        let named = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        if slot.fold() == SUBSCRIPTIONS {
            if key.contains(PARKED) { Self::Parked } else { Self::Checkpoint }
        } else if let Some(text) = key.strip_prefix(PROJECTION) {
            Self::Projection(named(text))
        } else if let Some(text) = key.strip_prefix(CURSOR) {
            Self::Cursor(named(text))
        } else {
            Self::Stream
        }
    }

    /// The word for it in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Projection(_) => "projection",
            Self::Cursor(_) => "cursor",
            Self::Checkpoint => "checkpoint",
            Self::Parked => "parked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_what_is_kept() {
        let slot = |key: &str| Slot::new("sold", "0123456789abcdef".parse().unwrap(), key).unwrap();
        assert_eq!(SlotKind::of(&slot("order/1")), SlotKind::Stream);
        assert_eq!(SlotKind::of(&slot("*")), SlotKind::Projection(None));
        assert_eq!(SlotKind::of(&slot("*tea")), SlotKind::Projection(Some("tea")));
        assert_eq!(SlotKind::of(&slot("^*")), SlotKind::Cursor(Some("*")));
    }
}
