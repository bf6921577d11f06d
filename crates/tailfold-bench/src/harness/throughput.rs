//! Events, and the time that they took.

use std::time::Duration;

use super::Slices;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Throughput {
    pub(crate) events: u64,
    pub(crate) took: Duration,
}

impl Throughput {
    pub(crate) fn per_second(self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }
}

impl Slices for Throughput {
    fn add(&mut self, next: Self) {
        self.events += next.events;
        self.took += next.took;
    }
}
