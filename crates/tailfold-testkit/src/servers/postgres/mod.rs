//! PostgreSQL servers.

mod builder;
mod program;
mod server;

pub use builder::PostgresBuilder;
pub(crate) use builder::SUPERUSER;
pub use server::PostgresServer;
