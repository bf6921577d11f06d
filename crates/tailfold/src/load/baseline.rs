//! What a fold starts from: tier by tier, the newest snapshot that passes every check.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Options, Tail};
use crate::error::{Error, Result};
use crate::fold::Fold;
use crate::replay::Replay;
use crate::report::{Report, Source};
use crate::repository::{Inner, SnapshotSide};
use crate::snapshot::{Envelope, Failure, GuardedTier, Rejection, Slot, StoredSnapshot, TierOutcome};
use crate::store::EventBatches;
use crate::stream::{StreamId, Version};

/// Candidates tried in one tier before the next is asked.
const MOST_CANDIDATES: usize = 8;

/// What is looked for.
struct Wanted<'a> {
    slot: &'a Slot,
    stream: &'a StreamId,
    options: &'a Options,
}

/// What became of a look into a tier.
enum Looked<F> {
    Serves(Served<F>),
    Nothing {
        /// Whether the tier would take a snapshot that another one serves.
        vacant: bool,
        /// The stream from its start, if that was read along.
        from_start: Option<EventBatches>,
    },
}

struct Served<F> {
    replay: Box<Replay<F>>,
    tail: Tail,
    stored: StoredSnapshot,
}

/// What became of a candidate.
enum Tried<F> {
    Serves(Box<Replay<F>>, Tail),
    Rejected(Rejection),
    /// Holds an event recorded after the moment asked for. Nothing is wrong with it.
    TooNew,
}

impl<F: Fold> Inner<F> {
    /// The newest candidate of the nearest tier that has one which passes every check, with its tail; else the start of the
    /// stream.
    pub(crate) async fn baseline(
        &self,
        side: &SnapshotSide<F>,
        stream: &StreamId,
        options: &Options,
        report: &mut Report,
    ) -> Result<(Box<Replay<F>>, Tail)> {
        let slot = side.sealer.slot(stream);
        let wanted = Wanted { slot: &slot, stream, options };
        let mut from_the_start = None;
        let mut vacant_tiers = Vec::new();
        let farthest = side.tiers.len().saturating_sub(1);
        for (place, tier) in side.tiers.iter().enumerate() {
            match self.look_into(side, tier, &wanted, report).await? {
                Looked::Serves(served) => {
                    let Served { replay, tail, stored } = served;
                    side.serves(tier, &slot, &stored, report);
                    if !vacant_tiers.is_empty() && options.is_current() {
                        side.writer.fill(&slot, &stored, &vacant_tiers);
                    }
                    return Ok((replay, tail));
                }
                Looked::Nothing { vacant, from_start } => {
                    if vacant && place < farthest {
                        vacant_tiers.push(place);
                    }
                    from_the_start = from_the_start.or(from_start);
                }
            }
        }
        let tail = from_the_start.map_or_else(|| self.tail(stream, Version::ZERO, options), Tail::of);
        Ok((Box::new(Replay::from_start()), tail))
    }

    /// The newest candidate of all tiers that passes every check. Asks each of them.
    pub(crate) async fn newest_of_all(
        &self,
        side: &SnapshotSide<F>,
        stream: &StreamId,
    ) -> Result<Option<Box<Replay<F>>>> {
        let slot = side.sealer.slot(stream);
        let wanted = Wanted { slot: &slot, stream, options: &Options::default() };
        let mut newest: Option<Served<F>> = None;
        let mut report = Report::new();
        for tier in side.tiers.iter() {
            if let Looked::Serves(served) = self.look_into(side, tier, &wanted, &mut report).await? {
                side.serves(tier, &slot, &served.stored, &mut report);
                if newest
                    .as_ref()
                    .is_none_or(|newest| newest.stored.head.version < served.stored.head.version)
                {
                    newest = Some(served);
                }
            }
        }
        Ok(newest.map(|served| served.replay))
    }

    /// The bound is lowered within a tier only: what is wrong with a snapshot says nothing about the next tier's of the
    /// same version.
    async fn look_into(
        &self,
        side: &SnapshotSide<F>,
        tier: &GuardedTier,
        wanted: &Wanted<'_>,
        report: &mut Report,
    ) -> Result<Looked<F>> {
        let Wanted { slot, stream, options } = *wanted;
        let mut bound = options.at;
        let mut patience = tier.timeout();
        let (mut asked, mut vacant) = (TierOutcome::Miss, true);
        for _ in 0..MOST_CANDIDATES {
            if bound == Some(Version::ZERO) {
                break;
            }
            let (stored, tail) = match self.candidate(tier, wanted, bound, &mut patience).await {
                Ok(found) => found,
                Err(reason) => {
                    report.reject(tier.name(), None, reason);
                    return Ok(Looked::Nothing { vacant: false, from_start: None });
                }
            };
            let tail = tail.filter(|_| bound == options.at);
            let Some(stored) = stored else {
                tier.count(asked);
                return Ok(Looked::Nothing { vacant, from_start: tail });
            };
            let version = stored.head.version;
            if bound.is_some_and(|bound| version > bound) {
                // Not what was asked for. Whatever else this store says is worth as little.
                report.reject(tier.name(), Some(version), Rejection::Unavailable);
                tier.count(TierOutcome::Rejected);
                return Ok(Looked::Nothing { vacant: false, from_start: None });
            }
            let tail = tail.map_or_else(|| self.tail(stream, version, options), Tail::of);
            match self.try_candidate(side, wanted, &stored, tail).await? {
                Tried::Serves(replay, tail) => {
                    tier.count(TierOutcome::Hit);
                    return Ok(Looked::Serves(Served { replay, tail, stored }));
                }
                Tried::TooNew => {}
                Tried::Rejected(reason) => {
                    tracing::warn!(%slot, tier = %tier.name(), %version, %reason, "snapshot rejected");
                    report.reject(tier.name(), Some(version), reason);
                    asked = TierOutcome::Rejected;
                    if reason.makes_room() {
                        make_room(tier, slot, &stored, &mut patience).await;
                    } else {
                        vacant = false;
                    }
                }
            }
            bound = Some(Version(version.0.saturating_sub(1)));
        }
        tier.count(asked);
        Ok(Looked::Nothing { vacant, from_start: None })
    }

