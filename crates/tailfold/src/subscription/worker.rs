//! The work of a subscription: claim, check where the model stands, follow, hand over, retry, park.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::anchored;
use super::checkpoint::Checkpoint;
use super::hand_over::as_kept;
use super::read_model::{Batch, Claim, Claimed, Delivery, HandleError, Parked, ReadModel};
use super::share::share_of;
use crate::clock::Clock;
use crate::encryption::Encryption;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::event::{Position, RecordedEvent};
use crate::execute::Retry;
use crate::filter::Filter;
use crate::panics::{caught, caught_in};
use crate::replay::decode;
use crate::report::Unreadable;
use crate::store::{EventStore, Follow, LogBatch, StoreId};

/// How an event is tried again that could not be handled, by default.
const RETRY: Retry =
    Retry { limit: 12, first_pause: Duration::from_millis(100), longest_pause: Duration::from_secs(60) };
/// Between two attempts at a store that is away.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) batch: usize,
    pub(super) retry: Retry,
    pub(super) lease: Duration,
    pub(super) share: Option<(u32, u32)>,
    /// Whether the model wants to hear of truncations.
    pub(super) truncations: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { batch: 256, retry: RETRY, lease: Duration::from_secs(30), share: None, truncations: false }
    }
}

/// What is known of the work from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) position: Position,
    /// Where the model stood when that was first known.
    pub(super) began_at: Option<Position>,
    pub(super) working: bool,
    /// What is put aside, as far as this process knows.
    pub(super) parked: BTreeMap<Position, Parked>,
    /// It has ended: with an error, or because it was told to.
    pub(super) ended: Option<Option<Error>>,
}

pub(super) struct Worker<M> {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) claim: Claim,
    pub(super) model: M,
    pub(super) filter: Filter,
    pub(super) settings: Settings,
    pub(super) encryption: Option<Arc<dyn Encryption>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// How a period of work has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Told to.
    Stopped,
    /// The lease is another's, or what was known of the model is no longer so.
    Lost,
}

/// What comes next while a log is followed.
enum Next {
    Stop,
    Renew,
    Batch(Option<LogBatch>),
}

/// Where the model stands, as this worker knows it.
pub(super) struct Place {
    pub(super) store: StoreId,
    pub(super) kept: Option<Checkpoint>,
    /// Looked at up to here; what does not match is not worth a write at once.
    pub(super) reached: Position,
    /// When the lease was last renewed.
    pub(super) renewed: Instant,
}

/// Why there is no typed event.
pub(super) enum Undecoded {
    /// Its key is gone on purpose.
    Forgotten,
    Malformed(String),
    /// The code that decodes it, or opens it, panicked.
    Panicked(String),
}

/// What came of decoding an event, however often that was tried.
enum Decoded<E> {
    Event(Option<E>),
    Forgotten,
    /// It cannot be: why, and after how many attempts.
    Not(String, u32),
    Ended(Turn),
}

impl<M: ReadModel> Worker<M> {
    pub(super) async fn run(mut self) {
        // Whatever panics besides a handler ends the subscription as an error does: told, and with its lease given back.
        let ended = caught_in(self.work()).await;
        let ended = ended.unwrap_or_else(|panicked| Err(Error::invalid("its work").caused_by(panicked)));
        self.standing.send_modify(|standing| standing.working = false);
        let released = caught_in(self.model.release(&self.claim)).await;
        let released =
            released.unwrap_or_else(|panicked| Err(Error::invalid("the read model").caused_by(panicked)));
        if let Err(error) = released {
            tracing::debug!(subscription = %self.claim.name, %error, "lease not given back");
        }
        if let Err(error) = &ended {
            tracing::error!(subscription = %self.claim.name, %error, "subscription ended");
        }
        let name = self.claim.name.clone();
        let ended = ended.err().map(|error| error.during(format!("subscription `{name}`")));
        self.standing.send_modify(|standing| standing.ended = Some(ended));
    }

