//! Whether a commit was recorded whose connection broke, where sending it again could record it twice: it is looked for by the
//! ids of its events, once nobody can be recording it any more.

use std::time::Duration;

use tailfold::{Commit, Committed, Position, Result, Version, Written};
use tokio::time::sleep;
use uuid::Uuid;

use crate::connections::Connection;
use crate::error::Failure;
use crate::rows::{self, unsigned};
use crate::store::Inner;

const PAUSE: Duration = Duration::from_millis(20);

/// The server's process that works for a connection, and how far positions were drawn when it began with a commit.
#[derive(Debug)]
pub(crate) struct Sender {
    process: i32,
    /// Tells it from a later process of the same number.
    since: String,
    after: i64,
}

/// The statements of settling.
#[derive(Debug)]
pub(crate) struct Statements {
    sender: String,
    end: &'static str,
    recorded: String,
}

impl Statements {
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            sender: format!(
                "SELECT pid, backend_start::text, (SELECT last_value FROM {schema}.positions)
                 FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ),
            end: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start::text = $2",
            recorded: format!(
                "SELECT version, chain, position, life FROM {schema}.events
                 WHERE stream = $1 AND position >= $2 AND id = ANY ($3) ORDER BY position"
            ),
        }
    }
}

impl Inner {
    /// Who works for a connection.
    pub(crate) async fn sender(&self, connection: &Connection) -> Result<Sender, Failure> {
        let found = connection.rows(&self.statements.settle.sender, &[]).await?;
        let row = found.first().ok_or(Failure::Raced)?;
        Ok(Sender { process: rows::value(row, 0)?, since: rows::value(row, 1)?, after: rows::value(row, 2)? })
    }

    /// The receipt of a commit that was sent over a connection that is broken; `None` if it was not and will not be recorded.
    pub(crate) async fn settle(&self, commit: &Commit, sender: &Sender) -> Result<Option<Committed>> {
        loop {
            let ended =
                self.connections.rows(self.statements.settle.end, &[&sender.process, &sender.since]).await?;
            if ended.is_empty() {
                break;
            }
            sleep(PAUSE).await;
        }
        let mut writes = Vec::with_capacity(commit.writes.len());
        let mut position = Position::ZERO;
        for write in &commit.writes {
            let ids: Vec<Uuid> = write.events.iter().map(|event| *event.data().id.as_uuid()).collect();
            let found = self
                .connections
                .rows(&self.statements.settle.recorded, &[&write.stream.as_str(), &sender.after, &ids])
                .await?;
            let (Some(first), Some(last)) = (found.first(), found.get(ids.len() - 1)) else {
                return Ok(None);
            };
            position = position.max(Position(unsigned(rows::value(last, 2)?, "position")?));
            let first = Version(unsigned(rows::value(first, 0)?, "version")?);
            writes.push(Written { stream: write.stream.clone(), first, head: rows::head(last, 0, 1)? });
        }
        Ok(Some(Committed { writes, position, snapshot: None, repeated: true }))
    }
}
