//! Percentiles of what many calls took.

use std::time::Duration;

use super::Slices;

#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    pub(crate) fn note(&mut self, took: Duration) {
        self.0.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// In microseconds; not a number if nothing was measured.
    pub(crate) fn percentile(&self, hundredths: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * hundredths).div_ceil(100).max(1) - 1;
        sorted.get(rank).map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0)
    }

    pub(crate) fn p50(&self) -> f64 {
        self.percentile(50)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.percentile(99)
    }
}

impl Slices for Latencies {
    fn add(&mut self, mut next: Self) {
        self.0.append(&mut next.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut latencies = Latencies::default();
        (1..=200).rev().for_each(|micros| latencies.note(Duration::from_micros(micros)));
        assert_eq!((latencies.p50(), latencies.p99()), (100.0, 198.0));
        assert!(Latencies::default().p50().is_nan());
    }
}
