//! Transactions whose work may take as long as the server is at it, and what came of their COMMIT.

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio::time::{Instant, timeout};

use crate::connections::{Connection, lock_limit};
use crate::error::Failure;
use crate::patience::Patience;

/// What was done in a transaction, and what came of its COMMIT.
pub(crate) struct Step<T> {
    pub(crate) done: T,
    pub(crate) committed: Result<(), Failure>,
}

/// One attempt: work in a transaction, and its COMMIT. The patience is for what goes wrong, waiting in vain
/// included; work takes nothing of it.
///
/// # Errors
/// What the work met: before COMMIT is sent, nothing is done.
pub(crate) async fn attempt<T, F>(
    patience: &mut Patience,
    attempt: impl FnOnce(Connection) -> F,
) -> Result<Step<T>, Failure>
where
    F: Future<Output = Result<Step<T>, Failure>>,
{
    let connection = patience.connection().await?;
    let begun = Instant::now();
    let tried = attempt(connection).await;
    let in_vain = match &tried {
        Err(Failure::Silent(time)) | Ok(Step { committed: Err(Failure::Silent(time)), .. }) => *time,
        Err(Failure::Locked(_)) => lock_limit(patience.deadline()),
        _ => Duration::ZERO,
    };
    patience.extend(begun.elapsed().saturating_sub(in_vain));
    tried.map_err(Failure::of_nothing_done)
}

pub(crate) async fn commit(transaction: Transaction<'_>, deadline: Duration) -> Result<(), Failure> {
    match timeout(deadline, transaction.commit()).await {
        Ok(committed) => Ok(committed?),
        Err(_) => Err(Failure::Silent(deadline)),
    }
}
