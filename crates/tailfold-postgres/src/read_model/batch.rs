//! One batch in one transaction: the checkpoint is locked and compared, then the handler writes, then the checkpoint moves.

use std::any::Any;
use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::FutureExt as _;
use tailfold::{Batch, BoxError, Claim, Error, HandleError, Outcome, Position, Result};
use tokio::time::timeout;
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::statements::{self, Statements};
use super::{PostgresHandler, seconds};
use crate::connections::Connections;
use crate::error::{Failure, chain, too_late};
use crate::rows::signed;

/// Why a transaction did not come to its end.
enum Broken {
    Lost,
    /// What was to be tried again was dropped meanwhile.
    Dropped,
    Event(Position, BoxError),
    Panicked(Position, Box<dyn Any + Send>),
    /// The server refuses to go on, because of something that the handler of an earlier event did without an error.
    Unexplained(Failure),
    Store(Failure),
}

/// What became of the checkpoint.
enum Advanced {
    Moved,
    /// It stays: somebody has dropped the event that was put aside, so that it is not to be handled.
    Dropped,
    /// It is not there: the schema has another name by now.
    Lost,
}

/// One try.
struct Attempt<'a, E, H> {
    statements: &'a Statements,
    handler: &'a mut H,
    claim: &'a Claim,
    batch: &'a Batch<'a, E>,
    deadline: Duration,
    /// Whether to ask the server after each event, so that the right one is blamed.
    careful: bool,
}

pub(super) async fn handle<E, H>(
    connections: &Connections,
    statements: &Statements,
    handler: &mut H,
    claim: &Claim,
    batch: &Batch<'_, E>,
) -> Result<(), HandleError>
where
    E: Send + Sync,
    H: PostgresHandler<E>,
{
    let mut careful = false;
    loop {
        let deadline = connections.deadline();
        let attempt = Attempt { statements, handler: &mut *handler, claim, batch, deadline, careful };
        return match attempt.run(connections).await {
            Ok(()) | Err(Broken::Dropped) => Ok(()),
            Err(Broken::Lost) => Err(HandleError::Lost),
            Err(Broken::Event(position, error)) => Err(HandleError::Event { position, error }),
            Err(Broken::Panicked(position, panic)) => Err(HandleError::of_panic(position, &*panic)),
            Err(Broken::Unexplained(_)) if !careful => {
                careful = true;
                continue;
            }
            Err(Broken::Unexplained(failure) | Broken::Store(failure)) => {
                Err(HandleError::Store(failure.into_error()))
            }
        };
    }
}