    async fn work(&mut self) -> Result<()> {
        let mut failures = 0;
        loop {
            let turn = self.turn().await;
            self.standing.send_modify(|standing| standing.working = false);
            let pause = match turn {
                Ok(Turn::Stopped) => return Ok(()),
                Ok(Turn::Lost) => {
                    failures = 0;
                    self.settings.lease / 3
                }
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) => {
                    tracing::warn!(subscription = %self.claim.name, %error, failures, "subscription interrupted");
                    failures += 1;
                    backoff(failures)
                }
                Err(error) => return Err(error),
            };
            if self.rest(pause).await {
                return Ok(());
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn> {
        match self.model.claim(&self.claim).await? {
            Claimed::Held(checkpoint) => {
                let position = checkpoint.map_or(Position::ZERO, |checkpoint| checkpoint.position);
                let name = self.claim.name.clone();
                let parked = self.model.parked(&name).await?;
                self.learn_parked(parked);
                self.standing.send_modify(|standing| {
                    standing.position = standing.position.max(position);
                    standing.began_at.get_or_insert(position);
                });
                Ok(Turn::Lost)
            }
            Claimed::Granted(kept) => {
                if let Some(kept) = &kept {
                    anchored::check(&*self.events, kept).await?;
                }
                let reached = kept.as_ref().map_or(Position::ZERO, |kept| kept.position);
                let store = self.events.store_id().await?;
                self.follow(Place { store, kept, reached, renewed: Instant::now() }).await
            }
        }
    }

    async fn follow(&mut self, mut place: Place) -> Result<Turn> {
        if let Some(turn) = self.revisit(&mut place).await? {
            return Ok(turn);
        }
        self.standing.send_modify(|standing| {
            (standing.position, standing.working) = (place.reached, true);
            standing.began_at.get_or_insert(place.reached);
        });
        let mut batches = self.events.read_all(place.reached, self.filter.clone(), Follow::Live);
        // What is tried again may take longer than the lease lasts until it is renewed: what comes live has its turn all the same.
        let turn = self.settings.lease / 6;
        let mut live_until = Instant::now() + turn;
        loop {
            let next = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => Next::Stop,
                () = sleep_until(live_until.max(place.renewed + self.settings.lease / 3)) => Next::Renew,
                next = batches.try_next() => Next::Batch(next?),
            };
            match next {
                Next::Stop => {
                    self.note_reached(&mut place).await?;
                    return Ok(Turn::Stopped);
                }
                Next::Renew if !self.renew(&mut place).await? => return Ok(Turn::Lost),
                Next::Renew => {
                    if let Some(turn) = self.revisit(&mut place).await? {
                        return Ok(turn);
                    }
                    live_until = Instant::now() + turn;
                }
                Next::Batch(None) => {
                    return Err(Error::unavailable(Outcome::NotDone, "a live read of the log ended"));
                }
                Next::Batch(Some(batch)) => {
                    if let Some(turn) = self.handle(&mut place, batch).await? {
                        return Ok(turn);
                    }
                }
            }
        }
    }

    /// Renews the lease; false if it, or the place, is another's.
    pub(super) async fn renew(&mut self, place: &mut Place) -> Result<bool> {
        let now = Instant::now();
        match self.model.claim(&self.claim).await? {
            Claimed::Granted(kept) if kept == place.kept => {
                place.renewed = now;
                self.note_reached(place).await
            }
            _ => Ok(false),
        }
    }

    /// Keeps how far the log was looked at in vain; false if the place is lost.
    async fn note_reached(&mut self, place: &mut Place) -> Result<bool> {
        let kept = place.kept.as_ref().map_or(Position::ZERO, |kept| kept.position);
        if place.reached <= kept {
            return Ok(true);
        }
        let last = place.kept.as_ref().and_then(|kept| kept.last.clone());
        let after = Checkpoint { store: place.store, position: place.reached, last };
        let batch = Batch {
            before: place.kept.as_ref(),
            deliveries: &[],
            parked: None,
            unparked: None,
            after: &after,
        };
        match self.model.handle(&self.claim, batch).await {
            Ok(()) => {
                place.kept = Some(after);
                Ok(true)
            }
            Err(HandleError::Lost) => Ok(false),
            Err(HandleError::Store(error)) => Err(error),
            Err(error @ HandleError::Event { .. }) => Err(Error::invalid(error.to_string())),
        }
    }

    async fn handle(&mut self, place: &mut Place, batch: LogBatch) -> Result<Option<Turn>> {
        let LogBatch { events, checked_to, .. } = batch;
        let mut deliveries = Vec::new();
        for event in events {
            if !self.is_in_share(&event) {
                continue;
            }
            if event.data.event_type.is_truncation() && !self.settings.truncations {
                continue;
            }
            let aside = match self.decode_patiently(place, &mut deliveries, &event).await? {
                Decoded::Event(typed) => {
                    deliveries.push(Delivery::new(event, typed));
                    None
                }
                Decoded::Forgotten => None,
                Decoded::Not(reason, attempts) => {
                    let parked = self.parked(&event, reason, attempts);
                    Some((event, parked))
                }
                Decoded::Ended(turn) => return Ok(Some(turn)),
            };
            if aside.is_some() {
                let turn = self.hand_over(place, &mut deliveries, aside).await?;
                if turn.is_some() {
                    return Ok(turn);
                }
            }
            if deliveries.len() >= self.settings.batch {
                let turn = self.hand_over(place, &mut deliveries, None).await?;
                if turn.is_some() {
                    return Ok(turn);
                }
            }
        }
        if !deliveries.is_empty() {
            let turn = self.hand_over(place, &mut deliveries, None).await?;
            if turn.is_some() {
                return Ok(turn);
            }
        }
        place.reached = place.reached.max(checked_to);
        self.standing.send_modify(|standing| standing.position = place.reached);
        Ok(None)
    }

    /// Decodes an event. Where that panics, what stands before it is handed over, and it is tried again as if its handler had
    /// failed: what the code needs may come back.
    async fn decode_patiently(
        &mut self,
        place: &mut Place,
        before: &mut Vec<Delivery<M::Event>>,
        event: &RecordedEvent,
    ) -> Result<Decoded<M::Event>> {
        let mut attempts = 0;
        loop {
            let panicked = match self.decode(event)? {
                Ok(typed) => return Ok(Decoded::Event(typed)),
                Err(Undecoded::Forgotten) => return Ok(Decoded::Forgotten),
                // Another attempt would read the same bytes.
                Err(Undecoded::Malformed(reason)) => return Ok(Decoded::Not(reason, 0)),
                Err(Undecoded::Panicked(panicked)) => panicked,
            };
            attempts += 1;
            self.tell_failure(event.position, attempts, &panicked);
            if attempts > self.settings.retry.limit {
                return Ok(Decoded::Not(panicked, attempts));
            }
            let turn = match self.hand_over(place, before, None).await? {
                None => self.pause(place, self.settings.retry.draw_pause(attempts - 1)).await?,
                turn => turn,
            };
            if let Some(turn) = turn {
                return Ok(Decoded::Ended(turn));
            }
        }
    }

    /// The typed event; none where the event tells of a removal.
    pub(super) fn decode(&self, event: &RecordedEvent) -> Result<Result<Option<M::Event>, Undecoded>> {
        if event.data.event_type.tells_of_removal() {
            return Ok(Ok(None));
        }
        Ok(match caught(|| decode::<M::Event>(event, self.encryption.as_deref())) {
            Ok(decoded) => match decoded? {
                Ok(typed) => Ok(Some(typed)),
                Err(Unreadable::Forgotten) => Err(Undecoded::Forgotten),
                Err(Unreadable::Malformed(malformed)) => Err(Undecoded::Malformed(as_kept(malformed.reason))),
            },
            Err(panicked) => Err(Undecoded::Panicked(as_kept(format!("its decoding {panicked}")))),
        })
    }

    fn is_in_share(&self, event: &RecordedEvent) -> bool {
        self.settings.share.is_none_or(|(share, of)| share_of(event.stream.as_str(), of) == share)
    }

    pub(super) fn parked(&self, event: &RecordedEvent, error: String, attempts: u32) -> Parked {
        Parked {
            position: event.position,
            stream: event.stream.clone(),
            version: event.version,
            event_type: event.data.event_type.clone(),
            error,
            attempts,
            parked_at: self.clock.now(),
            retry_requested: false,
        }
    }

    /// True if it was told to stop meanwhile.
    async fn rest(&mut self, pause: Duration) -> bool {
        tokio::select! {
            _ = self.stopping.wait_for(|stop| *stop) => true,
            () = sleep(pause) => false,
        }
    }
}

/// Random between a half of it and its whole, doubling.
fn backoff(failures: u32) -> Duration {
    let bound = SHORTEST_PAUSE.saturating_mul(1u32 << failures.min(16)).min(LONGEST_PAUSE);
    bound.mul_f64(0.5 + fastrand::f64() / 2.0)
}
