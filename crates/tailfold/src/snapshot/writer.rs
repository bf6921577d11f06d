//! Writes snapshots in the background, notes their use, sweeps what is unused. Nothing here makes a command wait or fail.
//!
//! One worker encodes states and hands the envelopes to the tiers, each of which has a worker and a line of its own
//! (`errands.rs`), so that a tier that hangs neither delays nor fails another.

mod at_work;
mod erasing;
mod errands;
mod lane;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use self::at_work::{AtWork, Signals};
use self::lane::{Lane, Mark, Origin, Sealed};
use super::config::SnapshotConfig;
use super::line::Line;
use super::peers::{Doubts, join as join_peers};
use super::sealer::Sealer;
use super::serial::Slot;
use super::tiers::GuardedTier;
use crate::clock::Day;
use crate::error::{Error, Outcome as ErrorOutcome, Result};
use crate::fold::Fold;
use crate::loaded::Trail;
use crate::panics::caught;
use crate::scope::Scope as _;
use crate::stats::{Counters, Outcome};
use crate::store::EventStore;
use crate::stream::{Head, Version};

/// Marks wait this long, and up to as long again, so that processes that started together do not write together.
const MARK_DELAY: Duration = Duration::from_secs(2);
/// Marks kept in memory; beyond that the memory of what was marked today starts anew.
const MOST_MARKS: usize = 100_000;
/// States are encoded in groups: until one took so long, or has so many.
const GROUP_TIME: Duration = Duration::from_millis(4);
const MOST_STATES: usize = 256;
/// After each group the writer rests this many times as long as it worked on it, within bounds, so that commands hardly
/// notice it however fast they come. What falls due meanwhile in the same slot is coalesced. It does not rest while somebody
/// waits for it to finish, or while its queue is half full.
const REST: u32 = 59;
const SHORTEST_REST: Duration = Duration::from_millis(8);
const LONGEST_REST: Duration = Duration::from_millis(250);

/// The background writer of one repository.
pub(crate) struct Writer<F> {
    tiers: Arc<[GuardedTier]>,
    sealer: Arc<Sealer<F>>,
    config: SnapshotConfig,
    counters: Arc<Counters>,
    queue: Mutex<Queue<F>>,
    signals: Arc<Signals>,
    // Somebody waits for the worker to finish: it neither rests nor gathers.
    hurry: Notify,
    // There is a snapshot to write.
    offered: Notify,
    doubts: Doubts,
    /// About how many bytes a state has when it is encoded.
    usual_bytes: AtomicU64,
}

struct Queue<F> {
    line: Line<Job<F>>,
    /// One for each tier.
    lanes: Vec<Lane>,
    /// Gathered, not yet handed to the tiers.
    marks: HashSet<Mark>,
    /// Handed out today.
    marked: HashSet<Mark>,
    marked_on: Day,
    swept_on: Option<Day>,
    /// The one that seals, if it is at work.
    worker: Weak<AtWork>,
    /// The last one given to what is to be written or noted.
    ticket: u64,
    /// The oldest ticket of what the worker has in hand, if it is at work.
    in_hand: Option<u64>,
    /// The ticket of the mark that was gathered first.
    marks_since: Option<u64>,
    flushing: bool,
    closed: bool,
}

struct Job<F> {
    state: Arc<F>,
    head: Head,
    trail: Trail,
    ticket: u64,
}

/// What became of states that were sealed together.
#[derive(Default)]
struct Group {
    envelopes: Vec<(Slot, Sealed)>,
    dropped: Vec<Outcome>,
}

enum Work {
    Write,
    Mark(Vec<Mark>, Day, Option<u64>),
    Sweep(Day),
    Wait,
    Done,
}

impl<F> Queue<F> {
    fn is_working(&self) -> bool {
        self.worker.strong_count() > 0
    }

