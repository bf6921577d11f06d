//! tokio-postgres alone: what a careful user would write by hand, the fastest way that there is.

use std::sync::Arc;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, RowStream, Statement};
use uuid::Uuid;

use crate::bare::BareEvent;
use crate::harness::Result;

/// What makes up an event that is read.
pub(crate) const EVENT_COLUMNS: &str =
    "position, version, id, type, schema_version, recorded_at, origin, metadata, chain, tags, payload";

/// A connection, driven by a task of its own.
#[derive(Clone)]
pub(crate) struct BarePostgres {
    client: Arc<Client>,
}

impl BarePostgres {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { client: client.into() })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A table with the columns and indexes that the store's own table has, and a sequence of its own, all empty.
    pub(crate) async fn create_events(&self) -> Result<()> {
        self.client
            .batch_execute(
                "CREATE SCHEMA bare;
                 CREATE SEQUENCE bare.positions AS bigint MINVALUE 1 NO CYCLE;
                 CREATE TABLE bare.events (LIKE tailfold.events INCLUDING ALL);
                 ALTER TABLE bare.events ALTER position SET DEFAULT nextval('bare.positions')",
            )
            .await?;
        // Who changes the table of the store changes this one; an index fewer would be no limit.
        let same = self
            .client
            .query_one(
                "SELECT count(*) FILTER (WHERE schemaname = 'bare') = count(*) FILTER (WHERE schemaname = 'tailfold')
                 FROM pg_indexes WHERE tablename = 'events' AND schemaname IN ('bare', 'tailfold')",
                &[],
            )
            .await?;
        if same.get::<_, bool>(0) { Ok(()) } else { Err("the bare table has other indexes".into()) }
    }

    pub(crate) async fn prepare(&self, sql: &str) -> Result<BareQuery> {
        Ok(BareQuery { client: self.client.clone(), statement: self.client.prepare(sql).await? })
    }
}

/// A prepared statement on its connection.
#[derive(Clone)]
pub(crate) struct BareQuery {
    client: Arc<Client>,
    statement: Statement,
}

impl BareQuery {
    pub(crate) async fn rows(&self, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        Ok(self.client.query(&self.statement, values).await?)
    }

    /// Row by row, as they come.
    pub(crate) async fn stream(&self, values: &[&(dyn ToSql + Sync)]) -> Result<RowStream> {
        Ok(self.client.query_raw(&self.statement, values.iter().copied()).await?)
    }
}

/// One task's events in the bare table.
pub(crate) struct BareEvents {
    query: BareQuery,
    stream: String,
    version: i64,
    event: BareEvent,
}

impl BareEvents {
    pub(crate) async fn new(bare: &BarePostgres, stream: String, event: BareEvent) -> Result<Self> {
        let query = bare
            .prepare(
                "INSERT INTO bare.events (stream, life, version, id, type, schema_version, recorded_at, origin, metadata, chain,
                                          payload)
                 VALUES ($1, 1, $2, $3, $4, 1, $5, false, $6, $7, $8)",
            )
            .await?;
        Ok(Self { query, stream, version: 0, event })
    }

    pub(crate) async fn append(&mut self) -> Result<()> {
        self.version += 1;
        let event = &self.event;
        let values: [&(dyn ToSql + Sync); 8] = [
            &self.stream,
            &self.version,
            &Uuid::from_bytes(event.id),
            &event.event_type,
            &event.recorded_at,
            &&*event.metadata,
            &event.chain.as_slice(),
            &&*event.payload,
        ];
        match self.query.client.execute(&self.query.statement, &values).await? {
            1 => Ok(()),
            rows => Err(format!("{rows} rows inserted instead of one").into()),
        }
    }
}
