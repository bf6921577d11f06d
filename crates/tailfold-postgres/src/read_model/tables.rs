//! The tables that read models keep their checkpoints in: created, brought up to date, or found to be of another release.

use deadpool_postgres::Object;
use tailfold::{Error, Result};
use uuid::Uuid;

use crate::config::PostgresConfig;
use crate::connections::Connections;
use crate::error::Failure;
use crate::patience::Patience;
use crate::pooler;
use crate::setup::{apply, begin_migration, check_server, is_there};

/// Format n + 1 is what the n-th migration makes of format n. A migration never changes after a release; a new one is added.
const MIGRATIONS: &[&[&str]] = &[
    &[
        include_str!("../../sql/read_models.sql"),
        include_str!("../../sql/checkpoints.sql"),
        include_str!("../../sql/parked_events.sql"),
    ],
    &[include_str!("../../sql/parked_retries.sql")],
    &[include_str!("../../sql/read_models_id.sql")],
];

const META: &str = "read_models_meta";

/// What a schema says about the read models in it.
struct Found {
    format: i32,
    /// `None` before format 3.
    id: Option<Uuid>,
}

/// Answers which read models these are.
pub(super) async fn prepare(connections: &Connections, config: &PostgresConfig) -> Result<Uuid> {
    connections
        .insist_with(Patience::new(connections).at_leisure(), |mut connection| async move {
            pooler::refuse(connections, &connection).await?;
            let client = connection.client();
            check_server(client).await?;
            let prepared: Result<Uuid, Failure> = match look(client, config).await? {
                Some(Found { format, id: Some(id) }) if format == current() => Ok(id),
                Some(Found { format, .. }) if format > current() => Err(Error::unsupported(format!(
                    "the read models in schema `{}` have format {format} of a newer release; this one knows {}",
                    config.schema,
                    current()
                ))
                .into()),
                None if !config.create_if_missing => {
                    Err(Error::invalid("there are no read models in this schema").into())
                }
                Some(Found { format, .. }) if !config.create_if_missing => Err(Error::unsupported(format!(
                    "the read models in schema `{}` have format {format} of an older release: a process that may create \
                     them brings them up to {}",
                    config.schema,
                    current()
                ))
                .into()),
                _ => migrate(client, config).await,
            };
            let id = prepared?;
            connection.settled();
            Ok(id)
        })
        .await
}

fn current() -> i32 {
    MIGRATIONS.len() as i32
}

/// `None` if there is nothing.
async fn look(
    client: &impl deadpool_postgres::GenericClient,
    config: &PostgresConfig,
) -> Result<Option<Found>, Failure> {
    if !is_there(client, config, META).await? {
        return Ok(None);
    }
    let schema = config.quoted_schema();
    let found = format!("SELECT format, (to_jsonb(m) ->> 'id')::uuid FROM {schema}.{META} AS m");
    let Some(row) = client.query_opt(&found, &[]).await? else {
        return Err(Error::corrupt(format!("the table {schema}.{META} is empty")).into());
    };
    Ok(Some(Found { format: row.get(0), id: row.get(1) }))
}

async fn migrate(client: &mut Object, config: &PostgresConfig) -> Result<Uuid, Failure> {
    let transaction = begin_migration(client, config).await?;
    let found = look(&transaction, config).await?.map_or(0, |found| found.format);
    apply(&transaction, config, MIGRATIONS, found).await?;
    let statement = format!(
        "INSERT INTO {}.{META} (format) VALUES ($1) ON CONFLICT (one) DO UPDATE SET format = excluded.format RETURNING id",
        config.quoted_schema()
    );
    let id = transaction.query_one(&statement, &[&current()]).await?.get(0);
    transaction.commit().await?;
    Ok(id)
}
