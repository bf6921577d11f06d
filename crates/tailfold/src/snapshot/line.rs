//! Who waits to be written: one job a slot, in order of arrival.

use std::collections::{HashMap, VecDeque};

use super::serial::Slot;

/// Jobs that wait.
#[derive(Debug)]
pub(super) struct Line<J> {
    // Every slot of `jobs`, once.
    order: VecDeque<Slot>,
    jobs: HashMap<Slot, J>,
}

impl<J> Line<J> {
    pub(super) fn new() -> Self {
        Self { order: VecDeque::new(), jobs: HashMap::new() }
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The job that waits in a slot.
    pub(super) fn get_mut(&mut self, slot: &Slot) -> Option<&mut J> {
        self.jobs.get_mut(slot)
    }

    /// Puts a job in line, or in the place of the slot's older one.
    pub(super) fn put(&mut self, slot: Slot, job: J) {
        if self.jobs.insert(slot.clone(), job).is_none() {
            self.order.push_back(slot);
        }
    }

    /// The first job.
    pub(super) fn take(&mut self) -> Option<(Slot, J)> {
        let slot = self.order.pop_front()?;
        let job = self.jobs.remove(&slot)?;
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
        line.put(slot("a"), 1);
        line.put(slot("b"), 2);
        line.put(slot("a"), 3);
        assert_eq!((line.len(), line.get_mut(&slot("a")).copied()), (2, Some(3)));
        assert_eq!(line.take(), Some((slot("a"), 3)));
        assert_eq!(line.take(), Some((slot("b"), 2)));
        assert_eq!(line.take(), None);
        assert!(line.is_empty());
    }
}
