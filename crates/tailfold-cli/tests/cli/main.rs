//! The command as its users meet it: the real binary, its output, its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets something else than it expects is to panic there"
)]

mod demo;
mod exports;
mod messages;
mod moving;
mod nats;
mod passwords;
mod postgres;
mod projections;
mod reading;
#[cfg(unix)]
mod signals;
mod support;
mod tier;
mod verify;
