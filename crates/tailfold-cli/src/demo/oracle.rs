//! What every state must be: one pass over the file, with sums and maps of its own. Shares no code with the folds, the
//! events or the reading of rows into flights.

use std::collections::BTreeMap;

use super::aircraft::Aircraft;
use super::airport::{Airport, Tally};
use super::flights::{Input, Row};
use crate::error::Result;

/// The right answers.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) flights: u64,
    pub(crate) aircraft: BTreeMap<String, Expectation<Aircraft>>,
    pub(crate) airports: BTreeMap<String, Expectation<Airport>>,
}

/// What a stream must hold.
#[derive(Debug, Default)]
pub(crate) struct Expectation<S> {
    pub(crate) events: u64,
    pub(crate) state: S,
}

impl Oracle {
    pub(crate) fn of(input: &Input) -> Result<Self> {
        let mut oracle = Self::default();
        let mut records = input.records()?;
        while let Some(row) = records.next_row() {
            oracle.count(&row?);
        }
        Ok(oracle)
    }

    fn count(&mut self, row: &Row) {
        self.flights += 1;
        // Absent numbers become None; the import has refused every other text before.
        let number = |column| row.text(column).parse::<i64>().ok();
        let delay = number("dep_delay");
        let late = delay.map_or(0, |minutes| minutes.max(0)).unsigned_abs();
        let early = delay.map_or(0, |minutes| minutes.min(0)).unsigned_abs();
        let (departures, cancellations) = if delay.is_some() { (1, 0) } else { (0, 1) };

        let airport = self.airports.entry(row.text("origin").to_owned()).or_default();
        airport.events += 1;
        let Airport { total, by_carrier, by_destination } = &mut airport.state;
        let carrier = by_carrier.entry(row.text("carrier").to_owned()).or_default();
        let destination = by_destination.entry(row.text("dest").to_owned()).or_default();
        for Tally { departures: d, cancellations: c, minutes_late: l, minutes_early: e } in
            [total, carrier, destination]
        {
            (*d, *c, *l, *e) = (*d + departures, *c + cancellations, *l + late, *e + early);
        }

        let tail = row.text("tailnum");
        if tail == "NA" || tail.is_empty() {
            return;
        }
        let aircraft = self.aircraft.entry(tail.to_owned()).or_default();
        aircraft.events += 1;
        let state = &mut aircraft.state;
        state.flights += departures;
        state.cancellations += cancellations;
        if let Some(delay) = delay {
            state.departure_delay += delay;
            state.miles += number("distance").map_or(0, i64::unsigned_abs);
            state.leaving_for = Some(row.text("dest").to_owned());
            state.unfinished += u32::from(number("air_time").is_none());
            state.minutes_in_air += number("air_time").map_or(0, i64::unsigned_abs);
            state.arrival_delay += number("arr_delay").unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_has_the_actors_that_its_readme_says() {
        let oracle = Oracle::of(&Input::Embedded).unwrap();
        assert_eq!((oracle.flights, oracle.aircraft.len(), oracle.airports.len()), (80_789, 3_575, 3));
        let events: Vec<_> =
            oracle.airports.iter().map(|(name, airport)| (name.as_str(), airport.events)).collect();
        assert_eq!(events, [("EWR", 29_420), ("JFK", 27_279), ("LGA", 24_090)]);
        assert_eq!(oracle.aircraft.values().map(|aircraft| aircraft.events).max(), Some(199));
    }
}
