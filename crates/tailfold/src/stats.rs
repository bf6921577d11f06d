//! What a repository has done: the same numbers in `metrics` and in `Repository::stats`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Key, Label};
use serde::Serialize;

use crate::meter;
use crate::report::{Report, Source};
use crate::snapshot::{Rejection, Saved, TierStats};
use crate::stream::Version;

/// What became of a snapshot that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    Superseded,
    Failed,
    TimedOut,
    TooLarge,
    Unencodable,
    Unfaithful,
    BreakerOpen,
    QueueFull,
    Closed,
    Forgotten,
    Erased,
}

impl Outcome {
    const ALL: [Self; 12] = [
        Self::Stored,
        Self::Superseded,
        Self::Failed,
        Self::TimedOut,
        Self::TooLarge,
        Self::Unencodable,
        Self::Unfaithful,
        Self::BreakerOpen,
        Self::QueueFull,
        Self::Closed,
        Self::Forgotten,
        Self::Erased,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::TooLarge => "too_large",
            Self::Unencodable => "unencodable",
            Self::Unfaithful => "unfaithful",
            Self::BreakerOpen => "breaker_open",
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::Forgotten => "forgotten",
            Self::Erased => "erased",
        }
    }
}

impl From<Saved> for Outcome {
    fn from(saved: Saved) -> Self {
        match saved {
            Saved::Stored { .. } => Self::Stored,
            Saved::Superseded(_) => Self::Superseded,
        }
    }
}

/// What a repository has done since it was built, and what its store keeps for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Name of the fold.
    pub fold: &'static str,
    /// Snapshots of the fold's serial that are stored: in the farthest tier, where there are several.
    pub snapshots: u64,
    /// Their bytes.
    pub snapshot_bytes: u64,
    /// Loads, by what they started from: `replay`, `snapshot`, `memory`.
    pub loads: BTreeMap<&'static str, u64>,
    /// Events replayed by all loads.
    pub replayed_events: u64,
    /// Average replay size: events per load; 0 before the first load.
    pub average_replay_events: f64,
    /// Snapshots that did not serve a load, by reason; reasons that did not occur are left out.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Snapshots that were due, by what became of them: in the farthest tier, or in the events' transaction. Outcomes that
    /// did not occur are left out.
    pub written: BTreeMap<&'static str, u64>,
    /// Snapshots that wait to be written, in the tier where most of them wait.
    pub queued: u64,
    /// Commits appended.
    pub appends: u64,
    /// Commits that met a conflict.
    pub conflicts: u64,
    /// What each tier has done, nearest first; empty if snapshots are off.
    pub tiers: Vec<TierStats>,
}

/// Counts, and says the same to the `metrics` facade. No stream id is ever a label.
#[derive(Debug)]
pub(crate) struct Counters {
    fold: &'static str,
    replays: LoadsBySource,
    snapshot_loads: LoadsBySource,
    memory_loads: LoadsBySource,
    replayed_events: AtomicU64,
    replayed_key: Key,
    rejected: [AtomicU64; Rejection::ALL.len()],
    rejected_keys: [Key; Rejection::ALL.len()],
    written: [AtomicU64; Outcome::ALL.len()],
    written_keys: [Key; Outcome::ALL.len()],
    bytes_key: Key,
    queue_key: Key,
    appends: AtomicU64,
    append_key: Key,
    conflicts: AtomicU64,
    conflicts_key: Key,
}

#[derive(Debug)]
struct LoadsBySource {
    loads: AtomicU64,
    loads_key: Key,
    seconds_key: Key,
}

impl LoadsBySource {
    fn new(fold: &'static str, source: Source) -> Self {
        let labels = || [Label::new("fold", fold), Label::new("source", source.as_str())];
        Self {
            loads: AtomicU64::new(0),
            loads_key: meter::key("tailfold_loads_total", labels()),
            seconds_key: meter::key("tailfold_load_seconds", labels()),
        }
    }
}