impl<E, H> Attempt<'_, E, H>
where
    E: Send + Sync,
    H: PostgresHandler<E>,
{
    async fn run(mut self, connections: &Connections) -> Result<(), Broken> {
        let deadline = self.deadline;
        let mut connection = in_time(deadline, connections.get()).await?;
        let begin = connection.client().build_transaction().isolation_level(IsolationLevel::ReadCommitted);
        let done = match in_time(deadline, begin.start()).await {
            Ok(transaction) => match self.work(&transaction).await {
                Ok(()) => in_time(deadline, transaction.commit()).await.map_err(unexplained),
                Err(broken) => match in_time(deadline, transaction.rollback()).await {
                    Ok(()) => Err(broken),
                    // Whoever failed before may have failed for that.
                    Err(failure) => Err(Broken::Store(failure)),
                },
            },
            Err(failure) => Err(Broken::Store(failure)),
        };
        let may_be_amid_something = matches!(done, Err(Broken::Store(_) | Broken::Unexplained(_)));
        if !may_be_amid_something {
            connection.settled();
        }
        done
    }

    async fn work(&mut self, transaction: &Transaction<'_>) -> Result<(), Broken> {
        self.lock(transaction).await?;
        let batch = self.batch;
        for delivery in batch.deliveries {
            let position = delivery.position();
            let handled = AssertUnwindSafe(self.handler.handle(transaction, delivery)).catch_unwind();
            let handled = match timeout(self.deadline, handled).await {
                Ok(Ok(handled)) => Ok(handled),
                Ok(Err(panic)) => return Err(Broken::Panicked(position, panic)),
                Err(late) => Err(late),
            };
            match handled {
                Ok(Ok(())) if self.careful => {
                    let whole = transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE");
                    match timeout(self.deadline, whole).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Err(self.judge(position, error.into())),
                        Err(_) => return Err(silent(self.deadline).into()),
                    }
                }
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.judge(position, error)),
                Err(_) => {
                    let late = format!("its handler took longer than the deadline of {:?}", self.deadline);
                    return Err(Broken::Event(position, late.into()));
                }
            }
        }
        match self.advance(transaction).await.map_err(unexplained)? {
            Advanced::Moved => Ok(()),
            Advanced::Dropped => Err(Broken::Dropped),
            Advanced::Lost => Err(Broken::Lost),
        }
    }

    /// Until the end of the transaction nobody else moves the checkpoint or takes the lease.
    async fn lock(&mut self, transaction: &Transaction<'_>) -> Result<(), Broken> {
        let text = &self.statements.lock;
        let lease = self.claim.lease.as_millis().clamp(1, i32::MAX as u128).to_string();
        let values: [&(dyn ToSql + Sync); 3] = [&&*self.claim.name, self.claim.owner.as_uuid(), &lease];
        let rows = in_time(self.deadline, async {
            let statement = transaction.prepare_cached(text).await?;
            transaction.query(&statement, &values).await
        });
        let rows = rows.await?;
        let Some(row) = rows.first() else { return Err(Broken::Lost) };
        let stands = statements::checkpoint(row).map_err(Failure::from)?;
        if stands.as_ref() == self.batch.before { Ok(()) } else { Err(Broken::Lost) }
    }

    async fn advance(&mut self, transaction: &Transaction<'_>) -> Result<Advanced, Failure> {
        let Batch { parked, unparked, after, .. } = self.batch;
        let Statements { advance, park, unpark, drop_erased, .. } = self.statements;
        let name = &*self.claim.name;
        if let Some(position) = unparked {
            let there = in_time(self.deadline, async {
                let statement = transaction.prepare_cached(unpark).await?;
                transaction.execute(&statement, &[&name, &signed(position.0)]).await
            });
            if there.await? == 0 {
                return Ok(Advanced::Dropped);
            }
        }
        for (stream, position) in self.batch.erased() {
            let values: [&(dyn ToSql + Sync); 3] = [&name, &stream.as_str(), &signed(position.0)];
            in_time(self.deadline, async {
                let statement = transaction.prepare_cached(drop_erased).await?;
                transaction.execute(&statement, &values).await
            })
            .await?;
        }
        if let Some(parked) = parked {
            let (stream, kind) = (parked.stream.as_str(), parked.event_type.as_str());
            // Not every text of an error is one to the server.
            let error = parked.error.replace('\0', "");
            // One that was tried again stays only if nobody has dropped it meanwhile.
            let is_new = self.batch.before != Some(after);
            let values: [&(dyn ToSql + Sync); 9] = [
                &name,
                &signed(parked.position.0),
                &stream,
                &signed(parked.version.0),
                &kind,
                &error,
                &i64::from(parked.attempts),
                &parked.parked_at.as_micros(),
                &is_new,
            ];
            in_time(self.deadline, async {
                let statement = transaction.prepare_cached(park).await?;
                transaction.execute(&statement, &values).await
            })
            .await?;
        }
        let last = after.last.as_ref();
        let chain = last.map(|last| last.head.chain.as_bytes().as_slice());
        let values: [&(dyn ToSql + Sync); 9] = [
            &name,
            &seconds(self.claim.lease),
            after.store.as_uuid(),
            &signed(after.position.0),
            &last.map(|last| signed(last.position.0)),
            &last.map(|last| last.stream.as_str()),
            &last.map(|last| signed(last.head.version.0)),
            &chain,
            self.claim.owner.as_uuid(),
        ];
        let moved = in_time(self.deadline, async {
            let statement = transaction.prepare_cached(advance).await?;
            transaction.execute(&statement, &values).await
        });
        Ok(if moved.await? == 1 { Advanced::Moved } else { Advanced::Lost })
    }

    /// Whether it is the event that cannot be handled.
    fn judge(&self, position: Position, error: BoxError) -> Broken {
        let code = causes(&*error)
            .find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>())
            .and_then(tokio_postgres::Error::code);
        match code {
            Some(code) if *code == SqlState::IN_FAILED_SQL_TRANSACTION && !self.careful => {
                Broken::Unexplained(Failure::Final(Error::invalid(error.to_string())))
            }
            Some(code) if is_of_the_moment(code) => {
                let cause = causes(&*error).last().map_or_else(|| error.to_string(), ToString::to_string);
                Broken::Store(Failure::Undone(Error::unavailable(Outcome::NotDone, cause)))
            }
            // The driver's errors keep to themselves what the server said.
            _ if error.is::<tokio_postgres::Error>() => Broken::Event(position, chain(&*error).into()),
            _ => Broken::Event(position, error),
        }
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Store(failure)
    }
}

/// What the library says itself is right, so that a refusal is about what the handlers have done.
fn unexplained(failure: Failure) -> Broken {
    match failure {
        Failure::Final(_) | Failure::Raced => Broken::Unexplained(failure),
        other => Broken::Store(other),
    }
}

/// Whether the same events may be handled in the next moment, or as soon as somebody has made room.
fn is_of_the_moment(code: &SqlState) -> bool {
    // Full disks and the like, and what the system could not do.
    if code.code().starts_with("53") || code.code().starts_with("58") {
        return true;
    }
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
    ]
    .contains(code)
}

/// An error and its causes, the innermost last.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

async fn in_time<T, E: Into<Failure>>(
    deadline: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout(deadline, step).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(silent(deadline)),
    }
}

fn silent(deadline: Duration) -> Failure {
    Failure::Lost(too_late(deadline, Outcome::Unknown))
}
