//! An open store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use tailfold::{Error, Result, StoreId};

use crate::config::PostgresConfig;
use crate::connections::{Connection, Connections};
use crate::dialer::Dialer;
use crate::error::Failure;
use crate::leisure::{self, Step};
use crate::locks::Locks;
use crate::patience::Patience;
use crate::rows;
use crate::setup::Prepared;
use crate::together::Together;
use crate::wake::Wake;
use crate::{append, frontier, positions, read, remove, snapshots, streams, went_back};

/// Events and snapshots in a schema of a PostgreSQL database. Cheap to clone; clones share the connections.
///
/// An append is one round trip, and one transaction, whatever the number of its events; appends that are under way at the same
/// time travel together. A load of snapshot and tail is one round trip. What is acknowledged is as durable as the server's
/// `synchronous_commit` promises.
///
/// ```no_run
/// # async fn open() -> tailfold::Result<()> {
/// use tailfold_postgres::PostgresStore;
/// let store = PostgresStore::connect("postgres://bank@localhost/bank?schema=accounts").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) id: StoreId,
    /// Quoted.
    pub(crate) schema: String,
    pub(crate) connections: Connections,
    pub(crate) dialer: Option<Dialer>,
    pub(crate) poll_interval: Duration,
    pub(crate) locks: Locks,
    pub(crate) statements: Statements,
    pub(crate) together: Together,
    pub(crate) wake: Wake,
    /// A position that was there when it was noted: the last one of this process's own, or found at the start.
    pub(crate) seen: AtomicI64,
}

/// The text of everything that is said to the server over and over.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) append: append::Statements,
    pub(crate) read: read::Statements,
    pub(crate) frontier: frontier::Statements,
    pub(crate) streams: String,
    pub(crate) end: String,
    pub(crate) remove: remove::Statements,
    pub(crate) snapshots: snapshots::Statements,
}

impl Statements {
    /// For a store in a schema, whose name is quoted.
    pub(crate) fn new(schema: &str, id: StoreId) -> Self {
        Self {
            append: append::Statements::new(schema, id),
            read: read::Statements::new(schema, id),
            frontier: frontier::Statements::new(schema, id),
            streams: streams::statement(schema, id),
            end: went_back::end_statement(schema, id),
            remove: remove::Statements::new(schema, id),
            snapshots: snapshots::Statements::new(schema, id),
        }
    }
}

impl PostgresStore {
    /// Connects to the store that a URL names; see [`PostgresConfig`] for its form and for everything that can be set. The
    /// schema and what belongs in it are created if they are missing.
    ///
    /// # Errors
    /// As [`PostgresConfig::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        url.parse::<PostgresConfig>()?.connect().await
    }

    /// Ends all connections; operations fail from then on. Connections of a pool that is not the store's own stay.
    ///
    /// # Errors
    /// None today.
    pub async fn close(&self) -> Result<()> {
        self.inner.connections.close();
        Ok(())
    }

    /// Bytes that the store takes on the server's disk, indexes and free space in its tables included.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn bytes(&self) -> Result<u64> {
        let row = self
            .inner
            .connections
            .row(
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE '\"' || n.nspname || '\"' = $1 AND c.relkind = 'r'",
                &[&self.inner.schema],
            )
            .await;
        let bytes = row.and_then(|row| rows::unsigned(rows::value(&row, 0)?, "size"));
        bytes.map_err(|error| error.during("measure the store"))
    }

    /// Builds the index of tags anew from the events, in one transaction, which takes as long as it takes.
    /// Appends wait meanwhile.
    ///
    /// # Errors
    /// `Unavailable`, with who holds it up where others have written and do not end.
    pub async fn reindex(&self) -> Result<()> {
        let mut patience = Patience::new(&self.inner.connections).behind_writers();
        loop {
            let tried = leisure::attempt(&mut patience, |connection| self.try_reindex(connection)).await;
            let failure = match tried {
                Ok(Step { committed: Ok(()), .. }) => return Ok(()),
                Ok(Step { committed: Err(failure), .. }) | Err(failure) => failure,
            };
            patience.after(failure).await.map_err(|error| error.during("reindex"))?;
        }
    }

    async fn try_reindex(&self, mut connection: Connection) -> Result<Step<()>, Failure> {
        let Inner { connections, schema, .. } = &*self.inner;
        let deadline = connections.deadline();
        let statements = format!(
            "LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE;
             TRUNCATE {schema}.event_tags;
             INSERT INTO {schema}.event_tags (tag, position)
                 SELECT DISTINCT t.tag, e.position FROM {schema}.events e, unnest(e.tags) AS t (tag)
                 WHERE e.tags IS NOT NULL"
        );
        let session = connection.session();
        let lent = &mut connection;
        let work = async move {
            let transaction = lent.transaction_at_leisure(deadline).await?;
            transaction.batch_execute(&statements).await?;
            Ok::<_, Failure>(transaction)
        };
        let worked = connections.while_at_work(&session, work).await;
        let step = Step { done: (), committed: leisure::commit(worked?, deadline).await };
        if step.committed.is_ok() {
            connection.settled();
        }
        Ok(step)
    }

    /// Gives the store a new [`StoreId`]: after its tables were restored from a backup, so that whoever remembers positions of
    /// the store that the backup was made of notices that they mean nothing here. The sequence of positions
    /// is set right where it is behind the log. Connect anew afterwards: who has connected before is refused,
    /// this handle included.
    ///
    /// # Errors
    /// `Invalid` if the schema holds another store by now; `Unsupported` if the role may not set the sequence
    /// right; `Unavailable`.
    pub async fn renew_id(&self) -> Result<StoreId> {
        let renewed = async {
            let id = StoreId::fresh();
            let Inner { schema, connections, id: known, .. } = &*self.inner;
            let statement = format!(
                "UPDATE {schema}.meta SET store_id = $1 WHERE store_id IN ($1, $2) RETURNING store_id"
            );
            let found = connections.rows(&statement, &[id.as_uuid(), known.as_uuid()]).await?;
            if found.is_empty() {
                return Err(another(schema, *known));
            }
            positions::check(connections, schema).await?;
            Ok(id)
        };
        renewed.await.map_err(|error| error.during("renew the store's id"))
    }
}

impl Inner {
    pub(crate) fn new(
        Prepared { id, seen }: Prepared,
        config: &PostgresConfig,
        connections: Connections,
        dialer: Option<Dialer>,
    ) -> Self {
        let schema = config.quoted_schema();
        Self {
            id,
            seen: AtomicI64::new(seen),
            statements: Statements::new(&schema, id),
            locks: Locks::new(&config.schema),
            together: Together::new(config.appends_at_once),
            wake: Wake::new(&config.schema),
            poll_interval: config.poll_interval,
            schema,
            connections,
            dialer,
        }
    }
}

/// The schema has been renamed, or its store replaced or given another id, since this process connected.
pub(crate) fn another(schema: &str, id: StoreId) -> Error {
    Error::invalid(format!("the schema {schema} does not hold store {id} any more: connect again"))
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("schema", &self.inner.schema).finish_non_exhaustive()
    }
}
