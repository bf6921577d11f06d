//! Names of streams and subjects on the server.
//!
//! ```text
//! tf.ev.<category>.<id>                      commits of a stream, one message each
//! tf.ch.<category>.<id>                      parts of its commits that are too large for a message
//! tf.ch.cut.<category>.<id>                  the marker of its last truncation
//! tf.ch.erased.<category>.<id>               a copy of its tombstone, if a truncation has taken that from its place
//! tf.id                                      the store's id
//! tf.sn.<fold>.<serial>.<key>                the newest snapshot of a slot
//! tf.sn.<fold>.<serial>.<key>.<version>      an older one
//! tf.sp.<fold>.<serial>.<key>.<save>.<n>     parts of a snapshot that is too large for a message
//! ```
//!
//! Each of the names in angle brackets is one token: whatever a subject could trip over is percent-encoded.

use std::fmt::Write as _;

use tailfold::{Error, Result, Slot, SlotFilter, StreamId, Version};

use crate::commit;
use crate::wire::Message;

#[derive(Debug)]
pub(crate) struct Names {
    prefix: String,
    /// The JetStream stream that holds the events.
    pub(crate) events: String,
    /// The JetStream stream that holds the snapshots.
    pub(crate) snapshots: String,
}

/// What the subjects of commits and of markers begin with, after the store's name.
const LOGGED: [&str; 2] = ["ev.", "ch.cut."];

/// What the subjects of moved tombstones begin with, after the store's name. Where parts are, as with markers.
const MOVED: &str = "ch.erased.";

/// What a subject of the snapshots' stream stands for.
pub(crate) struct SnapshotName {
    pub(crate) slot: Slot,
    /// The version of an older snapshot; `None`: the newest.
    pub(crate) older: Option<Version>,
}

