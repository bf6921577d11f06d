//! What the fold of a stream starts from: a snapshot whose event is still the stream's own, and the tail after it.

use super::walk::{self, Sought, Tried};
use super::{Options, Tail};
use crate::encryption::StateOf;
use crate::error::{Error, Result};
use crate::fold::Aggregate;
use crate::replay::Replay;
use crate::report::Report;
use crate::repository::{Inner, SnapshotSide};
use crate::snapshot::{Envelope, GuardedTier, Rejection, Slot, StoredSnapshot};
use crate::stream::{StreamId, Version};

/// What is looked for.
struct Wanted<'a, F> {
    inner: &'a Inner<F>,
    side: &'a SnapshotSide<F>,
    slot: Slot,
    stream: &'a StreamId,
    options: &'a Options,
    /// How many keys were forgotten before anything was read.
    forgotten_keys: u64,
}

impl<F: Aggregate> Inner<F> {
    /// The newest candidate of the nearest tier that has one which passes every check, with its tail; else the start of the
    /// stream.
    pub(crate) async fn baseline(
        &self,
        side: &SnapshotSide<F>,
        stream: &StreamId,
        options: &Options,
        report: &mut Report,
    ) -> Result<(Box<Replay<F>>, Tail)> {
        let wanted = self.wanted(side, stream, options)?;
        let found = walk::nearest(side, &wanted, report).await?;
        let forgotten_keys = wanted.forgotten_keys;
        if report.has_rejected(Rejection::Forgotten) {
            side.remove_outdated(&wanted.slot, forgotten_keys).await;
        }
        Ok(found.served.unwrap_or_else(|| {
            let tail = found.from_start.unwrap_or_else(|| self.tail(stream, Version::ZERO, options));
            (Box::new(Replay::from_start(forgotten_keys)), tail)
        }))
    }

    fn wanted<'a>(
        &'a self,
        side: &'a SnapshotSide<F>,
        stream: &'a StreamId,
        options: &'a Options,
    ) -> Result<Wanted<'a, F>> {
        let forgotten_keys = self.forgotten_keys(&StateOf::Stream(stream.clone()))?;
        Ok(Wanted { inner: self, side, slot: side.sealer.slot(stream), stream, options, forgotten_keys })
    }

    /// The newest candidate of all tiers that passes every check. Asks each of them.
    pub(crate) async fn newest_of_all(
        &self,
        side: &SnapshotSide<F>,
        stream: &StreamId,
    ) -> Result<Option<Box<Replay<F>>>> {
        let options = Options::default();
        walk::newest_of_all(side, &self.wanted(side, stream, &options)?).await
    }
}

impl<F: Aggregate> Sought<F> for Wanted<'_, F> {
    type Replay = Box<Replay<F>>;
    type Tail = Tail;

    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn bound(&self) -> Option<Version> {
        self.options.at
    }

    fn is_current(&self) -> bool {
        self.options.is_current()
    }

    async fn candidate(
        &self,
        tier: &GuardedTier,
        bound: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, Option<Tail>)> {
        match self.inner.events.snapshot_and_tail().filter(|_| tier.is_own()) {
            Some(store) => {
                let (stored, tail) = store.newest_with_tail(&self.slot, self.stream, bound).await?;
                Ok((stored, Some(Tail::of(tail))))
            }
            None => Ok((tier.store().newest(&self.slot, bound).await?, None)),
        }
    }

    async fn try_candidate(
        &self,
        _tier: &GuardedTier,
        stored: &StoredSnapshot,
        tail: Option<Tail>,
    ) -> Result<Tried<Box<Replay<F>>, Tail>> {
        let Self { inner, side, slot, stream, options, forgotten_keys } = self;
        let mut tail = tail.unwrap_or_else(|| inner.tail(stream, stored.head.version, options));
        let envelope = match side.sealer.check(slot, stored, *forgotten_keys) {
            Ok(envelope) => envelope,
            Err(reason) => return Ok(Tried::Rejected(reason)),
        };
        if options.as_of.is_some_and(|time| envelope.latest_recorded_at > time) {
            return Ok(Tried::TooNew);
        }
        if let Some(reason) = anchor(&mut tail, &envelope).await? {
            // A follower that lags behind looks like this; the head is a consistent read.
            let head = inner.events.head(stream).await?;
            let lagging =
                reason == Rejection::Ahead && head.is_some_and(|head| head.version >= envelope.head.version);
            if !lagging {
                return Ok(Tried::Rejected(reason));
            }
            tail = inner.tail(stream, envelope.head.version, options);
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
