//! Delays by carrier: a projection over all airports and all aircraft.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailfold::{EventMeta, Events, Filter, Fold, Projection, State};

use super::aircraft::AircraftEvent;
use super::airport::AirportEvent;

/// Minutes from which on a flight counts as late, as the US Department of Transportation counts.
const LATE: i32 = 15;

/// What happens to flights: airports know when they left, aircraft when they arrived.
#[derive(Clone, Debug, Events)]
pub(crate) enum FlightEvent {
    Airport(AirportEvent),
    Aircraft(AircraftEvent),
}

/// The dashboard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
#[state(name = "delays-by-carrier", projection)]
pub(crate) struct DelaysByCarrier {
    pub(crate) carriers: BTreeMap<String, Delays>,
}

/// How a carrier does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
pub(crate) struct Delays {
    /// Told by airports.
    pub(crate) departures: Punctuality,
    pub(crate) cancelled: u32,
    /// Told by aircraft, so not of flights without a tail number.
    pub(crate) arrivals: Punctuality,
    /// Left and were not seen arriving.
    pub(crate) unfinished: u32,
    pub(crate) miles: u64,
    /// The flight that arrived latest; of several, the one with the highest number.
    pub(crate) worst: Option<Worst>,
}

/// Flights, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
pub(crate) struct Punctuality {
    pub(crate) flights: u32,
    /// By a quarter of an hour or more.
    pub(crate) late: u32,
    /// Sum over all that were not early.
    pub(crate) minutes_late: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, State)]
pub(crate) struct Worst {
    pub(crate) minutes: i32,
    pub(crate) flight: u32,
}

impl Projection for DelaysByCarrier {
    type Key = ();

    fn query((): &()) -> tailfold::Result<Filter> {
        Ok(Filter::all())
    }
}

impl Fold for DelaysByCarrier {
    type Event = FlightEvent;

    fn apply(&mut self, event: FlightEvent, _meta: &EventMeta<'_>) {
        match event {
            FlightEvent::Airport(AirportEvent::Departed { carrier, delay, .. }) => {
                self.of(carrier).departures.count(delay);
            }
            FlightEvent::Airport(AirportEvent::Cancelled { carrier, .. }) => self.of(carrier).cancelled += 1,
            FlightEvent::Aircraft(AircraftEvent::Flown { carrier, flight, miles, arrival, .. }) => {
                let delays = self.of(carrier);
                delays.miles += u64::from(miles);
                match arrival {
                    Some(arrival) => delays.arrive(flight, arrival.delay),
                    None => delays.unfinished += 1,
                }
            }
            // Its airport told it.
            FlightEvent::Aircraft(AircraftEvent::Cancelled { .. }) => {}
        }
    }
}

impl DelaysByCarrier {
    fn of(&mut self, carrier: String) -> &mut Delays {
        self.carriers.entry(carrier).or_default()
    }
}

impl Delays {
    fn arrive(&mut self, flight: u32, minutes: i32) {
        self.arrivals.count(minutes);
        // Of equals the higher number: aircraft are recorded side by side, so the log has not the file's order among them.
        if self.worst.as_ref().is_none_or(|worst| (minutes, flight) > (worst.minutes, worst.flight)) {
            self.worst = Some(Worst { minutes, flight });
        }
    }
}

impl Punctuality {
    fn count(&mut self, delay: i32) {
        self.flights += 1;
        self.late += u32::from(delay >= LATE);
        self.minutes_late += u64::from(delay.max(0).unsigned_abs());
    }
}
