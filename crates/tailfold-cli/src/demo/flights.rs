//! Flights, read row by row from CSV.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use csv::StringRecord;
use flate2::read::MultiGzDecoder;
use tailfold::Timestamp;

use crate::error::{Error, Result};

/// All flights that left New York's airports from January to March 2013; see `data/README.md`.
const EMBEDDED: &[u8] = include_bytes!("../../data/flights-2013-q1.csv.gz");
pub(crate) const EMBEDDED_ROWS: u64 = 80_789;

const COLUMNS: [&str; 13] = [
    "year",
    "month",
    "day",
    "sched_dep_time",
    "dep_delay",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "air_time",
    "distance",
];

/// Where the rows are.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// In the program itself.
    Embedded,
    File(PathBuf),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) scheduled: Timestamp,
    pub(crate) carrier: String,
    pub(crate) number: u32,
    pub(crate) tail: Option<String>,
    pub(crate) origin: String,
    pub(crate) destination: String,
    pub(crate) miles: u32,
    pub(crate) outcome: Outcome,
}

/// What became of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Cancelled,
    Departed {
        delay: i32,
        /// Delay and minutes in the air; there are flights of which no arrival was recorded.
        arrival: Option<(i32, u32)>,
    },
}

impl Input {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Embedded => "the flights of early 2013".to_owned(),
            Self::File(path) => format!("`{}`", path.display()),
        }
    }

    fn operation(&self) -> String {
        format!("read flights from {}", self.name())
    }

    /// The rows as records, after a head that names every column; with the place of each column, in the order of
    /// [`COLUMNS`].
    pub(crate) fn records(&self) -> Result<Records> {
        let failed = |error| Error::io(self.operation(), error);
        let raw: Box<dyn Read + Send> = match self {
            Self::Embedded => Box::new(EMBEDDED),
            Self::File(path) => Box::new(File::open(path).map_err(failed)?),
        };
        let mut raw = BufReader::new(raw);
        let gzip = raw.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
        let text: Box<dyn Read + Send> =
            if gzip { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
        let mut reader = csv::Reader::from_reader(text);
        let head = reader.headers().map_err(|error| at_line(self.operation(), 1, &error))?;
        let place = |column: &&str| head.iter().position(|name| name.trim() == *column);
        let missing: Vec<_> =
            COLUMNS.iter().filter(|column| place(column).is_none()).map(|name| format!("`{name}`")).collect();
        if !missing.is_empty() {
            return Err(Error::Line {
                operation: self.operation(),
                line: 1,
                reason: format!("the head does not name {}", missing.join(", ")),
            });
        }
        let places = COLUMNS.iter().filter_map(place).collect();
        Ok(Records { operation: self.operation(), places, reader })
    }

    /// The rows as flights, up to the first that is malformed.
    pub(crate) fn flights(&self) -> Result<impl Iterator<Item = Result<Flight>> + Send + use<>> {
        let mut records = self.records()?;
        let operation = self.operation();
        let mut ended = false;
        Ok(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let flight = records.next_row()?.and_then(|row| {
                flight(&row).map_err(|reason| Error::Line {
                    operation: operation.clone(),
                    line: row.line,
                    reason,
                })
            });
            ended = flight.is_err();
            Some(flight)
        }))
    }
}

/// Rows as text.
pub(crate) struct Records {
    operation: String,
    places: Vec<usize>,
    reader: csv::Reader<Box<dyn Read + Send>>,
}

/// A row as text.
pub(crate) struct Row {
    line: u64,
    record: StringRecord,
    places: Vec<usize>,
}

impl Records {
    pub(crate) fn next_row(&mut self) -> Option<Result<Row>> {
        let mut record = StringRecord::new();
        let line = self.reader.position().line();
        match self.reader.read_record(&mut record) {
            Ok(false) => None,
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                Some(Ok(Row { line, record, places: self.places.clone() }))
            }
            Err(error) => Some(Err(at_line(self.operation.clone(), line, &error))),
        }
    }
}

