//! What was put aside: told to those who wait, and tried again when somebody asks for it.

use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::hand_over::as_kept;
use super::read_model::{Batch, Delivery, HandleError, Parked, ReadModel};
use super::worker::{Place, Turn, Undecoded, Worker};
use crate::error::{Result, WithCauses};
use crate::event::{Position, RecordedEvent};
use crate::filter::Filter;
use crate::panics::caught_in;
use crate::store::Follow;

/// What came of trying an event again.
enum Again {
    /// Handled, or gone from the log.
    Done,
    /// It stays where it is, with what is wrong with it now.
    Failed(String),
    Lost,
}

impl<M: ReadModel> Worker<M> {
    /// Learns what is put aside, and tells it.
    pub(super) fn learn_parked(&self, parked: Vec<Parked>) {
        let parked = parked.into_iter().map(|parked| (parked.position, parked)).collect();
        self.standing.send_if_modified(|standing| {
            let is_new = standing.parked != parked;
            standing.parked = parked;
            is_new
        });
    }

    /// Looks at what is put aside, and tries again what somebody has asked for, each once and in order: for half
    /// of the time until the lease is renewed, so that neither that nor what comes live waits for all of it.
    pub(super) async fn revisit(&mut self, place: &mut Place) -> Result<Option<Turn>> {
        let name = self.claim.name.clone();
        let parked = self.model.parked(&name).await?;
        let mut is_changed = false;
        let until = Instant::now() + self.settings.lease / 6;
        for parked in parked.iter().filter(|parked| parked.retry_requested) {
            if *self.stopping.borrow() {
                return Ok(Some(Turn::Stopped));
            }
            if is_changed && Instant::now() >= until {
                break;
            }
            if let Some(turn) = self.try_again(place, parked).await? {
                return Ok(Some(turn));
            }
            is_changed = true;
        }
        let parked = if is_changed { self.model.parked(&name).await? } else { parked };
        self.learn_parked(parked);
        Ok(None)
    }

    async fn try_again(&mut self, place: &mut Place, parked: &Parked) -> Result<Option<Turn>> {
        // Whatever is put aside lies before a checkpoint.
        let Some(kept) = place.kept.clone() else { return Ok(None) };
        let event = self.event_at(parked).await?;
        let (again, attempts) = match event {
            None => (self.unpark(place, &[], parked.position).await?, parked.attempts),
            Some(event) => match self.decode(&event)? {
                Ok(typed) => {
                    let delivery = Delivery::new(event, typed);
                    let attempts = parked.attempts.saturating_add(1);
                    (self.unpark(place, &[delivery], parked.position).await?, attempts)
                }
                Err(Undecoded::Forgotten) => {
                    (self.unpark(place, &[], parked.position).await?, parked.attempts)
                }
                Err(Undecoded::Malformed(reason)) => (Again::Failed(reason), parked.attempts),
                Err(Undecoded::Panicked(panicked)) => {
                    (Again::Failed(panicked), parked.attempts.saturating_add(1))
                }
            },
        };
        let (name, position) = (&self.claim.name, parked.position);
        match again {
            Again::Done => {
                tracing::info!(subscription = %name, %position, "parked event handled, or gone");
                Ok(None)
            }
            Again::Lost => Ok(Some(Turn::Lost)),
            Again::Failed(error) => {
                tracing::error!(subscription = %name, %position, attempts, %error, "event parked again");
                let parked_at = self.clock.now();
                let again = Parked { error, attempts, parked_at, retry_requested: false, ..parked.clone() };
                let batch = Batch {
                    before: Some(&kept),
                    deliveries: &[],
                    parked: Some(&again),
                    unparked: None,
                    after: &kept,
                };
                match self.model.handle(&self.claim, batch).await {
                    Ok(()) => Ok(None),
                    Err(HandleError::Lost) => Ok(Some(Turn::Lost)),
                    Err(HandleError::Store(error)) => Err(error),
                    Err(error @ HandleError::Event { .. }) => {
                        Err(crate::error::Error::invalid(error.to_string()))
                    }
                }
            }
        }
    }

    /// Hands one event over that was put aside, or none where it is gone, and has it put aside no longer.
    async fn unpark(
        &mut self,
        place: &Place,
        deliveries: &[Delivery<M::Event>],
        position: Position,
    ) -> Result<Again> {
        let Some(kept) = &place.kept else { return Ok(Again::Lost) };
        let batch =
            Batch { before: Some(kept), deliveries, parked: None, unparked: Some(position), after: kept };
        Ok(match caught_in(self.model.handle(&self.claim, batch)).await {
            Ok(Ok(())) => Again::Done,
            Ok(Err(HandleError::Lost)) => Again::Lost,
            Ok(Err(HandleError::Store(error))) => return Err(error),
            Ok(Err(HandleError::Event { error, .. })) => {
                Again::Failed(as_kept(WithCauses(&*error).to_string()))
            }
            Err(panicked) => Again::Failed(as_kept(panicked.to_string())),
        })
    }

    /// The event that was put aside, if it is still in the log.
    async fn event_at(&mut self, parked: &Parked) -> Result<Option<RecordedEvent>> {
        let before = Position(parked.position.0.saturating_sub(1));
        let filter = Filter::stream(parked.stream.clone());
        let mut batches = self.events.read_all(before, filter, Follow::ToEnd);
        while let Some(batch) = batches.try_next().await? {
            if let Some(event) = batch.events.into_iter().next() {
                return Ok(Some(event).filter(|event| event.position == parked.position));
            }
        }
        Ok(None)
    }
}
