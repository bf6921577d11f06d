//! A snapshot store that misbehaves as told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tailfold::{
    Chain, Day, Error, Outcome, Result, Save, Saved, Slot, SlotFilter, SnapshotBatches, SnapshotStore,
    StoredSnapshot, Swept, Version,
};

/// What a [`FaultySnapshots`] does wrong in one call. A fault that does not concern a call leaves it as it is: `FlipBit`
/// needs a snapshot that is read, `LoseSaves` a save.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Any call fails as unavailable, and nothing was done.
    Fail,
    /// Any call fails as unavailable although it was done: its outcome is unknown to the caller.
    FailAfterwards,
    /// Any call waits that long, in tokio's time, then goes on as if nothing had been.
    Hang(Duration),
    /// A save is acknowledged and forgotten.
    LoseSaves,
    /// Removals (of one, by a sweep, of a key) are acknowledged and forgotten.
    DropRemoves,
    /// Removals of one snapshot are answered with "it is another by now", and nothing is removed.
    RefuseRemoves,
    /// Use is acknowledged and forgotten.
    DropUse,
    /// A snapshot that is there is not found.
    Miss,
    /// Serves the first bytes only, at most that many.
    Truncate(usize),
    /// Serves the bytes with one bit flipped: that one, counted from the lowest bit of the first byte, round and round.
    FlipBit(usize),
    /// Serves no bytes.
    Empty,
    /// Serves these bytes.
    Foreign(Bytes),
    /// Serves the snapshot that was saved to the slot before the last one.
    Stale,
    /// Serves what was last saved to another slot.
    OtherSlot,
    /// Serves the newest snapshot even where an older one was asked for.
    IgnoreBound,
    /// Serves the bytes under a head that is that many versions higher or lower.
    ShiftVersion(i64),
    /// Serves the bytes under a head of another history.
    OtherHistory,
}

impl Fault {
    /// One of each kind, with values drawn from `random`.
    fn draw(random: &mut fastrand::Rng) -> Self {
        match random.u32(..17) {
            0 => Self::Fail,
            1 => Self::FailAfterwards,
            2 => Self::Hang(Duration::from_millis(random.u64(..5))),
            3 => Self::LoseSaves,
            4 => Self::DropRemoves,
            5 => Self::DropUse,
            6 => Self::Miss,
            7 => Self::Truncate(random.usize(..256)),
            8 => Self::FlipBit(random.usize(..)),
            9 => Self::Empty,
            10 => Self::Foreign(std::iter::repeat_with(|| random.u8(..)).take(64).collect()),
            11 => Self::Stale,
            12 => Self::OtherSlot,
            13 => Self::IgnoreBound,
            14 => Self::ShiftVersion(random.i64(-3..=3)),
            15 => Self::RefuseRemoves,
            _ => Self::OtherHistory,
        }
    }

    /// Name by which [`FaultCounts`] counts it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::FailAfterwards => "fail_afterwards",
            Self::Hang(_) => "hang",
            Self::LoseSaves => "lose_saves",
            Self::DropRemoves => "drop_removes",
            Self::RefuseRemoves => "refuse_removes",
            Self::DropUse => "drop_use",
            Self::Miss => "miss",
            Self::Truncate(_) => "truncate",
            Self::FlipBit(_) => "flip_bit",
            Self::Empty => "empty",
            Self::Foreign(_) => "foreign",
            Self::Stale => "stale",
            Self::OtherSlot => "other_slot",
            Self::IgnoreBound => "ignore_bound",
            Self::ShiftVersion(_) => "shift_version",
            Self::OtherHistory => "other_history",
        }
    }
}

/// What a [`FaultySnapshots`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Calls of any kind.
    pub calls: u64,
    /// Saves among them.
    pub saves: u64,
    /// Snapshots that were served, faulty or not.
    pub served: u64,
    /// Faults that had an effect, by [`Fault::name`].
    pub faults: BTreeMap<&'static str, u64>,
}

