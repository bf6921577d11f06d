//! Names of the locks that transactions hold to their end. They are the database's, so the schema is part of each name.
//!
//! The order of locks, the same for everybody: those of one commit sorted by number; then the table of events; then rows.

use tailfold::{Filter, Slot, Tag};

/// Numbers of the locks of one schema.
#[derive(Clone, Debug)]
pub(crate) struct Locks {
    schema: String,
}

/// A lock to take, alone or together with others who share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) number: i64,
    pub(crate) exclusive: bool,
}

/// What a commit locks before it looks at anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LockSet {
    pub(crate) numbers: Vec<i64>,
    pub(crate) exclusive: Vec<bool>,
    /// Nobody else may add events meanwhile.
    pub(crate) whole_log: bool,
}

impl Locks {
    pub(crate) fn new(schema: &str) -> Self {
        Self { schema: schema.to_owned() }
    }

    /// Held while the schema is created or changed.
    pub(crate) fn migration(&self) -> i64 {
        self.number("migration", &[])
    }

    /// Held while a snapshot is saved.
    pub(crate) fn slot(&self, slot: &Slot) -> i64 {
        self.number("slot", &[slot.fold(), slot.serial().as_str(), slot.key()])
    }

    /// Of a commit: whoever adds events with a tag shares the tag's lock; whoever requires that none were added has it alone.
    /// Each event that matches a clause bears all of its tags, so one of them is enough. A clause without tags takes the log.
    pub(crate) fn commit<'a>(
        &self,
        tags: impl Iterator<Item = &'a Tag>,
        unchanged: Option<&Filter>,
    ) -> LockSet {
        let tag_lock = |tag: &Tag, exclusive| Lock { number: self.number("tag", &[tag.as_str()]), exclusive };
        let mut locks: Vec<_> = tags.map(|tag| tag_lock(tag, false)).collect();
        let mut whole_log = false;
        for clause in unchanged.map(Filter::clauses).unwrap_or_default() {
            match clause.tags.first() {
                Some(tag) => locks.push(tag_lock(tag, true)),
                None => whole_log = true,
            }
        }
        locks.sort_by_key(|lock| (lock.number, !lock.exclusive));
        locks.dedup_by_key(|lock| lock.number);
        LockSet {
            numbers: locks.iter().map(|lock| lock.number).collect(),
            exclusive: locks.iter().map(|lock| lock.exclusive).collect(),
            whole_log,
        }
    }

    fn number(&self, kind: &str, names: &[&str]) -> i64 {
        let mut hash = blake3::Hasher::new_derive_key("tailfold 2026 advisory lock in PostgreSQL");
        for part in [self.schema.as_str(), kind].iter().chain(names) {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(hash.finalize().as_bytes().split_at(8).0);
        i64::from_le_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_wanted_twice_is_taken_once_and_alone() {
        let locks = Locks::new("bank");
        let tag = Tag::new("seat:1").unwrap();
        let set = locks.commit([&tag, &tag].into_iter(), Some(&Filter::tag(tag.clone())));
        assert_eq!(set.numbers.len(), 1);
        assert!(!set.whole_log);
        assert_eq!(set.exclusive, [true]);
        assert!(locks.commit(std::iter::empty(), Some(&Filter::category("seat"))).whole_log);
    }

    #[test]
    fn schemas_do_not_share_locks() {
        assert_ne!(Locks::new("a").migration(), Locks::new("b").migration());
        assert_ne!(Locks::new("a").number("tag", &["b"]), Locks::new("a").number("tagb", &[]));
    }
}
