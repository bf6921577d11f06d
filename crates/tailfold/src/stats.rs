//! What a repository has done: the same numbers in `metrics` and in `Repository::stats`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::report::{Report, Source};
use crate::snapshot::{Rejection, Saved, TierStats};

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
}

impl Outcome {
    const ALL: [Self; 10] = [
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
    /// Loads, by what they started from: `replay`, `snapshot`.
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
    replays: AtomicU64,
    snapshot_loads: AtomicU64,
    replayed_events: AtomicU64,
    rejected: [AtomicU64; Rejection::ALL.len()],
    written: [AtomicU64; Outcome::ALL.len()],
    appends: AtomicU64,
    conflicts: AtomicU64,
}

impl Counters {
    pub(crate) fn new(fold: &'static str) -> Self {
        Self {
            fold,
            replays: AtomicU64::new(0),
            snapshot_loads: AtomicU64::new(0),
            replayed_events: AtomicU64::new(0),
            rejected: Default::default(),
            written: Default::default(),
            appends: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
        }
    }

    pub(crate) fn loaded(&self, report: &Report) {
        let counter = match report.source {
            Source::Replay => &self.replays,
            Source::Snapshot(_) => &self.snapshot_loads,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.replayed_events.fetch_add(report.replayed_events, Ordering::Relaxed);
        let source = report.source.as_str();
        let seconds = (report.snapshot_time + report.replay_time).as_secs_f64();
        metrics::counter!("tailfold_loads_total", "fold" => self.fold, "source" => source).increment(1);
        metrics::histogram!("tailfold_load_seconds", "fold" => self.fold, "source" => source).record(seconds);
        metrics::histogram!("tailfold_replayed_events", "fold" => self.fold)
            .record(report.replayed_events as f64);
        for rejected in &report.rejected {
            if let Some(counter) = self.rejected.get(rejected.reason as usize) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            metrics::counter!(
                "tailfold_snapshot_rejected_total", "fold" => self.fold, "reason" => rejected.reason.as_str()
            )
            .increment(1);
        }
    }

    pub(crate) fn wrote(&self, outcome: Outcome) {
        if let Some(counter) = self.written.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        metrics::counter!(
            "tailfold_snapshots_written_total", "fold" => self.fold, "outcome" => outcome.as_str()
        )
        .increment(1);
    }

    pub(crate) fn sealed(&self, bytes: usize) {
        metrics::histogram!("tailfold_snapshot_bytes", "fold" => self.fold).record(bytes as f64);
    }

    pub(crate) fn queued(&self, waiting: usize) {
        metrics::gauge!("tailfold_snapshot_queue", "fold" => self.fold).set(waiting as f64);
    }

    pub(crate) fn appended(&self, took: Duration) {
        self.appends.fetch_add(1, Ordering::Relaxed);
        metrics::histogram!("tailfold_append_seconds", "fold" => self.fold).record(took.as_secs_f64());
    }

    pub(crate) fn conflicted(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tailfold_conflicts_total", "fold" => self.fold).increment(1);
    }

    /// Snapshots and their bytes were counted in the store.
    pub(crate) fn stats(&self, serial: &str, snapshots: u64, snapshot_bytes: u64, queued: u64) -> Stats {
        metrics::gauge!("tailfold_snapshots", "fold" => self.fold, "serial" => serial.to_owned())
            .set(snapshots as f64);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let by_name = |names: &mut dyn Iterator<Item = &'static str>, counters: &[AtomicU64]| {
            names.zip(counters.iter().map(count)).filter(|(_, n)| *n > 0).collect::<BTreeMap<_, _>>()
        };
        let (replays, snapshot_loads) = (count(&self.replays), count(&self.snapshot_loads));
        let replayed_events = count(&self.replayed_events);
        let loads = replays + snapshot_loads;
        Stats {
            fold: self.fold,
            snapshots,
            snapshot_bytes,
            loads: BTreeMap::from([("replay", replays), ("snapshot", snapshot_loads)]),
            replayed_events,
            average_replay_events: if loads == 0 { 0.0 } else { replayed_events as f64 / loads as f64 },
            rejected: by_name(&mut Rejection::ALL.iter().map(|reason| reason.as_str()), &self.rejected),
            written: by_name(&mut Outcome::ALL.iter().map(|outcome| outcome.as_str()), &self.written),
            queued,
            appends: count(&self.appends),
            conflicts: count(&self.conflicts),
            tiers: Vec::new(),
        }
    }
}
