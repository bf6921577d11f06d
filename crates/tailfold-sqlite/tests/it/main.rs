//! The store against real files, real processes and real damage.

mod commits;
mod crash;
mod damage;
mod files;
mod log;
mod removal;
mod sharing;
mod snapshots;
mod support;
