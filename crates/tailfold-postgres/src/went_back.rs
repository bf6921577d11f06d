//! A log that ends before what this process has seen of it: after a failover that lost something, or a restore.

use std::sync::atomic::Ordering;

use tailfold::{Error, Position, Result, StoreId};

use crate::rows::{self, unsigned};
use crate::store::{Inner, another};

impl Inner {
    /// The error of an append that met a log which does not reach `seen`, and so was not recorded. It is told once: from then
    /// on the log counts as it is.
    pub(crate) async fn went_back(&self, seen: i64) -> Error {
        match self.end_of_log().await {
            Ok(end) => {
                self.seen.fetch_min(rows::signed(end.0), Ordering::AcqRel);
                let error = went_back(Position(seen.unsigned_abs()), end);
                tracing::error!(%error, "PostgreSQL");
                error
            }
            Err(error) => error,
        }
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
