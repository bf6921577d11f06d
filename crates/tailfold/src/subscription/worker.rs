//! The work of a subscription: claim, check where the model stands, follow, hand over, retry, park.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::anchored;
use super::checkpoint::{Checkpoint, HandledEvent};
use super::lag::{age, key};
use super::read_model::{Batch, Claim, Claimed, Delivery, HandleError, Parked, ReadModel};
use crate::clock::Clock;
use crate::encryption::Encryption;
use crate::error::{Error, ErrorKind, Outcome, Result, WithCauses};
use crate::event::{Position, RecordedEvent};
use crate::filter::Filter;
use crate::meter;
use crate::replay::decode;
use crate::report::Unreadable;
use crate::store::{EventStore, Follow, LogBatch, StoreId};

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) batch: usize,
    pub(super) retries: u32,
    pub(super) lease: Duration,
    pub(super) share: Option<(u32, u32)>,
    /// Whether the model wants to hear of truncations.
    pub(super) truncations: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { batch: 256, retries: 3, lease: Duration::from_secs(30), share: None, truncations: false }
    }
}

/// What is known of the work from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) position: Position,
    pub(super) working: bool,
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
enum Turn {
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
struct Place {
    store: StoreId,
    kept: Option<Checkpoint>,
    /// Looked at up to here; what does not match is not worth a write at once.
    reached: Position,
}

impl<M: ReadModel> Worker<M> {
    pub(super) async fn run(mut self) {
        let ended = self.work().await;
        if let Err(error) = self.model.release(&self.claim).await {
            tracing::debug!(subscription = %self.claim.name, %error, "lease not given back");
        }
        if let Err(error) = &ended {
            tracing::error!(subscription = %self.claim.name, %error, "subscription ended");
        }
        let name = self.claim.name.clone();
        let ended = ended.err().map(|error| error.during(format!("subscription `{name}`")));
        self.standing.send_modify(|standing| (standing.working, standing.ended) = (false, Some(ended)));
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
                self.standing.send_modify(|standing| standing.position = standing.position.max(position));
                Ok(Turn::Lost)
            }
            Claimed::Granted(kept) => {
                if let Some(kept) = &kept {
                    anchored::check(&*self.events, kept).await?;
                }
                let reached = kept.as_ref().map_or(Position::ZERO, |kept| kept.position);
                let store = self.events.store_id().await?;
                self.follow(Place { store, kept, reached }).await
            }
        }
    }

    async fn follow(&mut self, mut place: Place) -> Result<Turn> {
        self.standing.send_modify(|standing| (standing.position, standing.working) = (place.reached, true));
        let mut batches = self.events.read_all(place.reached, self.filter.clone(), Follow::Live);
        let mut renewal = Instant::now() + self.settings.lease / 3;
        loop {
            let next = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => Next::Stop,
                () = sleep_until(renewal) => Next::Renew,
                next = batches.try_next() => Next::Batch(next?),
            };
            match next {
                Next::Stop => {
                    self.note_reached(&mut place).await?;
                    return Ok(Turn::Stopped);
                }
                Next::Renew if !self.renew(&mut place).await? => return Ok(Turn::Lost),
                Next::Renew => renewal = Instant::now() + self.settings.lease / 3,
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
    async fn renew(&mut self, place: &mut Place) -> Result<bool> {
        match self.model.claim(&self.claim).await? {
            Claimed::Granted(kept) if kept == place.kept => self.note_reached(place).await,
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
        let batch = Batch { before: place.kept.as_ref(), deliveries: &[], parked: None, after: &after };
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
            if event.data.event_type.tells_of_removal() {
                deliveries.push(Delivery::new(event, None));
            } else {
                match decode::<M::Event>(&event, self.encryption.as_deref())? {
                    Ok(typed) => deliveries.push(Delivery::new(event, Some(typed))),
                    Err(Unreadable::Forgotten) => {}
                    Err(Unreadable::Malformed(malformed)) => {
                        // Another attempt would read the same bytes.
                        let parked = self.parked(&event, malformed.reason, 0);
                        let turn = self.hand_over(place, &mut deliveries, Some((event, parked))).await?;
                        if turn.is_some() {
                            return Ok(turn);
                        }
                    }
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

    fn is_in_share(&self, event: &RecordedEvent) -> bool {
        self.settings.share.is_none_or(|(share, of)| share_of(event.stream.as_str(), of) == share)
    }

    fn parked(&self, event: &RecordedEvent, error: String, attempts: u32) -> Parked {
        Parked {
            position: event.position,
            stream: event.stream.clone(),
            version: event.version,
            event_type: event.data.event_type.clone(),
            error,
            attempts,
            parked_at: self.clock.now(),
        }
    }

    /// Hands events over until the model has them, and then what is parked; empties `deliveries`.
    async fn hand_over(
        &mut self,
        place: &mut Place,
        deliveries: &mut Vec<Delivery<M::Event>>,
        mut parked: Option<(RecordedEvent, Parked)>,
    ) -> Result<Option<Turn>> {
        let mut rest: &[Delivery<M::Event>] = deliveries;
        let mut last_parked = parked.take();
        // Up to where this step goes, and the event that it parks.
        let mut step = (rest.len(), None);
        let mut attempts = 0;
        loop {
            let (now, later) = rest.split_at(step.0.min(rest.len()));
            let is_last = later.is_empty() && step.1.is_none();
            let aside = step.1.as_ref().or(last_parked.as_ref().filter(|_| is_last));
            let Some(last) = aside.map(|(event, _)| event).or(now.last().map(Delivery::recorded)) else {
                break;
            };
            // A marker is replaced by the stream's next one: what was handled before it says more of the log.
            let lasting = |event: &&RecordedEvent| !event.data.event_type.is_truncation();
            let handled = Some(last)
                .filter(lasting)
                .or_else(|| now.iter().rev().map(Delivery::recorded).find(lasting))
                .map(HandledEvent::of)
                .or_else(|| place.kept.as_ref().and_then(|kept| kept.last.clone()));
            let after = Checkpoint { store: place.store, position: last.position, last: handled };
            let newest = last.data.recorded_at;
            let parked = aside.map(|(_, parked)| parked);
            let batch = Batch { before: place.kept.as_ref(), deliveries: now, parked, after: &after };
            match self.model.handle(&self.claim, batch).await {
                Ok(()) => {
                    self.tell(now.len(), parked, newest);
                    place.reached = after.position;
                    self.standing.send_modify(|standing| standing.position = after.position);
                    place.kept = Some(after);
                    if is_last {
                        last_parked = None;
                    }
                    // The event that was put aside is the first of what comes later.
                    rest = if step.1.is_some() { later.get(1..).unwrap_or_default() } else { later };
                    step = (rest.len(), None);
                    attempts = 0;
                }
                Err(HandleError::Lost) => return Ok(Some(Turn::Lost)),
                Err(HandleError::Store(error)) => return Err(error),
                Err(HandleError::Event { position, error }) => {
                    let error = WithCauses(&*error).to_string();
                    let Some(index) = now.iter().position(|delivery| delivery.position() == position) else {
                        return Err(Error::invalid(format!(
                            "the read model failed at position {position}, which it was not given: {error}"
                        )));
                    };
                    meter::count(&key("tailfold_subscription_failures_total", &self.claim.name));
                    tracing::warn!(
                        subscription = %self.claim.name, %position, attempts, %error, "event not handled"
                    );
                    attempts += 1;
                    if attempts > self.settings.retries {
                        let event = now.get(index).map(|delivery| delivery.recorded().clone());
                        step = (
                            index,
                            event.map(|event| {
                                let parked = self.parked(&event, error.clone(), attempts);
                                (event, parked)
                            }),
                        );
                        attempts = 0;
                    } else if self.rest(backoff(attempts)).await {
                        return Ok(Some(Turn::Stopped));
                    }
                }
            }
        }
        deliveries.clear();
        Ok(None)
    }

    fn tell(&self, handled: usize, parked: Option<&Parked>, newest: crate::clock::Timestamp) {
        let name = &self.claim.name;
        meter::add(&key("tailfold_subscription_handled_total", name), handled as u64);
        if let Some(Parked { position, stream, error, attempts, .. }) = parked {
            meter::count(&key("tailfold_subscription_parked_total", name));
            tracing::error!(subscription = %name, %position, %stream, attempts, error, "event parked");
        }
        let behind = age(newest, self.clock.now());
        meter::set(&key("tailfold_subscription_lag_seconds", name), behind.as_secs_f64());
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

/// Which of several shares a stream belongs to. Part of what is kept: it never changes.
fn share_of(stream: &str, of: u32) -> u32 {
    let hash = blake3::hash(stream.as_bytes());
    let (number, _) = hash.as_bytes().split_at(8);
    let number = number.try_into().map_or(0, u64::from_le_bytes);
    (number % u64::from(of.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_change_and_take_about_as_much() {
        assert_eq!([share_of("account/1", 4), share_of("account/2", 4), share_of("order/x", 4)], [2, 0, 3]);
        let mut taken = [0u32; 4];
        for number in 0..1000 {
            if let Some(share) = taken.get_mut(share_of(&format!("account/{number}"), 4) as usize) {
                *share += 1;
            }
        }
        assert!(taken.iter().all(|share| (200..300).contains(share)), "{taken:?}");
    }
}