impl Counters {
    pub(crate) fn new(fold: &'static str) -> Self {
        let of_fold = |name| meter::key(name, [Label::new("fold", fold)]);
        let of_label =
            |name, label, value| meter::key(name, [Label::new("fold", fold), Label::new(label, value)]);
        Self {
            fold,
            replays: LoadsBySource::new(fold, Source::Replay),
            snapshot_loads: LoadsBySource::new(fold, Source::Snapshot(Version::ZERO)),
            memory_loads: LoadsBySource::new(fold, Source::Memory(Version::ZERO)),
            replayed_events: AtomicU64::new(0),
            replayed_key: of_fold("tailfold_replayed_events"),
            rejected: Default::default(),
            rejected_keys: Rejection::ALL
                .map(|reason| of_label("tailfold_snapshot_rejected_total", "reason", reason.as_str())),
            written: Default::default(),
            written_keys: Outcome::ALL
                .map(|outcome| of_label("tailfold_snapshots_written_total", "outcome", outcome.as_str())),
            bytes_key: of_fold("tailfold_snapshot_bytes"),
            queue_key: of_fold("tailfold_snapshot_queue"),
            appends: AtomicU64::new(0),
            append_key: of_fold("tailfold_append_seconds"),
            conflicts: AtomicU64::new(0),
            conflicts_key: of_fold("tailfold_conflicts_total"),
        }
    }

    pub(crate) fn loaded(&self, report: &Report) {
        let by_source = match report.source {
            Source::Replay => &self.replays,
            Source::Snapshot(_) => &self.snapshot_loads,
            Source::Memory(_) => &self.memory_loads,
        };
        by_source.loads.fetch_add(1, Ordering::Relaxed);
        meter::count(&by_source.loads_key);
        meter::record(&by_source.seconds_key, (report.snapshot_time + report.replay_time).as_secs_f64());
        self.replayed_events.fetch_add(report.replayed_events, Ordering::Relaxed);
        meter::record(&self.replayed_key, report.replayed_events as f64);
        for rejected in &report.rejected {
            count_one(&self.rejected, &self.rejected_keys, rejected.reason as usize);
        }
    }

    pub(crate) fn wrote(&self, outcome: Outcome) {
        count_one(&self.written, &self.written_keys, outcome as usize);
    }

    pub(crate) fn sealed(&self, bytes: usize) {
        meter::record(&self.bytes_key, bytes as f64);
    }

    pub(crate) fn queued(&self, waiting: usize) {
        meter::set(&self.queue_key, waiting as f64);
    }

    pub(crate) fn appended(&self, took: Duration) {
        self.appends.fetch_add(1, Ordering::Relaxed);
        meter::record(&self.append_key, took.as_secs_f64());
    }

    pub(crate) fn conflicted(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
        meter::count(&self.conflicts_key);
    }

    /// Snapshots and their bytes were counted in the store.
    pub(crate) fn stats(&self, serial: &str, snapshots: u64, snapshot_bytes: u64, queued: u64) -> Stats {
        let labels = [Label::new("fold", self.fold), Label::new("serial", serial.to_owned())];
        meter::set(&meter::key("tailfold_snapshots", labels), snapshots as f64);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let by_name = |names: &mut dyn Iterator<Item = &'static str>, counters: &[AtomicU64]| {
            names.zip(counters.iter().map(count)).filter(|(_, n)| *n > 0).collect::<BTreeMap<_, _>>()
        };
        let loads = BTreeMap::from([
            ("replay", count(&self.replays.loads)),
            ("snapshot", count(&self.snapshot_loads.loads)),
            ("memory", count(&self.memory_loads.loads)),
        ]);
        let replayed_events = count(&self.replayed_events);
        let all_loads: u64 = loads.values().sum();
        Stats {
            fold: self.fold,
            snapshots,
            snapshot_bytes,
            loads,
            replayed_events,
            average_replay_events: if all_loads == 0 {
                0.0
            } else {
                replayed_events as f64 / all_loads as f64
            },
            rejected: by_name(&mut Rejection::ALL.iter().map(|reason| reason.as_str()), &self.rejected),
            written: by_name(&mut Outcome::ALL.iter().map(|outcome| outcome.as_str()), &self.written),
            queued,
            appends: count(&self.appends),
            conflicts: count(&self.conflicts),
            tiers: Vec::new(),
        }
    }
}

fn count_one(counters: &[AtomicU64], keys: &[Key], index: usize) {
    if let (Some(counter), Some(key)) = (counters.get(index), keys.get(index)) {
        counter.fetch_add(1, Ordering::Relaxed);
        meter::count(key);
    }
}