    /// The newest snapshot at or below a version; with its tail, where the store gives both at once.
    async fn candidate(
        &self,
        tier: &GuardedTier,
        wanted: &Wanted<'_>,
        bound: Option<Version>,
        patience: &mut Duration,
    ) -> Result<(Option<StoredSnapshot>, Option<EventBatches>), Rejection> {
        if patience.is_zero() {
            tier.count(TierOutcome::TimedOut);
            return Err(Rejection::TimedOut);
        }
        let together = self.events.snapshot_and_tail().filter(|_| tier.is_own());
        let reading = async {
            match together {
                Some(store) => {
                    let (stored, tail) = store.newest_with_tail(wanted.slot, wanted.stream, bound).await?;
                    Ok((stored, Some(tail)))
                }
                None => Ok((tier.store().newest(wanted.slot, bound).await?, None)),
            }
        };
        let started = Instant::now();
        let found = tier.attempt(*patience, reading).await;
        *patience = patience.saturating_sub(started.elapsed());
        found.map_err(|failure| {
            let reason = match &failure {
                Failure::BreakerOpen => return Rejection::BreakerOpen,
                Failure::TimedOut(_) => Rejection::TimedOut,
                Failure::Failed(_) => Rejection::Unavailable,
            };
            tracing::warn!(slot = %wanted.slot, tier = %tier.name(), %failure, "snapshot not read");
            reason
        })
    }

    async fn try_candidate(
        &self,
        side: &SnapshotSide<F>,
        wanted: &Wanted<'_>,
        stored: &StoredSnapshot,
        mut tail: Tail,
    ) -> Result<Tried<F>> {
        let Wanted { slot, stream, options } = *wanted;
        let envelope = match side.sealer.check(slot, stored) {
            Ok(envelope) => envelope,
            Err(reason) => return Ok(Tried::Rejected(reason)),
        };
        if options.as_of.is_some_and(|time| envelope.latest_recorded_at > time) {
            return Ok(Tried::TooNew);
        }
        if let Some(reason) = anchor(&mut tail, &envelope).await? {
            // A follower that lags behind looks like this; the head is a consistent read.
            let head = self.events.head(stream).await?;
            let lagging =
                reason == Rejection::Ahead && head.is_some_and(|head| head.version >= envelope.head.version);
            if !lagging {
                return Ok(Tried::Rejected(reason));
            }
            tail = self.tail(stream, envelope.head.version, options);
            if let Some(reason) = anchor(&mut tail, &envelope).await? {
                return Ok(Tried::Rejected(reason));
            }
        }
        // The anchor was folded before the snapshot was taken.
        tail.first.next();
        match side.sealer.open(&envelope) {
            Ok(state) => Ok(Tried::Serves(Box::new(Replay::from_snapshot(state, envelope)), tail)),
            Err(reason) => Ok(Tried::Rejected(reason)),
        }
    }
}

impl<F: Fold> SnapshotSide<F> {
    fn serves(&self, tier: &GuardedTier, slot: &Slot, stored: &StoredSnapshot, report: &mut Report) {
        report.source = Source::Snapshot(stored.head.version);
        report.tier = Some(Arc::clone(tier.name()));
        self.writer.used(slot, stored.head.version, stored.used);
    }
}

/// Takes a rejected candidate away, if it is still the one that was read.
async fn make_room(tier: &GuardedTier, slot: &Slot, stored: &StoredSnapshot, patience: &mut Duration) {
    let started = Instant::now();
    let removal = tier.store().compare_and_remove(slot, stored);
    if let Err(failure) = tier.attempt(*patience, removal).await {
        tracing::warn!(%slot, tier = %tier.name(), %failure, "rejected snapshot not removed");
    }
    *patience = patience.saturating_sub(started.elapsed());
}

/// Checks that the first event of the tail is the one that the snapshot is anchored at. The read is inclusive: one row
/// more, no round trip more, and no snapshot of another history ever passes.
async fn anchor(tail: &mut Tail, envelope: &Envelope) -> Result<Option<Rejection>> {
    let anchored = envelope.head;
    Ok(match tail.peek().await? {
        None => Some(Rejection::Ahead),
        Some(event) if event.version > anchored.version => Some(Rejection::Truncated),
        Some(event) if event.version < anchored.version => {
            return Err(Error::corrupt(format!(
                "a read from version {} began with version {}",
                anchored.version, event.version
            )));
        }
        Some(event) if event.chain != anchored.chain => Some(Rejection::Diverged),
        Some(_) => None,
    })
}