    fn next_ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// The oldest ticket of what is neither done nor dropped.
    fn oldest(&self) -> Option<u64> {
        let waiting = self.line.jobs().map(|job| job.ticket);
        let in_hand = self.in_hand.filter(|_| self.is_working());
        waiting.chain(in_hand).chain(self.marks_since).chain(self.lanes.iter().filter_map(Lane::oldest)).min()
    }
}

impl<F: Fold> Writer<F> {
    pub(crate) fn new(
        tiers: Arc<[GuardedTier]>,
        sealer: Arc<Sealer<F>>,
        config: SnapshotConfig,
        counters: Arc<Counters>,
        events: Arc<dyn EventStore>,
    ) -> Arc<Self> {
        let queue = Queue {
            line: Line::new(),
            lanes: tiers.iter().map(|_| Lane::new()).collect(),
            marks: HashSet::new(),
            marked: HashSet::new(),
            marked_on: Day(i64::MIN),
            swept_on: None,
            worker: Weak::new(),
            ticket: 0,
            in_hand: None,
            marks_since: None,
            flushing: false,
            closed: false,
        };
        let writer = Arc::new(Self {
            tiers,
            sealer,
            config,
            counters,
            queue: Mutex::new(queue),
            signals: Arc::default(),
            hurry: Notify::new(),
            offered: Notify::new(),
            usual_bytes: AtomicU64::new(size_of::<F>() as u64),
            doubts: Doubts::new(events.clone()),
        });
        if !F::Scope::IS_PROJECTION {
            join_peers(&*events, &writer);
        }
        writer
    }

    /// Queues a snapshot; a newer state of the same slot takes the place of one that waits. Never blocks.
    pub(crate) fn offer(self: &Arc<Self>, slot: Slot, state: Arc<F>, head: Head, trail: &Trail) {
        let mut queue = self.lock();
        if queue.closed {
            drop(queue);
            return self.counters.wrote(Outcome::Closed);
        }
        let waiting = queue.line.get(&slot).map(|job| (job.head.version, job.ticket));
        if waiting.is_some_and(|(version, _)| version > head.version) {
            return;
        }
        let bytes = self.usual_bytes.load(Ordering::Relaxed);
        if waiting.is_none() && !queue.line.has_room(&slot, bytes, self.config.queue_bytes) {
            drop(queue);
            return self.counters.wrote(Outcome::QueueFull);
        }
        // Who waits for the older one finds it written as the newer one.
        let ticket = waiting.map_or_else(|| queue.next_ticket(), |(_, ticket)| ticket);
        queue.line.put(slot, Job { state, head, trail: trail.clone(), ticket }, bytes);
        self.counters.queued(queue.line.len());
        self.start(&mut queue);
        if !queue.marks.is_empty() {
            // The worker waits for marks to gather; a snapshot need not wait as long.
            self.offered.notify_one();
        }
    }

    /// Notes in all tiers that a snapshot served a load, unless they know of a use today already. What one of several tiers
    /// knows says nothing about the others.
    pub(crate) fn used(self: &Arc<Self>, slot: &Slot, version: Version, known: Day) {
        let today = self.sealer.clock().now().day();
        if known >= today && self.tiers.len() == 1 {
            return;
        }
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        if queue.marked_on != today || queue.marked.len() >= MOST_MARKS {
            queue.marked.clear();
            queue.marked_on = today;
        }
        let mark = (slot.clone(), version);
        if !queue.marked.contains(&mark) {
            queue.marked.insert(mark.clone());
            queue.marks.insert(mark);
            let ticket = queue.next_ticket();
            queue.marks_since.get_or_insert(ticket);
            self.start(&mut queue);
        }
    }

    /// Counts a snapshot that does not even come to be queued.
    pub(crate) fn dropped(&self, outcome: Outcome) {
        self.counters.wrote(outcome);
    }

    pub(crate) fn waiting(&self) -> usize {
        let queue = self.lock();
        queue.line.len() + queue.lanes.iter().map(Lane::waiting).max().unwrap_or(0)
    }

