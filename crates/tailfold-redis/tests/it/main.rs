//! What only a tier on Redis promises, against real servers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod failover;
mod faults;
mod lifetime;
mod logins;
mod support;
mod tiers;
mod values;
