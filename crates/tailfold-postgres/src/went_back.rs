//! A log that ends before what this process has seen of it: after a failover that lost something, or a restore.

use std::sync::atomic::Ordering;

use tailfold::{Error, Position, Result, StoreId};

use crate::connections::Connection;
use crate::error::Failure;
use crate::positions;
use crate::rows::{self, unsigned};
use crate::store::{Inner, another};

impl Inner {
    /// What an append does that was not recorded since the log does not reach `seen`, or since the sequence of positions does not:
    /// the sequence is set right, so that the append can be sent again.
    ///
    /// # Errors
    /// `Corrupt` of a log that went back. It is told once: from then on the log counts as it is.
    pub(crate) async fn went_back(&self, seen: i64) -> Result<()> {
        let end = self.end_of_log().await?;
        if rows::signed(end.0) >= seen {
            positions::check(&self.connections, &self.schema).await?;
            return Ok(());
        }
        self.seen.fetch_min(rows::signed(end.0), Ordering::AcqRel);
        let error = went_back(Position(seen.unsigned_abs()), end);
        tracing::error!(%error, "PostgreSQL");
        Err(error)
    }

    /// Whether the log of this connection's server reaches what this process has seen. A log that goes back without its
    /// connections being cut is one that somebody wrote over, sequence and all, and then positions tell it.
    pub(crate) async fn reaches(&self, connection: &Connection) -> Result<bool, Failure> {
        let seen = self.seen.load(Ordering::Acquire);
        let found = connection.rows(&self.statements.end, &[]).await?;
        let end = found.first().map(|row| rows::value::<i64>(row, 0)).transpose()?;
        Ok(end.is_some_and(|end| end >= seen))
    }

    /// The position of the last event that can be seen.
    ///
    /// # Errors
    /// `Invalid` if the schema holds another store by now, whose positions mean nothing here; `Unavailable`.
    pub(crate) async fn end_of_log(&self) -> Result<Position> {
        let row = self.connections.row(&self.statements.end, &[]).await?;
        if !rows::value::<bool>(&row, 1)? {
            return Err(another(&self.schema, self.id));
        }
        Ok(Position(unsigned(rows::value(&row, 0)?, "position")?))
    }
}

/// A statement for the position of the last event, and whether the log is that of the store with that id.
pub(crate) fn end_statement(schema: &str, id: StoreId) -> String {
    format!(
        "SELECT coalesce(max(position), 0), EXISTS (SELECT FROM {schema}.meta WHERE store_id = '{id}') FROM {schema}.events"
    )
}

/// What is told of a log that ends before a position which it has reached before.
pub(crate) fn went_back(reached: Position, end: Position) -> Error {
    Error::corrupt(format!(
        "the log went back: position {reached} was reached before, and it ends at {end} now. Events that were acknowledged are \
         gone, as after a failover without a synchronous standby or a restore: what read models, subscriptions and this process \
         remember of them is to be made anew, and after a restore the store needs a new id (`tailfold renew-id`)"
    ))
}
