//! What all workloads share: settings, interleaved samples, figures and how they are printed.

mod figure;
mod latency;
mod output;
mod scratch;
mod settings;
mod sides;

pub(crate) use figure::{Bar, Figure};
pub(crate) use latency::{Latencies, Percentiles};
pub(crate) use output::Output;
pub(crate) use scratch::Scratch;
pub(crate) use settings::{Settings, usage};
pub(crate) use sides::{Side, interleave, median, side};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
