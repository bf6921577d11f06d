//! Who waits to be written: one job a slot, in order of arrival, on loan to their owners.

use std::collections::{HashMap, HashSet, VecDeque};

use super::serial::Slot;

/// Jobs that wait. An owner may take its job back while it goes on, so that its state is not shared and need not be
/// copied; it keeps its place, and brings a newer job when it is done. So that a busy slot has its turn, the first one
/// that was away when its turn came is wanted: the next job that it brings stays.
#[derive(Debug)]
pub(super) struct Line<J> {
    // Every slot that waits or is away, once.
    order: VecDeque<Slot>,
    jobs: HashMap<Slot, Waiting<J>>,
    away: HashSet<Slot>,
    wanted: Option<Slot>,
}

#[derive(Debug)]
struct Waiting<J> {
    job: J,
    stays: bool,
}

impl<J> Line<J> {
    pub(super) fn new() -> Self {
        Self { order: VecDeque::new(), jobs: HashMap::new(), away: HashSet::new(), wanted: None }
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The job that waits in a slot.
    pub(super) fn get(&self, slot: &Slot) -> Option<&J> {
        self.jobs.get(slot).map(|waiting| &waiting.job)
    }

    /// Puts a job in line, or in the place of the slot's older one.
    pub(super) fn put(&mut self, slot: Slot, job: J) {
        let stood = self.away.remove(&slot) || self.jobs.contains_key(&slot);
        if !stood {
            self.order.push_back(slot.clone());
        }
        let stays = self.wanted.as_ref() == Some(&slot) || self.jobs.get(&slot).is_some_and(|old| old.stays);
        if self.wanted.as_ref() == Some(&slot) {
            self.wanted = None;
        }
        self.jobs.insert(slot, Waiting { job, stays });
    }

    /// Gives a job back to its owner, who is away until it puts another or gives its place up. Not if it must stay.
    pub(super) fn lend(&mut self, slot: &Slot, is_owner: impl FnOnce(&J) -> bool) -> Option<J> {
        let waiting = self.jobs.get(slot)?;
        if waiting.stays || !is_owner(&waiting.job) {
            return None;
        }
        self.away.insert(slot.clone());
        self.jobs.remove(slot).map(|waiting| waiting.job)
    }

    /// The owner brings no other job.
    pub(super) fn give_up(&mut self, slot: &Slot) {
        if self.away.remove(slot) {
            self.order.retain(|standing| standing != slot);
            self.wanted.take_if(|wanted| wanted == slot);
        }
    }

    /// The first job that is there.
    pub(super) fn take(&mut self) -> Option<(Slot, J)> {
        let first = self.order.iter().position(|slot| self.jobs.contains_key(slot));
        if self.wanted.is_none() {
            // Whoever stands before the first that is there is away.
            self.wanted = self.order.front().filter(|_| first != Some(0)).cloned();
        }
        let slot = self.order.remove(first?)?;
        let waiting = self.jobs.remove(&slot)?;
        Some((slot, waiting.job))
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
        assert_eq!(line.len(), 2);
        assert_eq!(line.take(), Some((slot("a"), 3)));
        assert_eq!(line.take(), Some((slot("b"), 2)));
        assert_eq!(line.take(), None);
    }

    #[test]
    fn an_owner_that_is_away_keeps_its_place_and_has_its_turn() {
        let mut line = Line::new();
        line.put(slot("a"), 1);
        line.put(slot("b"), 2);
        assert_eq!(line.lend(&slot("a"), |_| false), None);
        assert_eq!(line.lend(&slot("a"), |_| true), Some(1));
        // Its turn comes while it is away: the next is taken, and it is wanted.
        assert_eq!(line.take(), Some((slot("b"), 2)));
        line.put(slot("a"), 3);
        assert_eq!(line.lend(&slot("a"), |_| true), None, "a wanted job stays");
        line.put(slot("a"), 4);
        assert_eq!(line.lend(&slot("a"), |_| true), None, "so does a newer one in its place");
        assert_eq!(line.take(), Some((slot("a"), 4)));
        // Afterwards it is lent as any other.
        line.put(slot("a"), 5);
        assert_eq!(line.lend(&slot("a"), |_| true), Some(5));
    }

    #[test]
    fn an_owner_that_does_not_come_back_leaves_nothing_behind() {
        let mut line = Line::new();
        line.put(slot("a"), 1);
        line.lend(&slot("a"), |_| true);
        assert_eq!(line.take(), None);
        line.give_up(&slot("a"));
        assert!(line.order.is_empty() && line.away.is_empty() && line.wanted.is_none());
        // Giving up a place that was taken again changes nothing.
        line.put(slot("a"), 2);
        line.give_up(&slot("a"));
        assert_eq!(line.take(), Some((slot("a"), 2)));
    }
}
