//! The store of tailfold on PostgreSQL: events and snapshots for many machines.
//!
//! ```no_run
//! use tailfold::EventStore as _;
//! use tailfold_postgres::PostgresStore;
//!
//! # async fn open() -> tailfold::Result<()> {
//! let store = PostgresStore::connect("postgres://bank@localhost/bank").await?;
//! println!("{}", store.store_id().await?);
//! # Ok(()) }
//! ```

mod append;
mod call;
mod config;
mod connections;
mod error;
mod events;
mod filter;
mod frontier;
mod locks;
mod log;
mod read;
mod remove;
mod rows;
mod setup;
mod snapshots;
mod store;
mod streams;
mod tls;
mod together;
mod wake;

pub use config::PostgresConfig;
pub use store::PostgresStore;