    /// Waits until everything that was queued is written, use noted, or failed and counted; not for what is queued
    /// meanwhile, of which there may be no end.
    pub(crate) async fn flush(self: &Arc<Self>) {
        let last = self.lock().ticket;
        loop {
            let (idle, saved) = (self.signals.idle.notified(), self.signals.saved.notified());
            tokio::pin!(idle, saved);
            idle.as_mut().enable();
            saved.as_mut().enable();
            {
                let mut queue = self.lock();
                let is_done = queue.line.is_empty() && queue.marks.is_empty();
                if is_done && !queue.is_working() && queue.lanes.iter().all(Lane::is_free) {
                    return;
                }
                if queue.ticket > last && queue.oldest().is_none_or(|oldest| oldest > last) {
                    queue.flushing = false;
                    return;
                }
                self.start_lanes(&mut queue);
                if !is_done {
                    self.start(&mut queue);
                }
                if queue.is_working() {
                    queue.flushing = true;
                    self.hurry.notify_one();
                }
            }
            tokio::select! {
                () = idle => {}
                () = saved => {}
            }
            leave_an_ending_runtime().await;
        }
    }

    /// As [`Writer::flush`], and takes nothing more.
    pub(crate) async fn close(self: &Arc<Self>, deadline: Duration) -> Result<()> {
        self.lock().closed = true;
        if timeout(deadline, self.flush()).await.is_ok() {
            return Ok(());
        }
        let left = self.waiting();
        Err(Error::unavailable(
            ErrorOutcome::Unknown,
            format!("{left} snapshots were not written within {deadline:?}; the events are safe"),
        )
        .during("close the repository"))
    }

