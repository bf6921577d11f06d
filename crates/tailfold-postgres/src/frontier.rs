//! Up to which position everything is decided: committed, or never to come.
//!
//! Positions are drawn before their transactions commit, so they appear out of order. A transaction has its id before it draws
//! one. So whoever may still fill a gap below a visible position has an id below the next one that the server gives out; when all
//! of these have ended, no gap below is ever filled. The list of running transactions in a snapshot is not enough: it leaves out
//! those with ids above the last one that has ended. Nobody waits for a reader, and readers wait for nobody but writers of this
//! log: a long transaction that has nothing to do with it is told apart by the locks that it does not hold.

use std::time::Duration;

use tailfold::{Error, Outcome, Position, Result, StoreId};
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;

use crate::connections::Connections;
use crate::holders;
use crate::rows::{self, unsigned};
use crate::store::another;

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Looks after which the locks are looked at, too.
const PATIENT_LOOKS: u32 = 4;
/// There is a warning after this part of the deadline.
const WARNED: u32 = 4;

/// The statements of the frontier.
#[derive(Debug)]
pub(crate) struct Statements {
    schema: String,
    id: StoreId,
    last: String,
    oldest: &'static str,
    writers: String,
}

impl Statements {
    pub(crate) fn new(schema: &str, id: StoreId) -> Self {
        Self {
            schema: schema.to_owned(),
            id,
            // The next id is read after the snapshot was taken; `age` counts from it to the first id that there ever was, 3.
            last: format!(
                "SELECT coalesce(max(position), 0), pg_snapshot_xmin(pg_current_snapshot())::text, age('3'::xid),
                        EXISTS (SELECT FROM {schema}.meta WHERE store_id = '{id}')
                 FROM {schema}.events"
            ),
            oldest: "SELECT pg_snapshot_xmin(pg_current_snapshot())::text",
            writers: holders::of_positions(schema),
        }
    }
}

/// The last position that is visible, once everything before it is decided.
///
/// # Errors
/// `Unavailable` at the deadline, with who has not ended.
pub(crate) async fn decided(connections: &Connections, statements: &Statements) -> Result<Position> {
    let begun = Instant::now();
    let row = connections.row(&statements.last, &[]).await?;
    // Positions of another store mean nothing to whoever reads on from one of this.
    if !rows::value::<bool>(&row, 3)? {
        return Err(another(&statements.schema, statements.id));
    }
    let position = Position(unsigned(rows::value(&row, 0)?, "position")?);
    let earlier = Earlier::of(&row)?;
    if earlier.than_oldest(&row, 1)? {
        return Ok(position);
    }
    let deadline = connections.deadline();
    let mut warn_after = deadline / WARNED;
    let mut pause = FIRST_PAUSE;
    let mut looks = 0;
    while let Some(holders) = earlier.running(connections, statements, looks).await? {
        let waited = begun.elapsed();
        if looks > PATIENT_LOOKS && waited >= deadline {
            return Err(Error::unavailable(
                Outcome::NotDone,
                format!(
                    "not decided up to position {position} after {deadline:?}: {holders}; docs/postgres.md says more"
                ),
            ));
        }
        if looks > PATIENT_LOOKS && waited >= warn_after {
            warn_after = deadline;
            tracing::warn!(%position, ?waited, %holders, "readers of the log wait");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        looks += 1;
    }
    Ok(position)
}

/// Transactions that had an id at a moment.
struct Earlier {
    /// The first id that was given out after it.
    next: u64,
}

impl Earlier {
    fn of(row: &Row) -> Result<Self> {
        let oldest = transaction(row, 1)?;
        let age: i32 = rows::value(row, 2)?;
        Ok(Self { next: next(oldest, age) })
    }

    /// Whether none of them runs, by the oldest one that does.
    fn than_oldest(&self, row: &Row, column: usize) -> Result<bool> {
        Ok(transaction(row, column)? >= self.next)
    }

    /// `None` when all have ended. Who has not, in words: after some looks.
    async fn running(
        &self,
        connections: &Connections,
        statements: &Statements,
        looks: u32,
    ) -> Result<Option<String>> {
        let row = connections.row(statements.oldest, &[]).await?;
        if self.than_oldest(&row, 0)? {
            return Ok(None);
        }
        if looks < PATIENT_LOOKS {
            return Ok(Some(String::new()));
        }
        let short = (self.next as u32).to_string();
        Ok(holders::told(&connections.rows(&statements.writers, &[&short]).await?))
    }
}

fn transaction(row: &Row, column: usize) -> Result<u64> {
    let text: &str = rows::value(row, column)?;
    let broken = |_| Error::corrupt(format!("the server tells `{text}` for a transaction's id"));
    text.parse().map_err(broken)
}

/// The next id, of 64 bits. Its lower half is as far from 3 as `age` says, and less than half a round from any that runs.
fn next(oldest: u64, age: i32) -> u64 {
    let short = age.cast_unsigned().wrapping_add(3);
    oldest + u64::from(short.wrapping_sub(oldest as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_transaction_is_found_by_half_of_its_id() {
        assert_eq!(next(745, 745 - 3), 745);
        assert_eq!(next(745, 760 - 3), 760);
        let round = 1_u64 << 32;
        assert_eq!(next(7 * round - 5, (7 - 3_i64) as i32), 7 * round + 7);
        assert_eq!(next(round + 3_000_000_000, (3_000_000_005_u32 - 3).cast_signed()), round + 3_000_000_005);
    }
}
