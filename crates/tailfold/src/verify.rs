//! Trust: chains recomputed from the log, snapshots checked against the history they say they stand for.

mod chains;
mod snapshots;

pub use self::chains::{Damage, Fault, Verification, verify_chains};
pub use self::snapshots::{SnapshotVerification, WrongSnapshot, verify_snapshots};
