//! The `metrics` facade with keys that are made once: to count costs no allocation.

use metrics::{Key, Label, Level, Metadata};

static METADATA: Metadata<'static> = Metadata::new("tailfold", Level::INFO, Some("tailfold"));

/// The key of a metric with labels.
pub(crate) fn key<const N: usize>(name: &'static str, labels: [Label; N]) -> Key {
    Key::from_parts(name, labels.to_vec())
}

/// Adds one to a counter.
pub(crate) fn count(key: &Key) {
    metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(1));
}

/// Adds a number to a counter.
pub(crate) fn add(key: &Key, number: u64) {
    metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(number));
}

/// Sets a gauge.
pub(crate) fn set(key: &Key, value: f64) {
    metrics::with_recorder(|recorder| recorder.register_gauge(key, &METADATA).set(value));
}

/// Adds a value to a histogram.
pub(crate) fn record(key: &Key, value: f64) {
    metrics::with_recorder(|recorder| recorder.register_histogram(key, &METADATA).record(value));
}