impl Names {
    /// Names for a store.
    ///
    /// # Errors
    /// `Invalid` if the name is not 1..=32 ASCII letters, digits, `_` or `-`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
        if name.is_empty() || name.len() > 32 || !name.bytes().all(good) {
            return Err(Error::invalid_text(
                "store name",
                name,
                "must be 1..=32 ASCII letters, digits, `_` or `-`",
            ));
        }
        let upper = name.to_ascii_uppercase();
        Ok(Self {
            prefix: name.to_owned(),
            events: format!("{upper}_EVENTS"),
            snapshots: format!("{upper}_SNAPSHOTS"),
        })
    }

    /// What all subjects of the store begin with: its name.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn subjects_of_events(&self) -> Vec<String> {
        vec![self.all_commits(), format!("{}.ch.>", self.prefix), self.identity()]
    }

    pub(crate) fn subjects_of_snapshots(&self) -> Vec<String> {
        vec![format!("{}.sn.>", self.prefix), format!("{}.sp.>", self.prefix)]
    }

    pub(crate) fn identity(&self) -> String {
        format!("{}.id", self.prefix)
    }

    /// Every subject of both streams.
    pub(crate) fn everything(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// A subject without the store's name: the same in a store of another name.
    pub(crate) fn relative<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&self.prefix)?.strip_prefix('.')
    }

    /// A subject of this store.
    pub(crate) fn absolute(&self, relative: &str) -> String {
        format!("{}.{relative}", self.prefix)
    }

    /// What takes the place of messages that are gone, in a store that was restored. No stream has its parts there.
    pub(crate) fn filler(&self) -> String {
        format!("{}.ch.gone", self.prefix)
    }

    pub(crate) fn all_commits(&self) -> String {
        format!("{}.ev.>", self.prefix)
    }

    pub(crate) fn commits_of_category(&self, category: &str) -> String {
        format!("{}.ev.{}.*", self.prefix, token(category))
    }

    pub(crate) fn commits_of(&self, stream: &StreamId) -> String {
        self.of_stream(".ev.", stream)
    }

    pub(crate) fn parts_of(&self, stream: &StreamId) -> String {
        self.of_stream(".ch.", stream)
    }

    pub(crate) fn all_markers(&self) -> String {
        // Not `>`: the parts of a category `cut` have a name less.
        format!("{}.ch.cut.*.*", self.prefix)
    }

    pub(crate) fn markers_of_category(&self, category: &str) -> String {
        format!("{}.ch.cut.{}.*", self.prefix, token(category))
    }

    /// The marker of a stream's last truncation. Among the parts, where releases that know no markers do not look, and no stream has
    /// its own: these have a name less.
    pub(crate) fn marker_of(&self, stream: &StreamId) -> String {
        self.of_stream(".ch.cut.", stream)
    }

    /// Whether a subject is one of commits or markers.
    pub(crate) fn is_of_the_log(&self, subject: &str) -> bool {
        let [commits, markers] = LOGGED;
        self.relative(subject).is_some_and(|rest| {
            // A category `cut` has parts on subjects that begin as those of markers do, with a name less. What is wrong among the
            // commits is not passed over.
            rest.starts_with(commits) || rest.strip_prefix(markers).is_some_and(|names| names.contains('.'))
        })
    }

    pub(crate) fn all_moved_tombstones(&self) -> String {
        format!("{}.{MOVED}*.*", self.prefix)
    }

    /// Where the copy of a tombstone is, given the subject of its stream's commits.
    pub(crate) fn moved_tombstone_of(&self, commits: &str) -> Option<String> {
        let [kind, _] = LOGGED;
        Some(self.absolute(&format!("{MOVED}{}", self.relative(commits)?.strip_prefix(kind)?)))
    }

    pub(crate) fn is_moved_tombstone(&self, subject: &str) -> bool {
        // Parts of a category `erased` have a name less.
        let rest = self.relative(subject).and_then(|rest| rest.strip_prefix(MOVED));
        rest.is_some_and(|names| names.contains('.'))
    }

    /// A copy of a tombstone as the message that it is a copy of.
    pub(crate) fn moved_back(&self, copy: Message) -> Option<Message> {
        let [kind, _] = LOGGED;
        let names = self.relative(&copy.subject)?.strip_prefix(MOVED)?;
        let subject = self.absolute(&format!("{kind}{names}"));
        Some(Message { seq: commit::stood_at(&copy)?, subject, ..copy })
    }

    fn of_stream(&self, kind: &str, stream: &StreamId) -> String {
        let mut subject = String::with_capacity(self.prefix.len() + kind.len() + stream.as_str().len() + 16);
        subject.push_str(&self.prefix);
        subject.push_str(kind);
        push_token(&mut subject, stream.category());
        subject.push('.');
        push_token(&mut subject, stream.id());
        subject
    }

    /// The stream whose commits, or marker, have that subject.
    pub(crate) fn stream_of(&self, subject: &str) -> Result<StreamId> {
        let wrong = || Error::corrupt(format!("subject `{subject}` names no stream of events"));
        let rest =
            self.relative(subject).and_then(|rest| LOGGED.iter().find_map(|kind| rest.strip_prefix(kind)));
        let (category, id) = rest.and_then(|rest| rest.split_once('.')).ok_or_else(wrong)?;
        let text = |token| text_of(token).ok_or_else(wrong);
        StreamId::new(&text(category)?, &text(id)?).map_err(|error| wrong().caused_by(error))
    }

    pub(crate) fn newest_of(&self, slot: &Slot) -> String {
        format!("{}.sn.{}", self.prefix, tokens(slot))
    }

    pub(crate) fn older_of(&self, slot: &Slot, version: Version) -> String {
        format!("{}.{version}", self.newest_of(slot))
    }

    /// Every older snapshot of a slot.
    pub(crate) fn all_older_of(&self, slot: &Slot) -> String {
        format!("{}.*", self.newest_of(slot))
    }

    /// Snapshots of the slots that match, the newest ones and the older ones.
    pub(crate) fn snapshots_where(&self, filter: &SlotFilter) -> [String; 2] {
        let newest = format!("{}.sn.{}", self.prefix, pattern(filter));
        let older = format!("{newest}.*");
        [newest, older]
    }

    /// Parts of all snapshots of the slots that match.
    pub(crate) fn snapshot_parts_where(&self, filter: &SlotFilter) -> String {
        format!("{}.sp.{}.>", self.prefix, pattern(filter))
    }

    /// All parts of one save.
    pub(crate) fn snapshot_parts_of(&self, slot: &Slot, save: &str) -> String {
        format!("{}.sp.{}.{save}.*", self.prefix, tokens(slot))
    }

    pub(crate) fn snapshot_part(&self, slot: &Slot, save: &str, number: usize) -> String {
        format!("{}.sp.{}.{save}.{number}", self.prefix, tokens(slot))
    }

    /// Whether a subject of the snapshots' stream is one of what never expires, or of its parts.
    pub(crate) fn is_lasting(&self, subject: &str) -> bool {
        let rest = subject.strip_prefix(&self.prefix);
        let slot = rest.and_then(|rest| rest.strip_prefix(".sn.").or_else(|| rest.strip_prefix(".sp.")));
        slot.and_then(|slot| slot.split('.').next()) == Some(Slot::LASTING)
    }

    /// What a snapshot's subject stands for.
    pub(crate) fn snapshot_of(&self, subject: &str) -> Result<SnapshotName> {
        let wrong = || Error::corrupt(format!("subject `{subject}` names no snapshot"));
        let rest = subject.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix(".sn."));
        let mut tokens = rest.ok_or_else(wrong)?.split('.');
        let mut next = || tokens.next().and_then(text_of).ok_or_else(wrong);
        let (fold, serial, key) = (next()?, next()?, next()?);
        let slot = serial.parse().and_then(|serial| Slot::new(&fold, serial, &key));
        let slot = slot.map_err(|error| wrong().caused_by(error))?;
        let older = match tokens.next() {
            Some(version) => Some(Version(version.parse().map_err(|_| wrong())?)),
            None => None,
        };
        Ok(SnapshotName { slot, older })
    }
}

