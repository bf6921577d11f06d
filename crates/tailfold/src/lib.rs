//! Event sourcing whose heart is snapshots: the state of an actor is `fold(snapshot, tail)`, where the tail is the few events
//! recorded since. A long-lived actor loads as fast as a young one, and no snapshot, whatever happens to it, can change an
//! answer.
//!
//! - [`Event`] and [`State`] are derived, [`Fold`] is implemented: the facts, what they add up to, and how.
//! - [`Repository`] loads, decides, appends; its page has a whole example. [`RepositoryBuilder::snapshots`] switches snapshots
//!   on: a [`Policy`] says when one is taken, a [`SnapshotConfig`] how it is written, kept and read.
//! - [`EventStore`] and [`SnapshotStore`] are the contracts of backends. [`MemoryStore`] is here, SQLite in `tailfold-sqlite`.
//! - [`RepositoryBuilder::snapshots_in`] keeps snapshots elsewhere, or in several stores, nearest first: a [`Tier`] that is
//!   slow or down costs a load its timeout at most.
//! - A load's [`Report`] says what served it, and which snapshots did not and why ([`Rejection`]); [`Repository::stats`] and
//!   the `metrics` facade count the same. `tracing` has a span for each load and append.
//! - A [`Projection`] folds what a query selects from many streams, loaded by the same [`Repository`];
//!   [`Repository::decide`] appends only if what it looked at has not changed. A [`Subscription`] keeps a [`ReadModel`] up to date.
//! - [`verify_chains`] and [`verify_snapshots`] check a store as a whole.
//!
//! # What a snapshot has to pass
//!
//! Each is checked before the next, and a failure costs a replay, never an answer: the envelope's checksum
//! and format; its slot (fold, serial, stream); that no key was forgotten since it was begun
//! ([`Encryption`]); codec and sizes; that the fold still handles every kind of event that was folded; that
//! the event at its version has its chain, which names one exact history; that it was signed, where keys are
//! given ([`RepositoryBuilder::snapshot_keys`]); and that the payload decodes. Before it was written, it was
//! decoded and compared with the state that it was made of.
//!
//! # Features
//!
//! `bigdecimal`, `chrono`, `indexmap`, `ordered-float`, `rust_decimal`, `smol_str`, `time`, `url`: types of these crates have
//! fingerprints, so that they may stand in states; see [`derive(State)`](derive@State). None is on by default. Types of uuid, jiff,
//! bytes and serde_json always have.
//!
//! # Metrics
//!
//! | name | kind | labels |
//! |---|---|---|
//! | `tailfold_loads_total` | counter | `fold`, `source` |
//! | `tailfold_load_seconds` | histogram | `fold`, `source` |
//! | `tailfold_replayed_events` | histogram: average replay size | `fold` |
//! | `tailfold_snapshots_written_total` | counter | `fold`, `outcome` |
//! | `tailfold_snapshots` | gauge, set by [`Repository::stats`] | `fold`, `serial` |
//! | `tailfold_snapshot_bytes` | histogram | `fold` |
//! | `tailfold_snapshot_rejected_total` | counter | `fold`, `reason` |
//! | `tailfold_snapshot_queue` | gauge | `fold` |
//! | `tailfold_tier_requests_total` | counter | `fold`, `tier`, `outcome`: see [`TierStats`] |
//! | `tailfold_tier_open` | gauge, set when a breaker turns and by [`Repository::stats`] | `fold`, `tier` |
//! | `tailfold_append_seconds` | histogram | `fold` |
//! | `tailfold_conflicts_total` | counter | `fold` |
//! | `tailfold_subscription_handled_total`, `.._failures_total`, `.._parked_total` | counter | `subscription` |
//! | `tailfold_subscription_lag_seconds` | gauge: age of the newest event when it was handled; by [`Subscription::lag`] that of the oldest which is not | `subscription` |
//! | `tailfold_subscription_lag_events` | gauge, set by [`Subscription::lag`] | `subscription` |
//!
//! # What it is not
//!
//! Not a message broker, not a framework for commands, not a cache: every load reads its store. Limits: 4,096 events a commit, 16 MiB a payload, 64 MiB
//! an encoded state unless configured otherwise.
//!
//! Wrong, although tempting: a fold that looks at the clock, at random numbers or at a `HashMap`'s order. A snapshot stands
//! for the fold's result, so the fold must give the same result every time. `HashMap` does not compile in a state; the rest is
//! up to you. When the *logic* of a fold changes and its shape does not, set a new label: `#[state(serial = 2)]`.

