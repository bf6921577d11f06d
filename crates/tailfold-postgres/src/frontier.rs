//! Up to which position everything is decided: committed, or never to come.
//!
//! Positions are drawn before their transactions commit, so they appear out of order. A transaction has its id before it draws
//! one. So whoever sees a position sees, in the same snapshot, every transaction that may still fill a gap below it among those
//! that are running; when these have ended, no gap below is ever filled. Nobody waits for a reader, and readers wait for nobody
//! but writers of this log: a long transaction that has nothing to do with it is told apart by the locks that it does not hold.

use std::time::Duration;

use tailfold::{Error, Position, Result};
use tokio::time::sleep;
use tokio_postgres::Row;

use crate::connections::Connections;
use crate::rows::{self, unsigned};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Looks after which the locks are looked at, too.
const PATIENT_LOOKS: u32 = 4;

/// The statements of the frontier.
#[derive(Debug)]
pub(crate) struct Statements {
    last: String,
    oldest: &'static str,
    writers: String,
}

impl Statements {
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            // Both of one snapshot.
            last: format!(
                "SELECT coalesce(max(position), 0), pg_current_snapshot()::text FROM {schema}.events"
            ),
            oldest: "SELECT pg_snapshot_xmin(pg_current_snapshot())::text",
            writers: format!(
                "SELECT EXISTS (
                     SELECT FROM pg_locks AS log JOIN pg_locks AS own USING (virtualtransaction)
                     WHERE log.locktype = 'relation' AND log.relation = '{schema}.events'::regclass
                         AND log.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                         AND log.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock') AND log.granted
                         AND own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock'
                         AND own.transactionid IN (SELECT x::xid8::xid FROM unnest($1::text[]) AS x))"
            ),
        }
    }
}

/// The last position that is visible, once everything before it is decided.
pub(crate) async fn decided(connections: &Connections, statements: &Statements) -> Result<Position> {
    let row = connections.row(&statements.last, &[]).await?;
    let position = Position(unsigned(rows::value(&row, 0)?, "position")?);
    let running = Running::of(&row)?;
    let mut pause = FIRST_PAUSE;
    let mut looks = 0;
    while !running.have_ended(connections, statements, looks).await? {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        looks += 1;
    }
    Ok(position)
}

/// Transactions that were running at a moment.
struct Running {
    transactions: Vec<u64>,
}

impl Running {
    /// From a snapshot as text: `xmin:xmax:running,running`.
    fn of(row: &Row) -> Result<Self> {
        let text: &str = rows::value(row, 1)?;
        Self::parse(text).ok_or_else(|| Error::corrupt(format!("the server tells `{text}` for a snapshot")))
    }

    fn parse(text: &str) -> Option<Self> {
        let list = text.splitn(3, ':').nth(2)?;
        let transactions =
            list.split(',').filter(|id| !id.is_empty()).map(str::parse).collect::<Result<_, _>>();
        Some(Self { transactions: transactions.ok()? })
    }

    async fn have_ended(
        &self,
        connections: &Connections,
        statements: &Statements,
        looks: u32,
    ) -> Result<bool> {
        let Some(youngest) = self.transactions.iter().max() else { return Ok(true) };
        let row = connections.row(statements.oldest, &[]).await?;
        let text: &str = rows::value(&row, 0)?;
        let oldest: u64 = text
            .parse()
            .map_err(|_| Error::corrupt(format!("the server tells `{text}` for a transaction's id")))?;
        if oldest > *youngest {
            return Ok(true);
        }
        if looks < PATIENT_LOOKS {
            return Ok(false);
        }
        let ids: Vec<String> = self.transactions.iter().map(u64::to_string).collect();
        let row = connections.row(&statements.writers, &[&ids]).await?;
        Ok(!rows::value::<bool>(&row, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_names_who_is_running() {
        assert_eq!(Running::parse("10:20:10,14,15").unwrap().transactions, [10, 14, 15]);
        assert!(Running::parse("10:10:").unwrap().transactions.is_empty());
        assert!(Running::parse("10:x").is_none());
        assert!(Running::parse("10:20:a").is_none());
    }
}
