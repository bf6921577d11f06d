//! The contracts of tailfold in executable form, for those who write a backend or a test.
//!
//! - [`store_conformance!`], [`event_store_conformance!`] and [`snapshot_store_conformance!`] turn every promise of the
//!   traits into a test of your backend; [`conformance`] lists the promises.
//! - [`FaultySnapshots`] is a snapshot store that fails, hangs, loses and lies as told. No answer may depend on it.
//! - [`InterruptedReads`] is a store in which something happens between two reads of one operation.
//! - [`given`] tests a fold and its decisions, and snapshots and restores it at every position.
//! - [`repository_conformance!`] runs everything that a repository promises over a backend: the ways in which snapshots have
//!   lied elsewhere, commands, faults, random histories.
//! - [`verify_chain`] recomputes the chains of a whole store from its log.
//! - [`servers`] starts servers for tests (NATS and Redis, also as clusters, PostgreSQL, memcached), kills, pauses and restarts
//!   them, leaves none behind, and loses what they say.
//!
//! This crate belongs among `[dev-dependencies]`. Only [`servers`] starts a process or writes a file, and only when called.
//!
//! # A backend in six steps
//!
//! 1. Read `memory.rs` in the `tailfold` crate: it is the contract in its shortest form. Then say in
//!    [`Capabilities`](tailfold::Capabilities) what your store can do; to the rest it answers `Unsupported`.
//! 2. Start your crate with `lib`, `config`, `events`, `snapshots` and `error`: the backends have the same files. Use the
//!    public API of `tailfold` only, and let no type of the driver into yours.
//! 3. Write `append` first. Call [`Commit::check`](tailfold::Commit::check), compare
//!    [`Expected`](tailfold::Expected) with the heads, settle a repeated commit, then link each event's
//!    [`digest`](tailfold::NewEvent::digest) to the [`Chain`](tailfold::Chain) where the head is known, all in one
//!    transaction.
//! 4. Write the reads in small batches that continue from a key, never from an offset, and hold nothing between two of
//!    them. Then `remove` with its tombstone, then the snapshots.
//! 5. Put this into `tests/conformance.rs`, with a fixture that opens an empty place, or connects to a server that other
//!    tests use at the same time: every case works in names of its own. Some cases open the place more than once, as
//!    processes do, so the fixture says how.
//!
//!    ```
//!    use tailfold::MemoryStore;
//!    use tailfold_testkit::Fixture;
//!
//!    async fn fixture() -> Fixture<MemoryStore> {
//!        let store = MemoryStore::new();
//!        // `.keeping(directory)` where something must outlive the store; `.reopening(..)` opens the same place as another
//!        // process would: `move || Store::open(path.clone())`, say.
//!        Fixture::new(store.clone()).reopening(move || std::future::ready(store.clone()))
//!    }
//!
//!    tailfold_testkit::store_conformance!(fixture);
//!    ```
//! 6. Break your backend on purpose, once for each promise that you care about: a case must fail each time. Add what only
//!    your store promises (crash, torn write, lost connection) beside the macros.
//!
//! # A snapshot tier in six steps
//!
//! What a cache needs to become a tier (`.snapshots_in(..)`); the worked example is `examples/memcached-tier`, on a real
//! memcached in less than 150 lines.
//!
//! 1. Choose what is changed in one step: [`save`](tailfold::SnapshotStore::save) decides and prunes at once,
//!    [`compare_and_remove`](tailfold::SnapshotStore::compare_and_remove) compares and removes at once. A script on the server, or
//!    all of a stream in one item and compare-and-swap.
//! 2. Choose names: keys are up to 320 bytes of UTF-8, versions are numbers up to 2^64 - 1.
//! 3. Write [`newest`](tailfold::SnapshotStore::newest): one round trip, bytes as they came; nothing there is `None`, whatever went
//!    wrong is an error.
//! 4. Write the changes, and the list, ordered by slot and version.
//! 5. Put [`snapshot_store_conformance!`] into `tests/conformance.rs`, against a real server.
//!
//!    ```
//!    use tailfold::MemoryStore;
//!    use tailfold_testkit::Fixture;
//!
//!    async fn fixture() -> Fixture<MemoryStore> {
//!        let store = MemoryStore::new();
//!        Fixture::new(store.clone()).reopening(move || std::future::ready(store.clone()))
//!    }
//!
//!    tailfold_testkit::snapshot_store_conformance!(fixture);
//!    ```
//! 6. Break it and its server: killed, halted, full, flushed, it costs a repository time and no answer, and is used again without a
//!    restart. CONTRIBUTING.md tells each step in more detail.

pub mod conformance;
mod faulty;
mod fixture;
mod given;
mod interrupted;
pub mod repository;
#[cfg(unix)]
pub mod servers;
mod verify;

pub use faulty::{Fault, FaultCounts, FaultySnapshots};
pub use fixture::Fixture;
pub use given::{Given, When, event_types, given};
pub use interrupted::InterruptedReads;
pub use verify::{VerifiedChains, verify_chain, verify_chain_where};