/// Whether one pattern of subjects, or one subject, matches all that another matches.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(token), Some(other)) if token == other => {}
            _ => return false,
        }
    }
}

fn tokens(slot: &Slot) -> String {
    format!("{}.{}.{}", token(slot.fold()), token(slot.serial().as_str()), token(slot.key()))
}

fn pattern(filter: &SlotFilter) -> String {
    let part = |text: Option<&str>| text.map_or_else(|| "*".to_owned(), token);
    let serial = filter.serial.as_ref().map(|serial| serial.as_str());
    format!("{}.{}.{}", part(filter.fold.as_deref()), part(serial), part(filter.key.as_deref()))
}

fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    push_token(&mut token, text);
    token
}

/// One token: what cannot mean anything in a subject stays, every other byte becomes `%XX`.
fn push_token(to: &mut String, text: &str) {
    let stays = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>' | b'%');
    if text.bytes().all(stays) {
        return to.push_str(text);
    }
    for byte in text.bytes() {
        if stays(byte) {
            to.push(byte.into());
        } else {
            // Writing to a string does not fail.
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

pub(crate) fn text_of(token: &str) -> Option<String> {
    if !token.contains('%') {
        return Some(token.to_owned());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("tf").unwrap()
    }

    #[test]
    fn every_name_is_one_token_and_comes_back() {
        for id in
            ["a", "a.b", "*", ">", "a b", "%", "%2E", "é\u{1F600}", "..", "a/b", "$x", "\u{a0}", "TF_ev"]
        {
            let stream = StreamId::new("cat.egory", id).unwrap();
            let subject = names().commits_of(&stream);
            assert_eq!(subject.split('.').count(), 4, "{subject}");
            assert!(subject.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>')));
            assert_eq!(names().stream_of(&subject).unwrap(), stream);
            assert_eq!(names().stream_of(&names().marker_of(&stream)).unwrap(), stream);
            assert!(names().is_of_the_log(&subject) && names().is_of_the_log(&names().marker_of(&stream)));
            for category in ["cat.egory", "cut"] {
                let parts = names().parts_of(&StreamId::new(category, id).unwrap());
                assert!(!names().is_of_the_log(&parts), "{parts}");
            }
            let slot = Slot::new("fold", "0000000000000001".parse().unwrap(), stream.as_str()).unwrap();
            let newest = names().snapshot_of(&names().newest_of(&slot)).unwrap();
            assert!(newest.slot == slot && newest.older.is_none());
            let older = names().snapshot_of(&names().older_of(&slot, Version(7))).unwrap();
            assert!(older.slot == slot && older.older == Some(Version(7)));
            let lasting = Slot::new(Slot::LASTING, slot.serial().clone(), slot.key()).unwrap();
            for (slot, lasts) in [(slot, false), (lasting, true)] {
                for subject in [
                    names().newest_of(&slot),
                    names().older_of(&slot, Version(7)),
                    names().snapshot_part(&slot, "save", 0),
                ] {
                    assert_eq!(names().is_lasting(&subject), lasts, "{subject}");
                }
            }
        }
    }

    #[test]
    fn foreign_subjects_are_corrupt() {
        for subject in
            ["tf.ev.a", "tg.ev.a.b", "tf.ev.%zz.b", "tf.ev.a.%F", "tf.ev..b", "tf.ev.a.%FF", "tf.id"]
        {
            let error = names().stream_of(subject).unwrap_err();
            assert!(error.to_string().contains(subject), "{error}");
        }
        for subject in ["tf.sn.f.x.k", "tf.sn.f.0000000000000001", "tf.sn.f.0000000000000001.k.x"] {
            assert!(names().snapshot_of(subject).is_err(), "{subject}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_matches() {
        for (wide, narrow) in [
            ("a.>", "a.b"),
            ("a.>", "a.b.c"),
            ("a.>", "a.*.>"),
            ("a.*", "a.b"),
            ("a.*", "a.*"),
            ("a.b", "a.b"),
            (">", "a"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("a.>", "a"),
            ("a.*", "a.>"),
            ("a.*", "a.b.c"),
            ("a.b", "a.*"),
            ("a.b", "a.b.c"),
            ("a.b.c", "a.b"),
            ("a", "b"),
        ] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_its_subjects() {
        for name in ["", "a.b", "a*", "a b", "é", &"x".repeat(33)] {
            assert!(Names::new(name).is_err(), "{name:?}");
        }
    }
}
