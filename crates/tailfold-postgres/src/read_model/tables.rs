//! The tables that read models keep their checkpoints in: created, brought up to date, or found to be of another release.

use deadpool_postgres::Object;
use tailfold::{Error, Result};

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
];

const META: &str = "read_models_meta";

pub(super) async fn prepare(connections: &Connections, config: &PostgresConfig) -> Result<()> {
    connections
        .insist_with(Patience::new(connections).at_leisure(), |mut connection| async move {
            pooler::refuse(connections, &connection).await?;
            let client = connection.client();
            check_server(client).await?;
            let prepared: Result<(), Failure> = match format(client, config).await? {
                found if found == current() => Ok(()),
                found if found > current() => Err(Error::unsupported(format!(
                    "the read models in schema `{}` have format {found} of a newer release; this one knows {}",
                    config.schema,
                    current()
                ))
                .into()),
                0 if !config.create_if_missing => {
                    Err(Error::invalid("there are no read models in this schema").into())
                }
                found if !config.create_if_missing => Err(Error::unsupported(format!(
                    "the read models in schema `{}` have format {found} of an older release: a process that may create \
                     them brings them up to {}",
                    config.schema,
                    current()
                ))
                .into()),
                _ => migrate(client, config).await,
            };
            prepared?;
            connection.settled();
            Ok(())
        })
        .await
}

fn current() -> i32 {
    MIGRATIONS.len() as i32
}

/// 0 if there is nothing.
async fn format(
    client: &impl deadpool_postgres::GenericClient,
    config: &PostgresConfig,
) -> Result<i32, Failure> {
    if !is_there(client, config, META).await? {
        return Ok(0);
    }
    let found = format!("SELECT format FROM {}.{META}", config.quoted_schema());
    let row = client.query_opt(&found, &[]).await?;
    row.map(|row| row.get(0))
        .ok_or_else(|| Error::corrupt(format!("the table {}.{META} is empty", config.quoted_schema())).into())
}

async fn migrate(client: &mut Object, config: &PostgresConfig) -> Result<(), Failure> {
    let transaction = begin_migration(client, config).await?;
    let found = format(&transaction, config).await?;
    apply(&transaction, config, MIGRATIONS, found).await?;
    let statement = format!(
        "INSERT INTO {}.{META} (format) VALUES ($1) ON CONFLICT (one) DO UPDATE SET format = excluded.format",
        config.quoted_schema()
    );
    transaction.execute(&statement, &[&current()]).await?;
    Ok(transaction.commit().await?)
}
