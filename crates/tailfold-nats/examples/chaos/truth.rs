//! What was promised to somebody, and what was seen: the store must have kept it all in the end.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tailfold::{Chain, Head, StreamId, Version};

/// Violations that are told at once, and in the end.
pub(crate) const MOST_LISTED: usize = 50;

/// What became of an operation, as its writer was told.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// Not told yet, or never.
    Unknown,
    /// It stands there.
    Acknowledged(Vec<Stretch>),
    /// It did not happen and never will, for that reason.
    Refused(&'static str),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("of unknown outcome"),
            Self::Refused(why) => write!(f, "refused ({why})"),
            Self::Acknowledged(stretches) => {
                f.write_str("acknowledged")?;
                let mut stretches = stretches.iter();
                stretches.try_for_each(|Stretch { stream, first, head }| {
                    write!(f, " {stream} {first} to {}", head.version)
                })
            }
        }
    }
}

/// Where an operation's events stand in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) stream: StreamId,
    pub(crate) first: Version,
    pub(crate) head: Head,
}

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// How it was sent.
    pub(crate) by: &'static str,
    /// Streams, and the events for each. One that is decided on a loaded state may be sent several times, once stored.
    pub(crate) writes: Vec<(StreamId, u64)>,
    pub(crate) fate: Fate,
}

/// A head, and the digest of the state there if it was folded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) chain: Chain,
    pub(crate) digest: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) events: u64,
    pub(crate) several_streams: u64,
    pub(crate) in_parts: u64,
    pub(crate) conflicts: u64,
    pub(crate) not_done: u64,
    pub(crate) unknown: u64,
    pub(crate) unknown_done: u64,
    pub(crate) unknown_not_done: u64,
    pub(crate) loads: u64,
    pub(crate) snapshot_loads: u64,
    pub(crate) failed_loads: u64,
    pub(crate) reads: u64,
    pub(crate) stale_heads: u64,
    pub(crate) live_restarts: u64,
    pub(crate) longest_append: Duration,
    pub(crate) longest_load: Duration,
    pub(crate) longest_silence: Duration,
}

#[derive(Default)]
struct Known {
    operations: HashMap<u64, Operation>,
    sightings: HashMap<(StreamId, Version), Sighting>,
    /// The newest head that anybody was acknowledged.
    heads: HashMap<StreamId, Head>,
    violations: Vec<String>,
    counts: Counts,
    /// Snapshots that did not serve a load, by reason.
    rejected: BTreeMap<&'static str, u64>,
    last_acknowledgement: Option<Instant>,
    checked: Vec<String>,
}

pub(crate) struct Truth(Mutex<Known>);

