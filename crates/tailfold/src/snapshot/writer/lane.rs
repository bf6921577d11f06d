//! What waits to be done in one tier, so that no tier ever waits for another.

use std::collections::HashSet;
use std::sync::Weak;

use bytes::Bytes;

use super::at_work::AtWork;
use crate::clock::Day;
use crate::snapshot::line::Line;
use crate::snapshot::serial::Slot;
use crate::stream::{Head, Version};

/// A snapshot and the use of it.
pub(super) type Mark = (Slot, Version);

/// Marks that wait in one tier.
const MOST_MARKS: usize = 100_000;
/// Snapshots that are handed to a tier at once, and bytes of them. Their time limit is that of one.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 1 << 20;

/// The errands of one tier.
#[derive(Debug)]
pub(super) struct Lane {
    saves: Line<Sealed>,
    /// What is being written.
    saving: Vec<(Slot, Origin)>,
    marks: HashSet<Mark>,
    /// The oldest ticket of the marks, and of what is being done, if the worker is at work.
    marks_since: Option<u64>,
    doing: Option<u64>,
    marked_on: Day,
    sweep: Option<Day>,
    /// The one that carries errands out, if it is at work.
    pub(super) worker: Weak<AtWork>,
}

/// An envelope on its way to a tier.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) head: Head,
    pub(super) bytes: Bytes,
    pub(super) origin: Origin,
    pub(super) ticket: u64,
}

/// Where an envelope comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A snapshot that was due: what the farthest tier makes of it is what became of it.
    Due,
    /// A snapshot that was saved to one tier while somebody waited: in the events' transaction, or by hand.
    Saved,
    /// Another tier, which served it.
    Tier,
}

