//! The walk over the tiers: the newest snapshot of the nearest tier that has one which passes every check.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;
use crate::fold::Fold;
use crate::report::{Report, Source};
use crate::repository::SnapshotSide;
use crate::snapshot::{Failure, GuardedTier, Rejection, Slot, StoredSnapshot, TierOutcome};
use crate::stream::Version;

/// Candidates tried in one tier before the next is asked.
const MOST_CANDIDATES: usize = 8;

/// What a walk looks for: how candidates are read and checked, and what is read along with them.
pub(crate) trait Sought<F>: Sync {
    /// A fold that begins with the state of a snapshot.
    type Replay: Send;
    /// What is still to be folded into it.
    type Tail: Send;

    fn slot(&self) -> &Slot;

    /// The highest version that may serve.
    fn bound(&self) -> Option<Version>;

    /// Whether the present is wanted, so that what is found may be kept elsewhere as well.
    fn is_current(&self) -> bool;

    /// The newest snapshot at or below a version, and what comes after it, or all there is where there is none, if the tier
    /// gives both at once.
    fn candidate(
        &self,
        tier: &GuardedTier,
        bound: Option<Version>,
    ) -> impl Future<Output = Result<(Option<StoredSnapshot>, Option<Self::Tail>)>> + Send;

    /// Everything that a candidate has to pass.
    fn try_candidate(
        &self,
        tier: &GuardedTier,
        stored: &StoredSnapshot,
        tail: Option<Self::Tail>,
    ) -> impl Future<Output = Result<Tried<Self::Replay, Self::Tail>>> + Send;
}

/// What became of a candidate.
pub(crate) enum Tried<R, T> {
    Serves(R, T),
    Rejected(Rejection),
    /// Holds an event of after the moment asked for. Nothing is wrong with it.
    TooNew,
}

/// What a walk has found.
pub(crate) struct Found<R, T> {
    pub(crate) served: Option<(R, T)>,
    /// Everything from the start, if that was read along.
    pub(crate) from_start: Option<T>,
}

/// What became of a look into a tier.
enum Looked<R, T> {
    Serves(Served<R, T>),
    Nothing {
        /// Whether the tier would take a snapshot that another one serves.
        vacant: bool,
        from_start: Option<T>,
    },
}

struct Served<R, T> {
    replay: R,
    tail: T,
    stored: StoredSnapshot,
}

/// The newest candidate of the nearest tier that has one which passes every check, with its tail.
pub(crate) async fn nearest<F: Fold, S: Sought<F>>(
    side: &SnapshotSide<F>,
    sought: &S,
    report: &mut Report,
) -> Result<Found<S::Replay, S::Tail>> {
    let mut from_the_start = None;
    let mut vacant_tiers = Vec::new();
    let farthest = side.tiers.len().saturating_sub(1);
    for (place, tier) in side.tiers.iter().enumerate() {
        match look_into(tier, sought, report).await? {
            Looked::Serves(served) => {
                let Served { replay, tail, stored } = served;
                side.serves(tier, sought.slot(), &stored, report);
                if !vacant_tiers.is_empty() && sought.is_current() {
                    side.writer.fill(sought.slot(), &stored, &vacant_tiers);
                }
                return Ok(Found { served: Some((replay, tail)), from_start: None });
            }
            Looked::Nothing { vacant, from_start } => {
                if vacant && place < farthest {
                    vacant_tiers.push(place);
                }
                from_the_start = from_the_start.or(from_start);
            }
        }
    }
    Ok(Found { served: None, from_start: from_the_start })
}

/// The newest candidate of all tiers that passes every check. Asks each of them.
pub(crate) async fn newest_of_all<F: Fold, S: Sought<F>>(
    side: &SnapshotSide<F>,
    sought: &S,
) -> Result<Option<S::Replay>> {
    let mut newest: Option<Served<S::Replay, S::Tail>> = None;
    let mut report = Report::new();
    for tier in side.tiers.iter() {
        if let Looked::Serves(served) = look_into(tier, sought, &mut report).await? {
            side.serves(tier, sought.slot(), &served.stored, &mut report);
            if newest.as_ref().is_none_or(|newest| newest.stored.head.version < served.stored.head.version) {
                newest = Some(served);
            }
        }
    }
    Ok(newest.map(|served| served.replay))
}

/// The bound is lowered within a tier only: what is wrong with a snapshot says nothing about the next tier's of the same
/// version.
async fn look_into<F, S: Sought<F>>(
    tier: &GuardedTier,
    sought: &S,
    report: &mut Report,
) -> Result<Looked<S::Replay, S::Tail>> {
    let slot = sought.slot();
    let mut bound = sought.bound();
    let mut patience = tier.timeout();
    let (mut asked, mut vacant) = (TierOutcome::Miss, true);
    for _ in 0..MOST_CANDIDATES {
        if bound == Some(Version::ZERO) {
            break;
        }
        let (stored, tail) = match candidate(tier, sought, bound, &mut patience).await {
            Ok(found) => found,
            Err(reason) => {
                report.reject(tier.name(), None, reason);
                return Ok(Looked::Nothing { vacant: false, from_start: None });
            }
        };
        let tail = tail.filter(|_| bound == sought.bound());
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
        match sought.try_candidate(tier, &stored, tail).await? {
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

async fn candidate<F, S: Sought<F>>(
    tier: &GuardedTier,
    sought: &S,
    bound: Option<Version>,
    patience: &mut Duration,
) -> Result<(Option<StoredSnapshot>, Option<S::Tail>), Rejection> {
    if patience.is_zero() {
        tier.count(TierOutcome::TimedOut);
        return Err(Rejection::TimedOut);
    }
    let started = Instant::now();
    let found = tier.attempt(*patience, sought.candidate(tier, bound)).await;
    *patience = patience.saturating_sub(started.elapsed());
    found.map_err(|failure| {
        let reason = match &failure {
            Failure::BreakerOpen => return Rejection::BreakerOpen,
            Failure::TimedOut(_) => Rejection::TimedOut,
            Failure::Failed(_) => Rejection::Unavailable,
        };
        tracing::warn!(slot = %sought.slot(), tier = %tier.name(), %failure, "snapshot not read");
        reason
    })
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
