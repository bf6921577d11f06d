//! What every state must be: one pass over the file, with sums and maps of its own. Shares no code with the folds, the
//! events or the reading of rows into flights.

use std::collections::BTreeMap;

use super::aircraft::Aircraft;
use super::airport::{Airport, Tally};
use super::delays::{DelaysByCarrier, Worst};
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

        if !has_tail(row) {
            return;
        }
        let aircraft = self.aircraft.entry(row.text("tailnum").to_owned()).or_default();
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

/// The dashboard after so many of the file's events each, in the order of the file: every row is an event of its airport and,
/// with a tail number, another one of its aircraft. `ends` ascend; what lies behind the file's end is the whole file.
pub(crate) fn dashboards(input: &Input, ends: &[u64]) -> Result<Vec<DelaysByCarrier>> {
    let mut ends = ends.iter().copied().peekable();
    let (mut dashboard, mut dashboards, mut events) = (DelaysByCarrier::default(), Vec::new(), 0);
    let mut records = input.records()?;
    while let Some(row) = records.next_row() {
        let row = row?;
        for count in [count_departure, count_arrival] {
            while ends.next_if_eq(&events).is_some() {
                dashboards.push(dashboard.clone());
            }
            events += u64::from(count(&mut dashboard, &row));
        }
    }
    dashboards.extend(ends.map(|_| dashboard.clone()));
    Ok(dashboards)
}

/// Events in a file, up to the first row that cannot even be split into fields: the import says what is wrong with it.
pub(crate) fn count_events(input: &Input) -> Result<u64> {
    let (mut records, mut events) = (input.records()?, 0);
    while let Some(Ok(row)) = records.next_row() {
        events += 1 + u64::from(has_tail(&row));
    }
    Ok(events)
}

fn has_tail(row: &Row) -> bool {
    !matches!(row.text("tailnum"), "NA" | "")
}

/// What the airport knows of a flight. Answers whether it is an event.
fn count_departure(dashboard: &mut DelaysByCarrier, row: &Row) -> bool {
    let carrier = dashboard.carriers.entry(row.text("carrier").to_owned()).or_default();
    match row.text("dep_delay").parse::<i64>() {
        Err(_) => carrier.cancelled += 1,
        Ok(delay) => {
            carrier.departures.flights += 1;
            if delay > 0 {
                carrier.departures.minutes_late += delay.unsigned_abs();
            }
            if delay >= 15 {
                carrier.departures.late += 1;
            }
        }
    }
    true
}

/// What the aircraft knows of it.
fn count_arrival(dashboard: &mut DelaysByCarrier, row: &Row) -> bool {
    if !has_tail(row) {
        return false;
    }
    if row.text("dep_delay").parse::<i64>().is_err() {
        return true;
    }
    let carrier = dashboard.carriers.entry(row.text("carrier").to_owned()).or_default();
    carrier.miles += row.text("distance").parse::<u64>().unwrap_or(0);
    let Ok(minutes) = row.text("arr_delay").parse::<i32>() else {
        carrier.unfinished += 1;
        return true;
    };
    carrier.arrivals.flights += 1;
    carrier.arrivals.minutes_late += u64::try_from(minutes).unwrap_or(0);
    carrier.arrivals.late += u32::from(minutes >= 15);
    let flight = row.text("flight").parse().unwrap_or(0);
    let worst = carrier.worst.get_or_insert(Worst { minutes, flight });
    if minutes > worst.minutes || (minutes == worst.minutes && flight > worst.flight) {
        *worst = Worst { minutes, flight };
    }
    true
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
    #[test]
    fn a_dashboard_grows_event_by_event() {
        let all = count_events(&Input::Embedded).unwrap();
        assert_eq!(all, 2 * 80_789 - 841);
        let seen = dashboards(&Input::Embedded, &[0, 1, 2, 2, all, all + 1]).unwrap();
        let flights = |index: usize| {
            let delays = seen[index].carriers.values();
            delays.fold((0, 0), |(left, arrived), delays| {
                (left + delays.departures.flights + delays.cancelled, arrived + delays.arrivals.flights)
            })
        };
        assert_eq!([0, 1, 2, 3].map(flights), [(0, 0), (1, 0), (1, 1), (1, 1)]);
        assert_eq!(flights(4).0, 80_789);
        assert_eq!(seen[4], seen[5]);
    }
}