/// The next thing to do.
#[derive(Debug)]
pub(super) enum Errand {
    Save(Vec<(Slot, Sealed)>),
    Mark(Vec<Mark>, Day),
    Sweep(Day),
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            saves: Line::new(),
            saving: Vec::new(),
            marks: HashSet::new(),
            marks_since: None,
            doing: None,
            marked_on: Day(i64::MIN),
            sweep: None,
            worker: Weak::new(),
        }
    }

    /// How many snapshots wait.
    pub(super) fn waiting(&self) -> usize {
        self.saves.len()
    }

    pub(super) fn is_working(&self) -> bool {
        self.worker.strong_count() > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.saves.is_empty() && self.marks.is_empty() && self.sweep.is_none()
    }

    /// The oldest ticket of what waits or is being done.
    pub(super) fn oldest(&self) -> Option<u64> {
        let waiting = self.saves.jobs().map(|sealed| sealed.ticket);
        waiting.chain(self.marks_since).chain(self.doing.filter(|_| self.is_working())).min()
    }

    /// Whether it would begin at once with what it is given.
    pub(super) fn is_free(&self) -> bool {
        !self.is_working() && self.is_empty()
    }

    /// Puts an envelope in line, or in the place of its slot's older one. Returns false if `most` bytes wait already.
    pub(super) fn put(&mut self, slot: Slot, mut sealed: Sealed, most: u64) -> bool {
        let waiting = self.saves.get(&slot).map(|waiting| (waiting.head.version, waiting.ticket));
        // Who waits for the older one finds it written as the newer one.
        sealed.ticket = waiting.map_or(sealed.ticket, |(_, ticket)| ticket.min(sealed.ticket));
        let waiting = waiting.map(|(version, _)| version);
        let bytes = sealed.bytes.len() as u64;
        match waiting {
            // As new as a copy is, or newer.
            Some(waiting) if waiting >= sealed.head.version && sealed.origin == Origin::Tier => {}
            Some(waiting) if waiting > sealed.head.version => {}
            // What waits in its place is older, and better than nothing.
            _ if !self.saves.has_room(&slot, bytes, most) => return false,
            _ => self.saves.put(slot, sealed, bytes),
        }
        true
    }

    /// Drops all that waits or was begun. Answers how many snapshots among it were due.
    pub(super) fn empty(&mut self) -> usize {
        self.marks.clear();
        self.marks_since = None;
        self.sweep = None;
        let begun = std::mem::take(&mut self.saving).into_iter().map(|(_, origin)| origin);
        let waiting = std::iter::from_fn(|| self.saves.take()).map(|(_, sealed)| sealed.origin);
        begun.chain(waiting).filter(|origin| *origin == Origin::Due).count()
    }

    /// Drops what waits of a key.
    pub(super) fn discard(&mut self, key: &str) {
        self.saves.discard(key);
    }

    /// Whether something of a key is being written.
    pub(super) fn is_saving(&self, key: &str) -> bool {
        self.is_working() && self.saving.iter().any(|(slot, _)| slot.key() == key)
    }

    /// Adds marks; more than a bounded number of them are left out, and noted with the next use after today.
    pub(super) fn mark(&mut self, marks: &[Mark], day: Day, since: Option<u64>) {
        self.marks_since = self.marks_since.into_iter().chain(since).min();
        self.marked_on = self.marked_on.max(day);
        let room = MOST_MARKS.saturating_sub(self.marks.len());
        self.marks.extend(marks.iter().take(room).cloned());
    }

    pub(super) fn sweep(&mut self, unused_since: Day) {
        self.sweep = Some(unused_since);
    }

    /// Snapshots first: somebody may need them. `None` if there is nothing left to do. What was taken before is done.
    pub(super) fn take(&mut self) -> Option<Errand> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP && bytes < GROUP_BYTES {
            let Some((slot, sealed)) = self.saves.take() else { break };
            bytes += sealed.bytes.len();
            group.push((slot, sealed));
        }
        self.saving = group.iter().map(|(slot, sealed)| (slot.clone(), sealed.origin)).collect();
        self.doing = group.iter().map(|(_, sealed)| sealed.ticket).min();
        if !group.is_empty() {
            return Some(Errand::Save(group));
        }
        if !self.marks.is_empty() {
            self.doing = self.marks_since.take();
            return Some(Errand::Mark(self.marks.drain().collect(), self.marked_on));
        }
        self.sweep.take().map(Errand::Sweep)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::chain::Chain;

    fn slot(key: &str) -> Slot {
        Slot::new("fold", "0123456789abcdef".parse().unwrap(), key).unwrap()
    }

    fn sealed(version: u64, origin: Origin) -> Sealed {
        let head = Head { version: Version(version), chain: Chain::from_bytes([1; 16]) };
        Sealed { head, bytes: Bytes::new(), origin, ticket: version }
    }

    fn next(lane: &mut Lane) -> Option<(u64, Origin)> {
        match lane.take() {
            Some(Errand::Save(group)) if group.len() == 1 => {
                group.first().map(|(_, sealed)| (sealed.head.version.0, sealed.origin))
            }
            _ => None,
        }
    }

    #[test]
    fn what_waits_is_taken_in_groups_and_told_while_it_is_written() {
        let mut lane = Lane::new();
        let at_work = AtWork::new(&Default::default());
        lane.worker = Arc::downgrade(&at_work);
        for number in 0..GROUP + 1 {
            assert!(lane.put(slot(&number.to_string()), sealed(1, Origin::Due), u64::MAX));
        }
        lane.discard("1");
        assert!(matches!(lane.take(), Some(Errand::Save(group)) if group.len() == GROUP));
        assert!(lane.is_saving("0") && !lane.is_saving("1") && lane.is_empty());
        assert!(lane.take().is_none() && !lane.is_saving("0"));
    }

    #[test]
    fn a_worker_that_is_gone_writes_nothing_any_more() {
        let mut lane = Lane::new();
        let at_work = AtWork::new(&Default::default());
        lane.worker = Arc::downgrade(&at_work);
        lane.put(slot("a"), sealed(1, Origin::Due), 1);
        assert!(lane.take().is_some() && lane.is_saving("a") && !lane.is_free());
        drop(at_work);
        assert!(!lane.is_saving("a") && lane.is_free());
    }

    #[test]
    fn a_copy_never_takes_the_place_of_what_is_as_new() {
        let mut lane = Lane::new();
        assert!(lane.put(slot("a"), sealed(5, Origin::Due), 1));
        assert!(lane.put(slot("a"), sealed(5, Origin::Tier), 1));
        assert!(lane.put(slot("a"), sealed(4, Origin::Due), 1));
        assert_eq!((lane.waiting(), next(&mut lane)), (1, Some((5, Origin::Due))));
        assert!(lane.put(slot("a"), sealed(5, Origin::Tier), 1));
        assert!(lane.put(slot("a"), sealed(7, Origin::Due), 1));
        assert!(!lane.put(slot("b"), sealed(1, Origin::Due), 1), "full");
        assert_eq!(next(&mut lane), Some((7, Origin::Due)));
        assert!(lane.is_free());
    }

    #[test]
    fn what_takes_the_place_of_a_smaller_one_needs_room_too() {
        let of = |version, bytes| Sealed { bytes: vec![0; bytes].into(), ..sealed(version, Origin::Due) };
        let mut lane = Lane::new();
        for key in ["a", "b"] {
            assert!(lane.put(slot(key), of(5, 100), 1000));
        }
        assert!(lane.put(slot("a"), of(6, 200), 1000));
        assert!(!lane.put(slot("a"), of(7, 10_000), 1000), "full");
        let Some(Errand::Save(group)) = lane.take() else { panic!("nothing waits") };
        assert_eq!(group.iter().map(|(_, sealed)| sealed.head.version.0).collect::<Vec<_>>(), [6, 5]);
    }

    #[test]
    fn snapshots_go_before_marks_and_marks_before_sweeps() {
        let mut lane = Lane::new();
        lane.sweep(Day(1));
        lane.mark(&[(slot("a"), Version(1)), (slot("a"), Version(1))], Day(9), Some(3));
        lane.put(slot("a"), sealed(5, Origin::Due), 1);
        assert_eq!(lane.oldest(), Some(3));
        assert!(matches!(lane.take(), Some(Errand::Save(..))));
        assert!(matches!(lane.take(), Some(Errand::Mark(marks, Day(9))) if marks.len() == 1));
        assert!(matches!(lane.take(), Some(Errand::Sweep(Day(1)))));
        assert!(lane.take().is_none());
    }
}