impl FaultCounts {
    /// Faults that had an effect, of all kinds.
    pub fn total(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// A snapshot store that misbehaves as told, over one that does not. Clones share store, faults and counts.
///
/// Faults come, in this order, from a [script](Self::script), one a call; from [always](Self::always); from a
/// [seed](Self::at_random). Without any of them it behaves.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tailfold::{MemoryStore, SlotFilter, SnapshotStore as _, SnapshotStoreExt as _};
/// use tailfold_testkit::{Fault, FaultySnapshots};
/// let snapshots = FaultySnapshots::new(MemoryStore::new());
/// snapshots.always(Some(Fault::Fail));
/// assert!(snapshots.list_to_vec(SlotFilter::all()).await.is_err());
/// snapshots.always(None);
/// assert!(snapshots.list_to_vec(SlotFilter::all()).await.is_ok());
/// assert_eq!(snapshots.counts().faults["fail"], 1);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FaultySnapshots<S> {
    inner: S,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    script: VecDeque<Option<Fault>>,
    always: Option<Fault>,
    random: Option<(fastrand::Rng, f64)>,
    /// The last save of each slot and the one before it, for `Stale` and `OtherSlot`.
    saved: BTreeMap<Slot, (Option<StoredSnapshot>, StoredSnapshot)>,
    counts: FaultCounts,
}

impl<S> FaultySnapshots<S> {
    /// Behaves, until told otherwise.
    pub fn new(inner: S) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Every call from now on has this fault, or none.
    pub fn always(&self, fault: Option<Fault>) {
        self.plan().always = fault;
    }

    /// The next calls have these faults, one each; `None` behaves. What is left of an earlier script is dropped.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plan().script = faults.into_iter().collect();
    }

    /// Each call has a fault with this probability (0.0 to 1.0), drawn from a seed: the same calls get the same faults.
    pub fn at_random(&self, seed: u64, probability: f64) {
        self.plan().random = Some((fastrand::Rng::with_seed(seed), probability));
    }

    /// What it has done so far.
    pub fn counts(&self) -> FaultCounts {
        self.plan().counts.clone()
    }

    /// The store beneath, which behaves.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("nothing panics while it holds the lock")
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut plan = self.plan();
        plan.counts.calls += 1;
        if let Some(fault) = plan.script.pop_front() {
            return fault;
        }
        if plan.always.is_some() {
            return plan.always.clone();
        }
        let (random, probability) = plan.random.as_mut()?;
        (random.f64() < *probability).then(|| Fault::draw(random))
    }

    fn count(&self, fault: &Fault) {
        *self.plan().counts.faults.entry(fault.name()).or_default() += 1;
    }

    /// The faults that any call can have. `done` is the call itself.
    async fn call<T>(
        &self,
        what: &str,
        fault: Option<&Fault>,
        done: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match fault {
            Some(fault @ Fault::Fail) => {
                self.count(fault);
                Err(Error::unavailable(Outcome::NotDone, "told to fail").during(what))
            }
            Some(fault @ Fault::FailAfterwards) => {
                self.count(fault);
                done.await?;
                Err(Error::unavailable(Outcome::Unknown, "told to fail afterwards").during(what))
            }
            Some(fault @ Fault::Hang(time)) => {
                self.count(fault);
                tokio::time::sleep(*time).await;
                done.await
            }
            _ => done.await,
        }
    }

    /// What is served instead of what was found.
    fn spoil(&self, fault: &Fault, slot: &Slot, found: Option<StoredSnapshot>) -> Option<StoredSnapshot> {
        let saved = &self.plan().saved;
        match fault {
            Fault::Stale => saved.get(slot).and_then(|(before, _)| before.clone()).or(found),
            Fault::OtherSlot => {
                let other = saved.iter().find(|(other, _)| *other != slot);
                other.map(|(_, (_, last))| last.clone()).or(found)
            }
            Fault::Miss => None,
            _ => found.map(|found| spoil_one(fault, found)),
        }
    }
}

