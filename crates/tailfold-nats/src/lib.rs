//! The store of tailfold on NATS JetStream: events and snapshots for services on many machines.
//!
//! [`NatsStore::connect`] gives a store that implements all of `EventStore` and `SnapshotStore` on one server or a cluster:
//!
//! - **One round trip to append.** A commit is one message that names the stream's message before it, so that the server
//!   itself decides who was first. A lost acknowledgement is settled by asking the leader: no duplicate, no false conflict.
//! - **One round trip to load.** The newest snapshot and the stream's last commit come in parallel; a short tail is one more,
//!   by back pointers that every commit carries. What others have written costs nothing.
//! - **A load never goes back.** What this process was told is recorded, its later loads see, whichever replica answers.
//! - **Nothing is guessed.** The configuration of the streams is created and checked; what would be unsafe is refused with
//!   an error that says what to do.
//!
//! What it is not: `Commit::unchanged` is for streams that the commit writes to, and for one category that it writes to where
//! servers are of release 2.11 or later and there is one replica; every other filter, and snapshots inside a commit, are
//! `Unsupported`. Commits to several streams need servers of release 2.12 or later. There is no index of tags: a filter by tag reads what its categories and streams let
//! through. An erased stream leaves its last tombstone, which replaces the ones before it. Servers keep 250 to 500 bytes of
//! memory for each stream of events and each snapshot. By default they sync to disk every two minutes: see
//! [running on JetStream](https://github.com/tailfold/tailfold/blob/main/docs/jetstream.md) for `sync_interval: always`,
//! replicas, and what happens in an election.

mod append;
mod archive;
mod backup;
mod boundary;
mod commit;
mod config;
mod continuity;
mod ends;
mod info;
mod log;
mod merge;
mod moved;
mod names;
mod parts;
mod patience;
mod read;
mod remove;
mod repeated;
mod restore;
mod scan;
mod setup;
mod snapshots;
mod store;
mod wire;

pub use config::{NatsConfig, Storage};
pub use store::NatsStore;
