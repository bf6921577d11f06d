//! An airport: what left it, and how late.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};

use super::flights::{Flight, Outcome};

/// What happens at an airport.
#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "airport")]
pub(crate) enum AirportEvent {
    /// A flight left.
    Departed { carrier: String, flight: u32, tail: Option<String>, destination: String, delay: i32 },
    /// A flight was to leave and did not.
    Cancelled { carrier: String, flight: u32, tail: Option<String>, destination: String },
}

/// What is known of an airport: a long-lived actor whose state keeps growing a little.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
#[state(name = "airport")]
pub(crate) struct Airport {
    pub(crate) total: Tally,
    pub(crate) by_carrier: BTreeMap<String, Tally>,
    pub(crate) by_destination: BTreeMap<String, Tally>,
}

/// Departures, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
pub(crate) struct Tally {
    pub(crate) departures: u32,
    pub(crate) cancellations: u32,
    /// Sums: minutes of late departures, and of early ones.
    pub(crate) minutes_late: u64,
    pub(crate) minutes_early: u64,
}

impl Fold for Airport {
    type Event = AirportEvent;

    fn apply(&mut self, event: AirportEvent, _meta: &EventMeta<'_>) {
        match event {
            AirportEvent::Departed { carrier, destination, delay, .. } => {
                self.each(carrier, destination, |tally| tally.depart(delay));
            }
            AirportEvent::Cancelled { carrier, destination, .. } => {
                self.each(carrier, destination, |tally| tally.cancellations += 1);
            }
        }
    }
}

impl Airport {
    fn each(&mut self, carrier: String, destination: String, mut count: impl FnMut(&mut Tally)) {
        count(&mut self.total);
        count(self.by_carrier.entry(carrier).or_default());
        count(self.by_destination.entry(destination).or_default());
    }
}

impl Tally {
    fn depart(&mut self, delay: i32) {
        self.departures += 1;
        if delay >= 0 {
            self.minutes_late += u64::from(delay.unsigned_abs());
        } else {
            self.minutes_early += u64::from(delay.unsigned_abs());
        }
    }
}

impl From<&Flight> for AirportEvent {
    fn from(flight: &Flight) -> Self {
        let Flight { carrier, number, tail, destination, outcome, .. } = flight.clone();
        match outcome {
            Outcome::Cancelled => Self::Cancelled { carrier, flight: number, tail, destination },
            Outcome::Departed { delay, .. } => {
                Self::Departed { carrier, flight: number, tail, destination, delay }
            }
        }
    }
}