impl Row {
    /// The text of a column.
    pub(crate) fn text(&self, column: &str) -> &str {
        let place = COLUMNS.iter().position(|name| *name == column).and_then(|index| self.places.get(index));
        place.and_then(|place| self.record.get(*place)).unwrap_or_default().trim()
    }
}

fn at_line(operation: String, line: u64, error: &csv::Error) -> Error {
    let line = error.position().map_or(line, csv::Position::line);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields where the head has {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("not UTF-8: {err}"),
        csv::ErrorKind::Io(error) => format!("cannot be read: {error}"),
        _ => error.to_string(),
    };
    Error::Line { operation, line, reason }
}

fn flight(row: &Row) -> Result<Flight, String> {
    let (departure, arrival) = (minutes(row, "dep_delay")?, minutes(row, "arr_delay")?);
    let air_time = optional(row, "air_time")?;
    let outcome = match (departure, arrival, air_time) {
        (None, None, None) => Outcome::Cancelled,
        (Some(delay), None, None) => Outcome::Departed { delay, arrival: None },
        (Some(delay), Some(late), Some(in_air)) => Outcome::Departed { delay, arrival: Some((late, in_air)) },
        _ => return Err("`dep_delay`, `arr_delay` and `air_time` contradict each other".to_owned()),
    };
    Ok(Flight {
        scheduled: scheduled(row)?,
        carrier: name(row, "carrier")?,
        number: number(row, "flight")?,
        tail: Some(row.text("tailnum")).filter(|tail| !is_absent(tail)).map(str::to_owned),
        origin: name(row, "origin")?,
        destination: name(row, "dest")?,
        miles: number(row, "distance")?,
        outcome,
    })
}

/// Scheduled departure, as if the airport's clock showed UTC.
fn scheduled(row: &Row) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "there is no time {}-{}-{} {}",
            row.text("year"),
            row.text("month"),
            row.text("day"),
            row.text("sched_dep_time")
        )
    };
    let time: u32 = number(row, "sched_dep_time")?;
    let part = |value: u32| i8::try_from(value).map_err(|_| wrong());
    let year = number(row, "year")?;
    let (month, day) = (number(row, "month")?, number(row, "day")?);
    let moment = jiff::civil::DateTime::new(year, month, day, part(time / 100)?, part(time % 100)?, 0, 0)
        .and_then(|moment| moment.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|_| wrong())?;
    Ok(Timestamp::from_micros(moment.timestamp().as_microsecond()))
}

fn is_absent(text: &str) -> bool {
    text.is_empty() || text == "NA"
}

fn name(row: &Row, column: &str) -> Result<String, String> {
    match row.text(column) {
        text if is_absent(text) => Err(format!("`{column}` is missing")),
        text => Ok(text.to_owned()),
    }
}

fn number<N: std::str::FromStr>(row: &Row, column: &str) -> Result<N, String> {
    let text = row.text(column);
    text.parse().map_err(|_| format!("`{column}` is {text:?}, not a number that makes sense there"))
}

fn optional<N: std::str::FromStr>(row: &Row, column: &str) -> Result<Option<N>, String> {
    if is_absent(row.text(column)) { Ok(None) } else { number(row, column).map(Some) }
}

fn minutes(row: &Row, column: &str) -> Result<Option<i32>, String> {
    optional(row, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_row_is_a_flight() {
        let flights: Vec<_> = Input::Embedded.flights().unwrap().map(Result::unwrap).collect();
        assert_eq!(flights.len() as u64, EMBEDDED_ROWS);
        let count = |test: fn(&Flight) -> bool| flights.iter().filter(|flight| test(flight)).count();
        assert_eq!(count(|flight| flight.outcome == Outcome::Cancelled), 2_643);
        assert_eq!(count(|flight| flight.tail.is_none()), 841);
        assert_eq!(count(|flight| matches!(flight.outcome, Outcome::Departed { arrival: None, .. })), 235);
        assert_eq!(flights[0].scheduled.to_string(), "2013-01-01T05:15:00Z");
        assert_eq!(flights[0].tail.as_deref(), Some("N14228"));
    }
}
