//! Time, injectable.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Error;

const MICROS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// A moment: microseconds since 1970-01-01T00:00:00Z. Written and parsed as RFC 3339; a date alone parses as its
/// first moment in UTC.
///
/// ```
/// use tailfold::Timestamp;
/// let moment: Timestamp = "2013-01-01T05:15:00Z".parse()?;
/// assert_eq!(moment.to_string(), "2013-01-01T05:15:00Z");
/// assert_eq!("2013-01-01".parse::<Timestamp>()?.to_string(), "2013-01-01T00:00:00Z");
/// # Ok::<(), tailfold::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest moment.
    pub const MIN: Self = Self(i64::MIN);

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The UTC day this moment is in.
    pub const fn day(self) -> Day {
        Day(self.0.div_euclid(MICROS_PER_DAY))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(-micros(before.duration())),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => time.fmt(f),
            // Outside years -9999..=9999.
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(micros) = text.strip_suffix("us").and_then(|number| number.parse().ok()) {
            return Ok(Self(micros));
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(time.as_microsecond()));
        }
        let midnight = format!("{text}T00:00:00Z");
        match midnight.parse::<jiff::Timestamp>() {
            Ok(time) => Ok(Self(time.as_microsecond())),
            Err(_) => Err(Error::invalid_text(
                "time",
                text,
                "must be RFC 3339 like `2026-01-31T12:00:00Z` or a date like `2026-01-31`",
            )),
        }
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

/// A UTC day, counted from 1970-01-01. The use of snapshots is tracked by day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i64);

impl Day {
    /// The day that many days earlier.
    #[must_use]
    pub const fn minus(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days as i64))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Timestamp(self.0.saturating_mul(MICROS_PER_DAY)).to_string();
        f.write_str(text.split('T').next().unwrap_or(&text))
    }
}

/// Where the time comes from: recorded-at of events, created-at and use of snapshots.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current moment.
    fn now(&self) -> Timestamp;
}

/// The system's clock; the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock that stands still until it is told otherwise, for tests and imports. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    micros: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self { micros: Arc::new(AtomicI64::new(start.as_micros())) }
    }

    /// Shows `time` from now on.
    pub fn set(&self, time: Timestamp) {
        self.micros.store(time.as_micros(), Ordering::SeqCst);
    }

    /// Moves on by `duration`.
    pub fn advance(&self, duration: Duration) {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_before_the_epoch_round_down() {
        assert_eq!(Timestamp::from_micros(-1).day(), Day(-1));
        assert_eq!(Day(-1).to_string(), "1969-12-31");
        assert_eq!(Day(20_000).minus(90), Day(19_910));
    }

    #[test]
    fn text_round_trips_even_outside_the_calendar() {
        for micros in [0, 1, -1, 1_356_998_400_123_456, i64::MIN, i64::MAX] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