fn spoil_one(fault: &Fault, mut found: StoredSnapshot) -> StoredSnapshot {
    match fault {
        Fault::Truncate(at) => found.bytes.truncate(*at),
        Fault::Empty => found.bytes = Bytes::new(),
        Fault::Foreign(bytes) => found.bytes = bytes.clone(),
        Fault::FlipBit(bit) => {
            let mut bytes = found.bytes.to_vec();
            let index = (bit / 8).checked_rem(bytes.len()).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(index) {
                *byte ^= 1 << (bit % 8);
            }
            found.bytes = bytes.into();
        }
        Fault::ShiftVersion(by) => {
            found.head.version = Version(found.head.version.0.saturating_add_signed(*by))
        }
        Fault::OtherHistory => {
            found.head.chain = Chain::from_bytes(found.head.chain.as_bytes().map(|byte| !byte))
        }
        _ => {}
    }
    found
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: SnapshotStore> SnapshotStore for FaultySnapshots<S> {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        let fault = self.next_fault();
        let bound = if fault == Some(Fault::IgnoreBound) { None } else { at_or_below };
        let found = self.call("find a snapshot", fault.as_ref(), self.inner.newest(slot, bound)).await?;
        let served = match &fault {
            None => found,
            Some(fault @ Fault::IgnoreBound) => {
                if found
                    .as_ref()
                    .is_some_and(|found| at_or_below.is_some_and(|bound| found.head.version > bound))
                {
                    self.count(fault);
                }
                found
            }
            Some(fault) => {
                let served = self.spoil(fault, slot, found.clone());
                if served != found {
                    self.count(fault);
                }
                served
            }
        };
        self.plan().counts.served += u64::from(served.is_some());
        Ok(served)
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        let fault = self.next_fault();
        {
            let mut plan = self.plan();
            plan.counts.saves += 1;
            let last = StoredSnapshot { head: save.head, bytes: save.bytes.clone(), used: save.day };
            let before = plan.saved.remove(slot).map(|(_, last)| last);
            plan.saved.insert(slot.clone(), (before, last));
        }
        if let Some(fault @ Fault::LoseSaves) = &fault {
            self.count(fault);
            return Ok(Saved::Stored { pruned: 0 });
        }
        self.call("save a snapshot", fault.as_ref(), self.inner.save(slot, save)).await
    }

    /// One after the other, each with its own fault.
    async fn save_many(&self, saves: &[(Slot, Save)]) -> Vec<Result<Saved>> {
        let mut answers = Vec::with_capacity(saves.len());
        for (slot, save) in saves {
            answers.push(self.save(slot, save.clone()).await);
        }
        answers
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        match self.next_fault() {
            Some(fault @ (Fault::Fail | Fault::FailAfterwards)) => {
                self.count(&fault);
                let error = Error::unavailable(Outcome::NotDone, "told to fail").during("list snapshots");
                stream::once(std::future::ready(Err(error))).boxed()
            }
            Some(fault @ Fault::Hang(time)) => {
                self.count(&fault);
                let batches = self.inner.list(filter);
                stream::once(async move {
                    tokio::time::sleep(time).await;
                    batches
                })
                .flatten()
                .boxed()
            }
            _ => self.inner.list(filter),
        }
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        let fault = self.next_fault();
        if let Some(fault @ Fault::DropRemoves) = &fault {
            self.count(fault);
            return Ok(true);
        }
        if let Some(fault @ Fault::RefuseRemoves) = &fault {
            self.count(fault);
            return Ok(false);
        }
        self.call("remove a snapshot", fault.as_ref(), self.inner.compare_and_remove(slot, read)).await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        let fault = self.next_fault();
        if let Some(fault @ Fault::DropUse) = &fault {
            self.count(fault);
            return Ok(());
        }
        self.call("mark snapshots used", fault.as_ref(), self.inner.mark_used(used, day)).await
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        let fault = self.next_fault();
        if let Some(fault @ Fault::DropRemoves) = &fault {
            self.count(fault);
            return Ok(Swept::default());
        }
        self.call("sweep snapshots", fault.as_ref(), self.inner.sweep(filter, unused_since)).await
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        let fault = self.next_fault();
        if let Some(fault @ Fault::DropRemoves) = &fault {
            self.count(fault);
            return Ok(Swept::default());
        }
        self.call("forget snapshots", fault.as_ref(), self.inner.forget(key)).await
    }
}

#[cfg(test)]
mod tests {
    use tailfold::{Head, Keep, MemoryStore};

    use super::*;

    fn slot(key: &str) -> Slot {
        Slot::new("fold", "0123456789abcdef".parse().unwrap(), key).unwrap()
    }

    fn save(version: u64) -> Save {
        let head = Head { version: Version(version), chain: Chain::from_bytes([1; 16]) };
        Save { head, bytes: format!("state {version}").into(), keep: Keep::All, day: Day(1) }
    }

    async fn filled() -> FaultySnapshots<MemoryStore> {
        let snapshots = FaultySnapshots::new(MemoryStore::new());
        for version in [3, 7] {
            snapshots.save(&slot("a"), save(version)).await.unwrap();
        }
        snapshots.save(&slot("b"), save(5)).await.unwrap();
        snapshots
    }

    async fn served(fault: Fault) -> Option<(u64, Vec<u8>)> {
        let snapshots = filled().await;
        snapshots.script([Some(fault.clone())]);
        let found = snapshots.newest(&slot("a"), Some(Version(8))).await.unwrap();
        assert_eq!(snapshots.counts().faults.into_iter().collect::<Vec<_>>(), [(fault.name(), 1)]);
        let behaves = snapshots.newest(&slot("a"), None).await.unwrap().unwrap();
        assert_eq!(behaves.bytes, "state 7", "a script ends");
        found.map(|found| (found.head.version.0, found.bytes.to_vec()))
    }

