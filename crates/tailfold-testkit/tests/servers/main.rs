//! Servers start, end, come back with their data, and never outlive their owner.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod memcached;
mod nats;
mod nats_client;
mod owner;
mod postgres;
mod proxy;
mod redis;
mod support;
