//! Who waits to be written: one job a slot, in order of arrival, weighed in bytes.

use std::collections::{HashMap, VecDeque};

use super::serial::Slot;

/// What a job weighs besides its state or envelope: names, maps, allocations.
const OVERHEAD: u64 = 256;

/// Jobs that wait.
#[derive(Debug)]
pub(super) struct Line<J> {
    // Every slot of `jobs`, once.
    order: VecDeque<Slot>,
    jobs: HashMap<Slot, Weighed<J>>,
    bytes: u64,
}

#[derive(Debug)]
struct Weighed<J> {
    job: J,
    bytes: u64,
}

impl<J> Line<J> {
    pub(super) fn new() -> Self {
        Self { order: VecDeque::new(), jobs: HashMap::new(), bytes: 0 }
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// About how many bytes of memory they take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The job that waits in a slot.
    pub(super) fn get(&self, slot: &Slot) -> Option<&J> {
        self.jobs.get(slot).map(|weighed| &weighed.job)
    }

    /// All jobs that wait.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &J> {
        self.jobs.values().map(|weighed| &weighed.job)
    }

    /// Whether a job of so many bytes may wait in a slot, in the place of one that does, where all together may have `most`. One
    /// always may.
    pub(super) fn has_room(&self, slot: &Slot, bytes: u64, most: u64) -> bool {
        let replaced = self.jobs.get(slot).map_or(0, |older| older.bytes);
        let others = self.bytes.saturating_sub(replaced);
        others == 0 || others.saturating_add(bytes).saturating_add(OVERHEAD) <= most
    }

    /// Puts a job of about so many bytes in line, or in the place of the slot's older one.
    pub(super) fn put(&mut self, slot: Slot, job: J, bytes: u64) {
        let bytes = bytes.saturating_add(OVERHEAD);
        self.bytes = self.bytes.saturating_add(bytes);
        match self.jobs.insert(slot.clone(), Weighed { job, bytes }) {
            Some(older) => self.bytes = self.bytes.saturating_sub(older.bytes),
            None => self.order.push_back(slot),
        }
    }

    /// Drops the jobs of all slots of a key.
    pub(super) fn discard(&mut self, key: &str) {
        if !self.order.iter().any(|slot| slot.key() == key) {
            return;
        }
        self.order.retain(|slot| slot.key() != key);
        self.jobs.retain(|slot, _| slot.key() != key);
        self.bytes = self.jobs.values().map(|weighed| weighed.bytes).sum();
    }

    /// The first job.
    pub(super) fn take(&mut self) -> Option<(Slot, J)> {
        let slot = self.order.pop_front()?;
        let Weighed { job, bytes } = self.jobs.remove(&slot)?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some((slot, job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(key: &str) -> Slot {
        Slot::new("fold", "0123456789abcdef".parse().unwrap(), key).unwrap()
    }

    #[test]
    fn jobs_are_taken_in_order_and_a_newer_one_keeps_the_place() {
        let mut line = Line::new();
        line.put(slot("a"), 1, 10);
        line.put(slot("b"), 2, 10);
        line.put(slot("a"), 3, 30);
        assert_eq!((line.len(), line.get(&slot("a")).copied()), (2, Some(3)));
        assert_eq!(line.bytes(), 40 + 2 * OVERHEAD);
        assert_eq!(line.take(), Some((slot("a"), 3)));
        assert_eq!(line.take(), Some((slot("b"), 2)));
        assert_eq!(line.take(), None);
        assert!(line.is_empty() && line.bytes() == 0);
    }

    #[test]
    fn room_is_counted_in_bytes_and_one_job_always_has_it() {
        let mut line = Line::new();
        let most = 2 * (100 + OVERHEAD);
        assert!(line.has_room(&slot("a"), 10_000, 1));
        line.put(slot("a"), 1, 100);
        assert!(line.has_room(&slot("b"), 100, most));
        assert!(!line.has_room(&slot("b"), 101, most));
        // What takes another's place needs room for no more than the difference.
        assert!(line.has_room(&slot("a"), 10_000, 1));
        line.put(slot("b"), 2, 100);
        assert!(line.has_room(&slot("a"), 100, most));
        assert!(!line.has_room(&slot("a"), 101, most));
        line.discard("b");
        line.discard("a");
        assert!(line.is_empty() && line.bytes() == 0 && line.take().is_none());
    }
}
