//! What this store promises besides the contract, on real servers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod boundaries;
mod by_index;
mod damage;
mod faults;
mod large;
mod log;
mod logins;
mod outcomes;
mod pooler;
mod pools;
mod positions;
mod read_model_faults;
mod read_models;
mod renamed;
mod renamed_models;
mod setup;
mod silence;
mod snapshots;
mod support;
mod went_back;
