//! The sequence that positions are drawn from, compared with the log.
//!
//! It is no part of the log for the server: a logical replica does not follow it, a restore may leave it out,
//! and somebody may set it. Behind the log it would give out positions that followers have passed; with a
//! cache, or in steps, sessions would use theirs out of order.

use std::time::Duration;

use tailfold::{Error, Result};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use crate::connections::{Connection, Connections, limits};
use crate::error::Failure;
use crate::patience::Patience;
use crate::rows;

/// Both as they are at a moment.
struct State {
    /// The last position of the log.
    last: i64,
    /// The last one that was drawn; `None` where this role draws none.
    drawn: Option<i64>,
    /// Each one is drawn by itself, and is one more than the one before.
    is_plain: bool,
}

/// Sets the sequence right where it is not. Answers the last position of the log.
pub(crate) async fn check(connections: &Connections, schema: &str) -> Result<i64> {
    connections
        .insist_with(Patience::new(connections).behind_writers(), |mut connection| async move {
            let state = State::of(&connection.rows(&statement(schema), &[]).await?)?;
            if !state.is_right() {
                set_right(&mut connection, schema, connections.deadline()).await?;
            }
            Ok(state.last)
        })
        .await
}

/// The log is looked at as it was when the statement began, the sequence as it is later.
fn statement(schema: &str) -> String {
    format!(
        "SELECT (SELECT coalesce(max(position), 0) FROM {schema}.events),
                CASE WHEN has_sequence_privilege(s.seqrelid, 'USAGE, UPDATE')
                          AND has_sequence_privilege(s.seqrelid, 'USAGE, SELECT')
                     THEN coalesce(pg_sequence_last_value(s.seqrelid), 0) END,
                s.seqcache = 1 AND s.seqincrement = 1 AND NOT s.seqcycle
         FROM pg_sequence s WHERE s.seqrelid = '{schema}.positions'::regclass"
    )
}

async fn set_right(connection: &mut Connection, schema: &str, deadline: Duration) -> Result<(), Failure> {
    let transaction = connection.client().transaction().await?;
    // Whoever draws positions has a lock on the table before: none is drawn meanwhile.
    let lock = format!("{}; LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE", limits(deadline));
    transaction.batch_execute(&lock).await?;
    let state = State::of(&transaction.query(&statement(schema), &[]).await?)?;
    if !state.is_right() {
        let set = state.statements(schema);
        tracing::warn!(
            last = state.last,
            drawn = ?state.drawn,
            is_plain = state.is_plain,
            "the sequence of positions would have given out some again or out of order: {set}"
        );
        transaction.batch_execute(&set).await.map_err(|error| state.refused(error, &set))?;
    }
    transaction.commit().await?;
    connection.settled();
    Ok(())
}

impl State {
    fn of(rows: &[Row]) -> Result<Self> {
        let row = rows.first().ok_or_else(|| Error::corrupt("there is no sequence of positions"))?;
        Ok(Self { last: rows::value(row, 0)?, drawn: rows::value(row, 1)?, is_plain: rows::value(row, 2)? })
    }

    fn is_right(&self) -> bool {
        // Whoever only reads cannot set it right, and gives out no position.
        self.drawn.is_none_or(|drawn| self.is_plain && drawn >= self.last)
    }

    /// What sets it right. Sessions forget what they have put by when a sequence is altered.
    fn statements(&self, schema: &str) -> String {
        let set =
            format!("SELECT setval('{schema}.positions', {})", self.last.max(self.drawn.unwrap_or_default()));
        match self.is_plain {
            true => set,
            false => {
                format!("ALTER SEQUENCE {schema}.positions INCREMENT 1 NO MAXVALUE NO CYCLE CACHE 1; {set}")
            }
        }
    }

    fn refused(&self, error: tokio_postgres::Error, set: &str) -> Failure {
        if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return error.into();
        }
        let what = match self.is_plain {
            true => {
                format!("has given out {}, the log ends at {}", self.drawn.unwrap_or_default(), self.last)
            }
            false => "has a cache, steps or a cycle".to_owned(),
        };
        Failure::Final(Error::unsupported(format!(
            "the sequence of positions {what}: positions would be given out again or out of order, and this role may not \
             set it right. Its owner can: {set}"
        )))
    }
}
