//! Handing events over to a read model: retries, halves after a panic, parking.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::checkpoint::{Checkpoint, HandledEvent};
use super::lag::{age, key};
use super::read_model::{Batch, Delivery, HandleError, Parked, ReadModel};
use super::worker::{Place, Turn, Worker};
use crate::error::{Error, Result, WithCauses};
use crate::event::{Position, RecordedEvent};
use crate::meter;
use crate::panics::caught_in;
use crate::stream::StreamId;

/// What hands over some of the events at hand.
struct Step {
    /// How many of them.
    events: usize,
    /// The event after these, and what is kept of it, where it is put aside.
    aside: Option<(RecordedEvent, Parked)>,
}

/// An event that could not be handled.
struct Failing {
    position: Position,
    attempts: u32,
    /// Its handler panicked, and the model does not say so: it is handed over alone.
    alone: bool,
}

/// Most bytes of the text of an error that are kept with a parked event: it must be read again with all the
/// others, wherever the read model keeps it.
const MOST_ERROR_BYTES: usize = 8 * 1024;

/// The text of an error, cut where it is too long to be kept.
pub(super) fn as_kept(mut error: String) -> String {
    let bytes = error.len();
    if bytes > MOST_ERROR_BYTES {
        let end = (0..=MOST_ERROR_BYTES).rev().find(|end| error.is_char_boundary(*end));
        error.truncate(end.unwrap_or_default());
        error.push_str(&format!(".. ({bytes} bytes)"));
    }
    error
}

impl<M: ReadModel> Worker<M> {
    /// Hands events over until the model has them, and then what is parked; empties `deliveries`.
    ///
    /// At first all of them are one step. Where the model fails at one of them, the step is what stands before
    /// that one, which need not wait for it; then it is the first, and the step is all that is left, after a
    /// pause, until the event is handled or the attempts are used up. Then the step puts it aside, and all that
    /// is left comes next. A panic of which the model does not say where it comes from halves the step until it
    /// is one event.
    pub(super) async fn hand_over(
        &mut self,
        place: &mut Place,
        deliveries: &mut Vec<Delivery<M::Event>>,
        parked: Option<(RecordedEvent, Parked)>,
    ) -> Result<Option<Turn>> {
        let mut rest: &[Delivery<M::Event>] = deliveries;
        let mut last_parked = parked;
        let mut step = Step { events: rest.len(), aside: None };
        let mut failing: Option<Failing> = None;
        loop {
            let (now, later) = rest.split_at(step.events.min(rest.len()));
            let is_last = later.is_empty() && step.aside.is_none();
            let aside = step.aside.as_ref().or(last_parked.as_ref().filter(|_| is_last));
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
            let batch =
                Batch { before: place.kept.as_ref(), deliveries: now, parked, unparked: None, after: &after };
            let erased: Vec<_> =
                batch.erased().map(|(stream, position)| (stream.clone(), position)).collect();
            let (position, error, alone) = match caught_in(self.model.handle(&self.claim, batch)).await {
                Ok(Ok(())) => {
                    self.tell(now.len(), parked, newest);
                    place.reached = after.position;
                    place.kept = Some(after);
                    self.note_handled(place.reached, parked, &erased);
                    if is_last {
                        last_parked = None;
                    }
                    // The event that was put aside is the first of what comes later.
                    rest = if step.aside.is_some() { later.get(1..).unwrap_or_default() } else { later };
                    step = Step { events: rest.len(), aside: None };
                    continue;
                }
                Ok(Err(HandleError::Lost)) => return Ok(Some(Turn::Lost)),
                Ok(Err(HandleError::Store(error))) => return Err(error),
                Ok(Err(HandleError::Event { position, error })) => {
                    (position, as_kept(WithCauses(&*error).to_string()), false)
                }
                Err(panicked) => match now {
                    [] => return Err(Error::invalid("the read model").caused_by(panicked)),
                    [one] => (one.position(), as_kept(panicked.to_string()), true),
                    several => {
                        step = Step { events: several.len() / 2, aside: None };
                        continue;
                    }
                },
            };
            let Some(index) = now.iter().position(|delivery| delivery.position() == position) else {
                return Err(Error::invalid(format!(
                    "the read model failed at position {position}, which it was not given: {error}"
                )));
            };
            let before = failing.take().filter(|failing| failing.position == position);
            let attempts = before.as_ref().map_or(0, |failing| failing.attempts) + 1;
            let alone = alone || before.is_some_and(|failing| failing.alone);
            self.tell_failure(position, attempts, &error);
            failing = Some(Failing { position, attempts, alone });
            if attempts > self.settings.retry.limit {
                let event = now.get(index).map(|delivery| delivery.recorded().clone());
                let aside = event.map(|event| {
                    let parked = self.parked(&event, error, attempts);
                    (event, parked)
                });
                step = Step { events: index, aside };
            } else if index > 0 {
                step = Step { events: index, aside: None };
            } else {
                let pause = self.settings.retry.draw_pause(attempts - 1);
                if let Some(turn) = self.pause(place, pause).await? {
                    return Ok(Some(turn));
                }
                step = Step { events: if alone { 1 } else { rest.len() }, aside: None };
            }
        }
        deliveries.clear();
        Ok(None)
    }

    /// Tells how far the model has come, and at once what it has put aside, and no longer keeps of erased
    /// streams.
    fn note_handled(&self, position: Position, parked: Option<&Parked>, erased: &[(StreamId, Position)]) {
        self.standing.send_modify(|standing| {
            standing.position = position;
            for (stream, tombstone) in erased {
                standing.parked.retain(|at, parked| at >= tombstone || parked.stream != *stream);
            }
            standing.parked.extend(parked.map(|parked| (parked.position, parked.clone())));
        });
    }

    /// Waits, and keeps the lease meanwhile.
    pub(super) async fn pause(&mut self, place: &mut Place, pause: Duration) -> Result<Option<Turn>> {
        let end = Instant::now() + pause;
        loop {
            let renewal = place.renewed + self.settings.lease / 3;
            tokio::select! {
                _ = self.stopping.wait_for(|stop| *stop) => return Ok(Some(Turn::Stopped)),
                () = sleep_until(end.min(renewal)) => {}
            }
            if end <= renewal {
                return Ok(None);
            }
            if !self.renew(place).await? {
                return Ok(Some(Turn::Lost));
            }
        }
    }

    pub(super) fn tell_failure(&self, position: Position, attempts: u32, error: &str) {
        let name = &self.claim.name;
        meter::count(&key("tailfold_subscription_failures_total", name));
        tracing::warn!(subscription = %name, %position, attempts, error, "event not handled");
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
}