// The derives name this crate by its public path; its own tests and examples need that path too.
extern crate self as tailfold;

mod altered;
mod append;
mod chain;
mod clock;
mod codec;
mod encryption;
mod error;
mod event;
mod execute;
mod filter;
mod fingerprint;
mod fold;
mod history;
mod load;
mod loaded;
mod memory;
mod meter;
mod panics;
mod projection;
mod replay;
mod report;
mod repository;
mod schema;
mod scope;
mod snapshot;
mod stats;
mod store;
mod stream;
mod subscription;
#[cfg(test)]
mod survival;
mod verify;

pub use append::{Append, Receipt};
pub use chain::{Chain, Digest};
pub use clock::{Clock, Day, ManualClock, SystemClock, Timestamp};
pub use codec::{Codec, CustomCodec};
pub use encryption::{Binding, Encryption, Opened, StateOf};
pub use error::{Conflict, Error, ErrorKind, Outcome, Result};
pub use event::{
    EventData, EventId, EventMeta, EventType, Metadata, NewEvent, Position, RecordedEvent, SchemaVersion, Tag,
};
pub use execute::{Execute, Retry};
pub use filter::{Clause, Filter};
pub use fingerprint::{Difference, Fingerprint, Shape};
pub use fold::{Aggregate, Fold, State};
pub use history::{CatchUp, HistoryEvent, Snapshot};
pub use load::Load;
pub use loaded::Loaded;
pub use memory::MemoryStore;
pub use projection::{
    Decide, Decided, Erased, Facts, LoadProjection, Progress, Projected, Projection, ProjectionKey, Truncated,
};
pub use report::{Malformed, Rejected, Report, Source, Unreadable};
pub use repository::{Repository, RepositoryBuilder};
pub use schema::{DecodeError, Event, EventSchema, EventSource, Events, Fact, IntoEvents};
pub use scope::{LoadBy, ManyStreams, OneStream, Scope};
pub use snapshot::{
    Breaker, Compression, Envelope, Keep, Moment, Policy, Rejection, Rule, Save, Saved, Serial, Slot,
    SlotFilter, SnapshotBatches, SnapshotConfig, SnapshotInfo, SnapshotMode, SnapshotStore, SnapshotStoreExt,
    Snapshots, StoredSnapshot, Swept, Tier, TierStats, Tiers, remove_forgotten,
};
pub use stats::Stats;
pub use store::{
    Boundary, Capabilities, Commit, Committed, Direction, EventBatches, EventStore, EventStoreExt, Expected,
    Follow, InlineSnapshot, LogBatch, LogBatches, Removal, Removed, SnapshotAndTail, Store, StoreId,
    StreamBatches, StreamSummary, StreamWrite, Tombstone, Truncation, TruncationNotes, Unchanged,
    VersionRange, Written,
};
pub use stream::{Head, StreamId, Version};
pub use subscription::{
    Batch, BoxError, ByPosition, Checkpoint, CheckpointInfo, Claim, Claimed, Delivery, HandleError,
    HandledEvent, Lag, Parked, ReadModel, Subscription, SubscriptionBuilder,
};
pub use tailfold_macros::{Event, Events, State};
pub use verify::{
    Damage, Fault, SnapshotVerification, Verification, WrongSnapshot, verify_chains, verify_snapshots,
};

#[doc(hidden)]
pub mod __private {
    //! What the derives expand to; not part of the API.
    pub use serde;

    pub use crate::fingerprint::compare::{Comparing, Described, ways};
}