    #[tokio::test]
    async fn each_fault_serves_what_it_says() {
        assert_eq!(served(Fault::Miss).await, None);
        assert_eq!(served(Fault::Truncate(2)).await, Some((7, b"st".to_vec())));
        assert_eq!(served(Fault::Empty).await, Some((7, Vec::new())));
        assert_eq!(served(Fault::FlipBit(9)).await, Some((7, b"svate 7".to_vec())));
        assert_eq!(served(Fault::FlipBit(9 + 7 * 8)).await, Some((7, b"svate 7".to_vec())));
        assert_eq!(served(Fault::Foreign(Bytes::from_static(b"x"))).await, Some((7, b"x".to_vec())));
        assert_eq!(served(Fault::Stale).await, Some((3, b"state 3".to_vec())));
        assert_eq!(served(Fault::OtherSlot).await, Some((5, b"state 5".to_vec())));
        assert_eq!(served(Fault::ShiftVersion(-2)).await, Some((5, b"state 7".to_vec())));
        assert_eq!(served(Fault::OtherHistory).await, Some((7, b"state 7".to_vec())));
    }

    #[tokio::test]
    async fn a_bound_is_ignored_and_counted_only_where_that_matters() {
        let snapshots = filled().await;
        snapshots.always(Some(Fault::IgnoreBound));
        for (bound, counted) in [(None, 0), (Some(Version(7)), 0), (Some(Version(4)), 1)] {
            let found = snapshots.newest(&slot("a"), bound).await.unwrap().unwrap();
            assert_eq!((found.head.version, snapshots.counts().total()), (Version(7), counted));
        }
    }

    #[tokio::test]
    async fn saves_and_removals_are_lost_in_silence() {
        let snapshots = filled().await;
        snapshots.script([Some(Fault::LoseSaves), None]);
        assert_eq!(snapshots.save(&slot("a"), save(9)).await.unwrap(), Saved::Stored { pruned: 0 });
        let newest = snapshots.newest(&slot("a"), None).await.unwrap().unwrap();
        assert_eq!(newest.head.version, Version(7));
        snapshots.always(Some(Fault::DropRemoves));
        assert!(snapshots.compare_and_remove(&slot("a"), &newest).await.unwrap());
        snapshots.script([Some(Fault::RefuseRemoves)]);
        assert!(!snapshots.compare_and_remove(&slot("a"), &newest).await.unwrap());
        assert_eq!(snapshots.forget("a").await.unwrap(), Swept::default());
        assert_eq!(snapshots.sweep(SlotFilter::all(), Day(99)).await.unwrap(), Swept::default());
        assert_eq!(snapshots.newest(&slot("a"), None).await.unwrap(), Some(newest));
        assert_eq!(snapshots.counts().faults["drop_removes"], 3);
    }

    #[tokio::test]
    async fn a_failure_tells_whether_it_was_done() {
        let snapshots = filled().await;
        snapshots.script([Some(Fault::Fail), Some(Fault::FailAfterwards)]);
        assert!(!snapshots.save(&slot("c"), save(1)).await.unwrap_err().is_outcome_unknown());
        assert_eq!(snapshots.inner().newest(&slot("c"), None).await.unwrap(), None);
        assert!(snapshots.save(&slot("c"), save(1)).await.unwrap_err().is_outcome_unknown());
        assert!(snapshots.inner().newest(&slot("c"), None).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_lasts_as_long_as_told_and_then_serves() {
        let snapshots = filled().await;
        snapshots.always(Some(Fault::Hang(Duration::from_secs(60))));
        let start = tokio::time::Instant::now();
        assert!(snapshots.newest(&slot("a"), None).await.unwrap().is_some());
        assert_eq!(start.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_faults() {
        let mut runs = Vec::new();
        for seed in [1, 1, 2] {
            let snapshots = filled().await;
            snapshots.at_random(seed, 0.5);
            let mut results = Vec::new();
            for version in 10..200 {
                let saved =
                    snapshots.save(&slot("a"), save(version)).await.map_err(|error| error.to_string());
                let found = snapshots.newest(&slot("a"), None).await.map_err(|error| error.to_string());
                results.push((saved, found));
            }
            runs.push((results, snapshots.counts()));
        }
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2]);
        assert!(runs[0].1.faults.len() > 10, "{:?}", runs[0].1);
    }
}
