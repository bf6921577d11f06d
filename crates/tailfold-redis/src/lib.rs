//! lib
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
