//! Percentiles of what many calls took.

use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u64>);

/// In microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Latencies {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn merge(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Zeros if nothing was measured.
    pub(crate) fn percentiles(mut self) -> Percentiles {
        self.0.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (self.0.len() * hundredths).div_ceil(100).max(1) - 1;
            self.0.get(rank).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
        };
        Percentiles { p50: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut latencies = Latencies::default();
        (1..=200).rev().for_each(|micros| latencies.add(Duration::from_micros(micros)));
        let Percentiles { p50, p99 } = latencies.percentiles();
        assert_eq!((p50, p99), (100.0, 198.0));
    }
}
