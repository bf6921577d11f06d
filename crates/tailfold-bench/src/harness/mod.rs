//! What all workloads share: settings, interleaved samples, figures and how they are printed.

mod figure;
mod latency;
mod memory;
mod output;
mod scratch;
mod settings;
mod sides;
mod throughput;

pub(crate) use figure::{Bar, Figure};
pub(crate) use latency::Latencies;
pub(crate) use memory::{growth_in_child, print_growth};
pub(crate) use output::Output;
pub(crate) use scratch::Scratch;
pub(crate) use settings::{Settings, usage};
pub(crate) use sides::{Side, Slices, interleave, median, side};
pub(crate) use throughput::Throughput;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