    fn lock(&self) -> MutexGuard<'_, Queue<F>> {
        // Nothing panics while the lock is held.
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One worker at a time; it ends when there is nothing left to do, so that it never outlives its repository for long.
    fn start(self: &Arc<Self>, queue: &mut Queue<F>) {
        if queue.is_working() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // No runtime to work on: what waits is written with the next offer from inside one.
            return;
        };
        let at_work = AtWork::new(&self.signals);
        queue.worker = Arc::downgrade(&at_work);
        (queue.flushing, queue.in_hand) = (false, None);
        runtime.spawn(self.clone().run(None, at_work));
    }

    /// Drops what waits to be sealed. Answers how many snapshots that were.
    fn empty_line(&self) -> usize {
        let mut queue = self.lock();
        queue.marks.clear();
        queue.marks_since = None;
        let jobs: Vec<_> = std::iter::from_fn(|| queue.line.take()).collect();
        // States are dropped without the lock.
        drop(queue);
        jobs.len()
    }

    async fn work(self: &Arc<Self>) {
        let mut marks_due = Instant::now() + MARK_DELAY + MARK_DELAY.mul_f64(fastrand::f64());
        loop {
            match self.next(marks_due) {
                Work::Write => self.write_some().await,
                Work::Mark(marks, day, since) => {
                    self.hand_out_marks(&marks, day, since);
                    self.lock().in_hand = None;
                    marks_due = Instant::now() + MARK_DELAY;
                }
                Work::Sweep(unused_since) => self.hand_out_sweep(unused_since),
                Work::Wait => {
                    tokio::select! {
                        () = self.hurry.notified() => {}
                        () = self.offered.notified() => {}
                        () = tokio::time::sleep_until(marks_due) => {}
                    }
                }
                Work::Done => return self.signals.idle.notify_waiters(),
            }
        }
    }

    fn next(&self, marks_due: Instant) -> Work {
        let mut queue = self.lock();
        // Where there is always something to write, too.
        let are_marks_due = queue.flushing || Instant::now() >= marks_due;
        if !queue.line.is_empty() && (queue.marks.is_empty() || !are_marks_due) {
            return Work::Write;
        }
        let today = self.sealer.clock().now().day();
        if !queue.marks.is_empty() {
            if !are_marks_due {
                return Work::Wait;
            }
            queue.in_hand = queue.marks_since.take();
            return Work::Mark(queue.marks.drain().collect(), today, queue.in_hand);
        }
        if let Some(days) = self.config.unused_days
            && queue.swept_on != Some(today)
        {
            queue.swept_on = Some(today);
            return Work::Sweep(today.minus(days));
        }
        queue.worker = Weak::new();
        queue.flushing = false;
        Work::Done
    }

    /// Seals a group of states and hands them to the tiers, at the pace of the fastest of them.
    async fn write_some(self: &Arc<Self>) {
        let writer = self.clone();
        // Encoding takes long enough to hold others up.
        let sealed = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            (writer.seal_some(started), started.elapsed())
        });
        let mut worked = Duration::ZERO;
        match sealed.await {
            Ok((group, took)) => {
                worked = took;
                self.count(&group);
                self.hand_out(group.envelopes, |_, _| true);
            }
            Err(stopped) => tracing::error!(%stopped, "the writer of snapshots was stopped"),
        }
        self.lock().in_hand = None;
        while !self.has_free_lane() {
            self.signals.room.notified().await;
            leave_an_ending_runtime().await;
        }
        if !self.is_pressed() {
            let rest = (worked * REST).clamp(SHORTEST_REST, LONGEST_REST);
            let _ = timeout(rest, self.hurry.notified()).await;
        }
    }

    /// Whether a tier has nothing left to do. Those that have are at work then, also if their workers went with another runtime.
    fn has_free_lane(self: &Arc<Self>) -> bool {
        let mut queue = self.lock();
        let is_free = queue.lanes.iter().any(Lane::is_free);
        if !is_free {
            self.start_lanes(&mut queue);
        }
        is_free
    }

    /// Counts what became of a group. Here, and not where it is encoded: a recorder of metrics may be one of this thread's.
    fn count(&self, group: &Group) {
        self.counters.queued(self.lock().line.len());
        for (_, sealed) in &group.envelopes {
            self.counters.sealed(sealed.bytes.len());
        }
        group.dropped.iter().for_each(|outcome| self.counters.wrote(*outcome));
    }

    /// Seals what waits, until a group is full.
    fn seal_some(&self, started: Instant) -> Group {
        let mut group = Group::default();
        for _ in 0..MOST_STATES {
            let Some((slot, job)) = self.take_job() else { break };
            let Job { state, head, trail, ticket } = job;
            // What a user's code does in here concerns this snapshot alone.
            match caught(|| self.sealer.seal(&slot, &state, head, &trail)) {
                Ok(Ok(bytes)) => {
                    self.note_usual(bytes.len());
                    group.envelopes.push((slot, Sealed { head, bytes, origin: Origin::Due, ticket }));
                }
                Ok(Err(refused)) => group.dropped.push(refused.dropped(&slot, head)),
                Err(panicked) => {
                    tracing::error!(%slot, %panicked, "encoding a snapshot failed: snapshot dropped");
                    group.dropped.push(Outcome::Unencodable);
                }
            }
            if started.elapsed() >= GROUP_TIME {
                break;
            }
        }
        group
    }

    fn take_job(&self) -> Option<(Slot, Job<F>)> {
        let mut queue = self.lock();
        let (slot, job) = queue.line.take()?;
        queue.in_hand = Some(queue.in_hand.map_or(job.ticket, |oldest| oldest.min(job.ticket)));
        Some((slot, job))
    }

    /// Moves what a state is taken to have by an eighth of the difference.
    fn note_usual(&self, bytes: usize) {
        let usual = self.usual_bytes.load(Ordering::Relaxed);
        self.usual_bytes.store(usual - usual / 8 + bytes as u64 / 8, Ordering::Relaxed);
    }

    fn is_pressed(&self) -> bool {
        let queue = self.lock();
        queue.flushing || queue.line.bytes() >= self.config.queue_bytes / 2
    }
}

impl<F> fmt::Debug for Writer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("tiers", &self.tiers)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A runtime that is ending drops what is spawned on it without running it, and who waits for that is woken at once. It cannot
/// end before this task has paused: without a pause the two would go on for ever.
async fn leave_an_ending_runtime() {
    tokio::task::yield_now().await;
}
