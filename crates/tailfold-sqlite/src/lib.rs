//! The embedded store of tailfold: events and snapshots in one SQLite file.
//!
//! [`SqliteStore::open`] gives a store that implements all of `EventStore` and `SnapshotStore`:
//!
//! - **An acknowledged event is on disk.** WAL, `synchronous=FULL`; what is appended at the same time shares one
//!   transaction and one sync.
//! - **Reads never wait for writes**, and hold no transaction while the caller works.
//! - **Several processes may open the file**, and any SQLite tool can read it: the view `event_log` is the log for people.
//! - **Nothing is guessed.** A file of somebody else, of a newer version, a gap, a malformed row: each is a typed error
//!   that names the place.
//!
//! [`SqliteReadModel`] is for live projections: events handled and checkpoint move in one transaction.
//!
//! # The file, and what lies beside it
//!
//! - While a store is open, `-wal` (the log) and `-shm` lie beside the file and **are part of it**. [`SqliteStore::close`], and
//!   dropping the last clone, leave one file. A file that is in use is copied by [`SqliteStore::backup_to`], not by `cp`.
//! - No file is made where a `-wal`, `-shm` or `-journal` of another one is left: SQLite would take it for a part of the new one.
//! - A file has one name. One with hard links is refused, since each name would have a log of its own. Symbolic links are fine.
//! - A file or log that is **removed or replaced** while it is open is noticed with the next append, before that is acknowledged,
//!   and within a second otherwise; appends and reads are `Unavailable` from then on. So is a file that another store, or an older
//!   copy, was written into: `Corrupt`, with the next append.
//! - A disk that **fails to read** (EIO) is `Unavailable`, with the system's error; the connection that met it is not used again.
//!   `Corrupt` is said of a file that can be read and is damaged.
//! - The log is brought into the file each 64 MiB, and cut to that. A reader that stays in one transaction keeps it from that: from
//!   128 MiB on a warning names the process (on Linux), once a minute.
//! - Where nothing may be written, a store that was closed is read as it is ([`SqliteConfig::read_only`]).
//!
//! What it is not: a server. All writers share one lock of the file, which must lie on a local disk (not NFS). A commit
//! holds up to 4,096 events of up to 16 MiB each; a snapshot's envelope may have up to 1 GB. Erasing a stream of a million
//! events keeps other writers waiting for seconds.

mod admin;
mod append;
mod checkpoint;
mod config;
mod diagnosis;
mod erased_log;
mod error;
mod events;
mod housekeeper;
mod kind_index;
mod kinds;
mod ledger;
mod lock_holders;
mod log;
mod pages;
mod path;
mod presence;
mod queue;
mod read_model;
mod readers;
mod remove;
mod reset;
mod rows;
mod schema;
mod snapshots;
mod store;
mod stream;
mod streams;
mod tag_index;
mod unwritable;
mod vacuum;
mod writer;

pub use config::{SqliteConfig, Synchronous};
pub use read_model::{SqliteReadModel, checkpoints, drop_parked, parked_events, retry_parked};
/// The driver, for the handler of a [`SqliteReadModel`]: its transaction is what the handler writes with.
pub use rusqlite;
pub use store::SqliteStore;
