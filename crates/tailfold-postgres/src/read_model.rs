//! Read models in a PostgreSQL database: what a handler writes and the checkpoint move in one transaction.

mod batch;
mod listed;
mod statements;
mod tables;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tailfold::{
    Batch, BoxError, Claim, Claimed, Delivery, Error, Events, HandleError, Parked, ReadModel, Result,
};
use tokio_postgres::Transaction;

pub use self::listed::{checkpoints, drop_parked, parked_events, retry_parked};
use self::statements::Statements;
use crate::config::PostgresConfig;
use crate::connections::Connections;
use crate::rows::value;

/// The longest lease that the server is told of.
const LONGEST_LEASE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Writes events into tables of its own.
#[async_trait]
pub trait PostgresHandler<E>: Send + 'static {
    /// Handles one event: writes through the transaction, which holds the checkpoint too, and must not end it. What it does
    /// elsewhere is done again if the transaction does not come to its end.
    ///
    /// A handler that takes longer for one event than the deadline ([`PostgresConfig::deadline`]) has failed; one that says
    /// nothing to the server for longer than a lease loses its connection. Deferred constraints have to hold after each event.
    ///
    /// # Errors
    /// Whatever there is to say about the event: nothing of the batch is kept, it is tried again and in the end parked. A panic counts
    /// as an error. Errors of
    /// the driver, or with one among their causes, are told apart: after a deadlock, a serialization failure or a connection that
    /// broke the batch is tried until it succeeds.
    async fn handle(&mut self, transaction: &Transaction<'_>, delivery: &Delivery<E>)
    -> Result<(), BoxError>;
}

/// A read model whose tables are in a PostgreSQL database: each event has its effect there exactly once, whatever fails,
/// since checkpoint and effects are committed together. The events may be in a store of any kind.
///
/// Checkpoints, leases and parked events are in the tables `checkpoints` and `parked_events` of the schema that the URL
/// names, `tailfold` by default, which are created if they are missing; a store may be in the same schema. The handler's tables are
/// wherever it says, and its own business: to build a model anew, empty them and delete its checkpoint.
///
/// Each claim and each batch names the read models that it means. Where the schema is renamed while a process
/// runs, and another one has its name by then, nothing is written there: the subscription ends with
/// `Invalid`, which says so.
///
/// ```no_run
/// use async_trait::async_trait;
/// use serde::{Deserialize, Serialize};
/// use tailfold::{BoxError, Delivery, Event, Subscription};
/// use tailfold_postgres::tokio_postgres::Transaction;
/// use tailfold_postgres::{PostgresHandler, PostgresReadModel, PostgresStore};
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "account")]
/// enum AccountEvent {
///     Deposited { cents: i64 },
/// }
///
/// struct Balances;
///
/// #[async_trait]
/// impl PostgresHandler<AccountEvent> for Balances {
///     async fn handle(
///         &mut self,
///         transaction: &Transaction<'_>,
///         delivery: &Delivery<AccountEvent>,
///     ) -> Result<(), BoxError> {
///         let account = delivery.recorded().stream.as_str();
///         match delivery.event() {
///             Some(AccountEvent::Deposited { cents }) => {
///                 let add = "INSERT INTO balances VALUES ($1, $2) ON CONFLICT (account) \
///                            DO UPDATE SET cents = balances.cents + excluded.cents";
///                 transaction.execute(add, &[&account, cents]).await?
///             }
///             // The stream was erased.
///             None => transaction.execute("DELETE FROM balances WHERE account = $1", &[&account]).await?,
///         };
///         Ok(())
///     }
/// }
///
/// # async fn run() -> tailfold::Result<()> {
/// let store = PostgresStore::connect("postgres://bank@localhost/bank").await?;
/// let model = PostgresReadModel::connect("postgres://bank@localhost/reports", Balances).await?;
/// let subscription = Subscription::builder(store, "balances", model).start()?;
/// # subscription.stop().await }
/// ```
pub struct PostgresReadModel<E, H> {
    connections: Connections,
    statements: Statements,
    handler: H,
    event: std::marker::PhantomData<fn() -> E>,
}

impl<E, H> PostgresReadModel<E, H>
where
    E: Events,
    H: PostgresHandler<E>,
{
    /// A model in the database that a URL names; see [`PostgresConfig`] for its form.
    ///
    /// # Errors
    /// As [`PostgresReadModel::over`], and `Invalid` for a URL that is none.
    pub async fn connect(url: &str, handler: H) -> Result<Self> {
        Self::over(url.parse()?, handler).await
    }

    /// A model in a database for which more is to be set than a URL says, or over a pool that exists already.
    ///
    /// # Errors
    /// `Invalid` for settings that break their rules, a login that is refused, and tables that are missing and not to be
    /// created; `Unsupported` for a server or tables of another release; `Unavailable` if no server answers in time.
    pub async fn over(config: PostgresConfig, handler: H) -> Result<Self> {
        let prepare = async {
            let (connections, _) = config.connections()?;
            let id = tables::prepare(&connections, &config).await?;
            Ok((connections, id))
        };
        let prepared: Result<_> = prepare.await;
        let (connections, id) =
            prepared.map_err(|error| error.during(format!("open the read models in {config}")))?;
        let statements = Statements::new(&config.quoted_schema(), id);
        Ok(Self { connections, statements, handler, event: std::marker::PhantomData })
    }
}

#[async_trait]
impl<E, H> ReadModel for PostgresReadModel<E, H>
where
    E: Events,
    H: PostgresHandler<E>,
{
    type Event = E;

    async fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let claimed = async {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&&*claim.name, claim.owner.as_uuid(), &seconds(claim.lease)];
            let rows = self.connections.rows(&self.statements.claim, &values).await?;
            let none = || Error::corrupt("the server says nothing about a claim");
            let row = rows.first().ok_or_else(none)?;
            self.statements.check_own(row, 7)?;
            let checkpoint = statements::checkpoint(row)?;
            Ok(match value(row, 6)? {
                Some(true) => Claimed::Granted(checkpoint),
                // Or none, where somebody else made the first one in this moment.
                Some(false) | None => Claimed::Held(checkpoint),
            })
        };
        claimed.await.map_err(|error: Error| error.during("claim the lease of the read model"))
    }

    async fn handle(&mut self, claim: &Claim, batch: Batch<'_, E>) -> Result<(), HandleError> {
        let handled =
            batch::handle(&self.connections, &self.statements, &mut self.handler, claim, &batch).await;
        handled.map_err(|error| match error {
            HandleError::Store(error) => HandleError::Store(error.during("write the read model")),
            other => other,
        })
    }

    async fn parked(&mut self, name: &str) -> Result<Vec<Parked>> {
        let parked = async {
            self.statements.all_parked(&self.connections.rows(&self.statements.parked, &[&name]).await?)
        };
        parked.await.map_err(|error: Error| error.during("list what the read model has parked"))
    }

    async fn release(&mut self, claim: &Claim) -> Result<()> {
        let released =
            self.connections.rows(&self.statements.release, &[&&*claim.name, claim.owner.as_uuid()]).await;
        released.map(drop).map_err(|error| error.during("release the lease of the read model"))
    }
}

fn seconds(lease: Duration) -> f64 {
    lease.min(LONGEST_LEASE).as_secs_f64()
}

impl<E, H> Drop for PostgresReadModel<E, H> {
    fn drop(&mut self) {
        self.connections.close();
    }
}

impl<E, H> fmt::Debug for PostgresReadModel<E, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresReadModel").field("connections", &self.connections).finish_non_exhaustive()
    }
}
