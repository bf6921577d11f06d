//! The store against real files, real processes and real damage.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod commits;
mod crash;
mod damage;
mod files;
mod formats;
mod io_errors;
mod kinds;
mod log;
mod log_growth;
mod places;
mod positions;
mod read_model_faults;
mod read_models;
mod removal;
mod sharing;
mod snapshots;
mod support;
