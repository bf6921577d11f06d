//! What this store promises besides the contract, on real servers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod names;
mod support;

mod appends;
mod damage;
mod isolated_leader;
mod loads;
mod logins;
mod other_log;
mod parts;
mod removal;
mod setup;
mod snapshots;
