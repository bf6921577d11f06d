//! PostgreSQL servers.

mod builder;
mod program;
mod server;

pub use builder::PostgresBuilder;
pub use server::PostgresServer;
