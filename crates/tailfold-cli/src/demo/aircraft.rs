//! An aircraft: where it flew.

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};

use super::flights::{Flight, Outcome};

/// What happens to an aircraft.
#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "aircraft")]
pub(crate) enum AircraftEvent {
    /// It took off; if an arrival was recorded, it landed.
    Flown {
        carrier: String,
        flight: u32,
        origin: String,
        destination: String,
        miles: u32,
        departure_delay: i32,
        arrival: Option<Arrival>,
    },
    /// It was to fly and did not.
    Cancelled { carrier: String, flight: u32, origin: String, destination: String },
}

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) delay: i32,
    pub(crate) minutes_in_air: u32,
}

/// What is known of an aircraft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
#[state(name = "aircraft")]
pub(crate) struct Aircraft {
    pub(crate) flights: u32,
    pub(crate) cancellations: u32,
    /// Flights without a recorded arrival.
    pub(crate) unfinished: u32,
    pub(crate) minutes_in_air: u64,
    pub(crate) miles: u64,
    /// Sums; early departures and arrivals count against late ones.
    pub(crate) departure_delay: i64,
    pub(crate) arrival_delay: i64,
    /// Where it was last seen leaving for.
    pub(crate) leaving_for: Option<String>,
}

impl Fold for Aircraft {
    type Event = AircraftEvent;

    fn apply(&mut self, event: AircraftEvent, _meta: &EventMeta<'_>) {
        match event {
            AircraftEvent::Flown { destination, miles, departure_delay, arrival, .. } => {
                self.flights += 1;
                self.miles += u64::from(miles);
                self.departure_delay += i64::from(departure_delay);
                self.leaving_for = Some(destination);
                match arrival {
                    Some(arrival) => {
                        self.minutes_in_air += u64::from(arrival.minutes_in_air);
                        self.arrival_delay += i64::from(arrival.delay);
                    }
                    None => self.unfinished += 1,
                }
            }
            AircraftEvent::Cancelled { .. } => self.cancellations += 1,
        }
    }
}

impl From<&Flight> for AircraftEvent {
    fn from(flight: &Flight) -> Self {
        let Flight { carrier, number, origin, destination, miles, outcome, .. } = flight.clone();
        match outcome {
            Outcome::Cancelled => Self::Cancelled { carrier, flight: number, origin, destination },
            Outcome::Departed { delay, arrival } => Self::Flown {
                carrier,
                flight: number,
                origin,
                destination,
                miles,
                departure_delay: delay,
                arrival: arrival.map(|(delay, minutes_in_air)| Arrival { delay, minutes_in_air }),
            },
        }
    }
}
