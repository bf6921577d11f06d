//! The store of tailfold on PostgreSQL: events and snapshots for many machines. And read models in tables of a PostgreSQL
//! database, whatever store the events are in: [`PostgresReadModel`].
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
mod dialer;
mod error;
mod events;
mod filter;
mod frontier;
mod holders;
mod leisure;
mod locks;
mod log;
mod patience;
mod pooler;
mod positions;
mod read;
mod read_model;
mod remove;
mod repeated;
mod rows;
mod session;
mod setup;
mod snapshots;
mod store;
mod streams;
mod tls;
mod together;
mod wake;
mod went_back;

pub use config::PostgresConfig;
pub use read_model::{
    PostgresHandler, PostgresReadModel, checkpoints, drop_parked, parked_events, retry_parked,
};
pub use store::PostgresStore;
/// The driver: a [`PostgresHandler`] writes through its transaction.
pub use tokio_postgres;