impl Truth {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Known::default()))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation begins: from now on it may happen. Answers its number.
    pub(crate) fn begin(&self, by: &'static str, writes: Vec<(StreamId, u64)>) -> u64 {
        let mut known = self.known();
        let number = known.operations.len() as u64 + 1;
        known.operations.insert(number, Operation { by, writes, fate: Fate::Unknown });
        number
    }

    pub(crate) fn acknowledged(&self, number: u64, stretches: Vec<Stretch>) {
        let mut known = self.known();
        let now = Instant::now();
        if let Some(last) = known.last_acknowledgement.replace(now) {
            known.counts.longest_silence = known.counts.longest_silence.max(now - last);
        }
        known.counts.acknowledged += 1;
        known.counts.several_streams += u64::from(stretches.len() > 1);
        for stretch in &stretches {
            known.counts.events += stretch.head.version.next().since(stretch.first);
            let head = known.heads.entry(stretch.stream.clone()).or_insert(stretch.head);
            if head.version < stretch.head.version {
                *head = stretch.head;
            }
        }
        if let Some(operation) = known.operations.get_mut(&number) {
            operation.fate = Fate::Acknowledged(stretches);
        }
    }

    pub(crate) fn refused(&self, number: u64, why: &'static str) {
        if let Some(operation) = self.known().operations.get_mut(&number) {
            operation.fate = Fate::Refused(why);
        }
    }

    /// Somebody saw that head; the same version must look the same to all.
    pub(crate) fn sighted(&self, stream: &StreamId, head: Head, digest: Option<u64>) {
        let mut known = self.known();
        let sighting = Sighting { chain: head.chain, digest };
        let before = *known.sightings.entry((stream.clone(), head.version)).or_insert(sighting);
        let differs = before.digest.zip(digest).is_some_and(|(before, now)| before != now);
        if before.chain != head.chain || differs {
            known
                .violations
                .push(format!("{stream} at {}: seen as {before:?} and as {sighting:?}", head.version));
        } else if before.digest.is_none() {
            known.sightings.insert((stream.clone(), head.version), sighting);
        }
    }

    /// The newest head of a stream that anybody was acknowledged.
    pub(crate) fn head(&self, stream: &StreamId) -> Option<Head> {
        self.known().heads.get(stream).copied()
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.known().counts);
    }

    /// A load did not use a snapshot, for that reason.
    pub(crate) fn rejected(&self, reason: &'static str) {
        *self.known().rejected.entry(reason).or_default() += 1;
    }

    pub(crate) fn violation(&self, what: String) {
        let mut known = self.known();
        if known.violations.len() < MOST_LISTED {
            println!("VIOLATION: {what}");
        }
        known.violations.push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.known().violations.clone()
    }

    /// A line about what was compared in the end.
    pub(crate) fn checked(&self, what: String) {
        self.known().checked.push(what);
    }

    pub(crate) fn operations(&self) -> HashMap<u64, Operation> {
        self.known().operations.clone()
    }

    pub(crate) fn sightings(&self) -> HashMap<(StreamId, Version), Sighting> {
        self.known().sightings.clone()
    }

    pub(crate) fn progress(&self) -> String {
        let known = self.known();
        let Counts { acknowledged, conflicts, unknown, loads, snapshot_loads, .. } = known.counts;
        let violations = known.violations.len();
        let silent = known.last_acknowledgement.map_or(0.0, |last| last.elapsed().as_secs_f64());
        format!(
            "{acknowledged} appends, {conflicts} conflicts, {unknown} unknown outcomes, {loads} loads, \
             {snapshot_loads} from snapshots, {violations} violations, silent for {silent:.1} s"
        )
    }

    pub(crate) fn table(&self) -> String {
        let known = self.known();
        let c = &known.counts;
        let mut table = String::new();
        let mut line = |what: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(table, "{value:>10}  {what}");
        };
        let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
        line("appends acknowledged", c.acknowledged.to_string());
        line("events in them", c.events.to_string());
        line("of them to two streams", c.several_streams.to_string());
        line("of them in parts", c.in_parts.to_string());
        line("conflicts", c.conflicts.to_string());
        line("appends given up as not done", c.not_done.to_string());
        line("unknown outcomes", c.unknown.to_string());
        line("settled as done", c.unknown_done.to_string());
        line("settled as not done", c.unknown_not_done.to_string());
        line("longest time without any acknowledgement", seconds(c.longest_silence));
        line("longest append", seconds(c.longest_append));
        line("longest load", seconds(c.longest_load));
        line("loads", c.loads.to_string());
        line("of them from a snapshot", c.snapshot_loads.to_string());
        for (reason, times) in &known.rejected {
            line(&format!("snapshots that did not serve: {reason}"), times.to_string());
        }
        line("loads and reads given up", c.failed_loads.to_string());
        line("whole streams read", c.reads.to_string());
        line("heads older than what others were acknowledged", c.stale_heads.to_string());
        line("live reads begun again after an error", c.live_restarts.to_string());
        for checked in &known.checked {
            let _ = writeln!(table, "{checked}");
        }
        table
    }
}
