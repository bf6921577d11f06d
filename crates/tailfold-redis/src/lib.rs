//! Snapshots of tailfold on Redis 7: a tier that many machines share, in front of the store of events.
//!
//! [`RedisConfig::connect`] gives a `SnapshotStore`. It keeps no events, and nothing that it loses changes an answer:
//!
//! - **One round trip to load**, which gives the snapshot its whole retention again; a save is one step on the server, which
//!   keeps the newest version, whoever else saves.
//! - **A service starts without its Redis, and goes on without it.** Every call ends within the [timeout](RedisConfig::timeout);
//!   a server that is gone, halted, full, read-only or loading is an error that says so, and is used again when it is back.
//! - **One server, several of which one is the primary, or a cluster.** All that belongs to a stream is one hash, so it is
//!   changed, evicted, forgotten and moved between nodes as a whole.
//!
//! ```no_run
//! use std::time::Duration;
//! use tailfold::{Policy, Repository, Tier};
//! use tailfold_redis::RedisConfig;
//! # use serde::{Deserialize, Serialize};
//! # use tailfold::{Event, EventMeta, Fold, MemoryStore, State};
//! # #[derive(Clone, Serialize, Deserialize, Event)]
//! # #[event(category = "counter")]
//! # enum Counted { Up { by: u64 } }
//! # #[derive(Clone, Default, Serialize, Deserialize, State)]
//! # #[state(name = "counter")]
//! # struct Counter { total: u64 }
//! # impl Fold for Counter {
//! #     type Event = Counted;
//! #     fn apply(&mut self, Counted::Up { by }: Counted, _: &EventMeta<'_>) { self.total += by; }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tailfold::Result<()> {
//! # let store = MemoryStore::new();
//! let redis = "redis://:secret@cache:6379?retention=30".parse::<RedisConfig>()?.connect().await?;
//! let counters = Repository::<Counter>::builder(store)
//!     .snapshots(Policy::every(100))
//!     .snapshots_in([Tier::new("redis", redis).timeout(Duration::from_millis(20)), Tier::own()])
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a lost Redis costs
//!
//! With a tier behind it, such as `Tier::own()`: a read of that tier instead, which also fills Redis again. Alone
//! (`.snapshots_in(redis)`): each stream is replayed once in full at its next load, and saved again if its policy says so. Before
//! a planned flush of a Redis that stands alone, count what a replay of your longest streams takes.
//!
//! # How to run Redis for it
//!
//! - `maxmemory` with `maxmemory-policy allkeys-lru`, or `volatile-ttl` where other data shares the server: every key of ours has
//!   a time to live, and the one that was used longest ago goes first. With `noeviction`, a full server serves loads and refuses
//!   saves, which are counted as failed.
//! - Neither `save` nor `appendonly` is needed. Each load extends a time to live, so it is a write for replicas and the append-only
//!   file, of about 60 bytes.
//! - Permissions of a user: `~tf:* +@connection +hmget +hget +hset +hdel +hkeys +hexists +expire +exists +type +unlink +evalsha
//!   +eval +scan`; `+cluster|slots` on a cluster, `+role` with several servers.
//! - While a server saves a large snapshot it serves nobody else: 70 ms for 8 MiB, half a second for 64 MiB (measured on a small
//!   machine), since the step that keeps the newest version copies it a few times. Give tiers with states of more than 16 MiB a
//!   longer [timeout](RedisConfig::timeout).
//!
//! # What it is not
//!
//! No place for events, and no only place for snapshots whose replay you cannot afford, nor for checkpoints of `ByPosition`: these do
//! not expire, but go with all else that a server evicts or loses. No Sentinel: name all servers, and the
//! one that is the primary is found. Loads are not spread over replicas. A list reads all keys first and sorts them, and a sweep
//! goes through all keys of the store: both look at 1,000 keys at a time. The retention counts for all snapshots of a stream
//! together; those of a serial that is not used any more go with the daily sweep of a repository of that fold, or by
//! `tailfold sweep`. It is tested with Redis 7.0; what it says to the server is not newer than release 4, so that Valkey should
//! do. Keys and fields are in FORMAT.md; the defaults of all settings are at [`RedisConfig`].

mod answers;
mod config;
mod error;
mod link;
mod names;
mod scan;
mod scripts;
mod servers;
mod snapshots;

pub use config::RedisConfig;
pub use snapshots::RedisSnapshots;
