//! What read models have kept in a schema, for people who look after them.

use tailfold::{CheckpointInfo, Error, Parked, Position, Result, Timestamp};

use super::statements::{self, Statements};
use super::tables;
use crate::config::PostgresConfig;
use crate::rows::{signed, unsigned, value};

/// Where the subscriptions stand whose read models are in a schema, by name. Leases and times are by the server's clock.
/// Creates nothing.
///
/// # Errors
/// `Invalid` where there are no read models, and those of [`PostgresReadModel::over`](super::PostgresReadModel::over).
pub async fn checkpoints(config: PostgresConfig) -> Result<Vec<CheckpointInfo>> {
    let operation = format!("list the checkpoints in {config}");
    let list = async {
        let (connections, _) = config.connections()?;
        let id = tables::prepare(&connections, &config.clone().create_if_missing(false)).await?;
        let statements = Statements::new(&config.quoted_schema(), id);
        let mut infos = Vec::new();
        for row in connections.rows(&statements.checkpoints, &[]).await? {
            statements.check_own(&row, 10)?;
            // One row without a name, where nothing is.
            let Some(name) = value(&row, 6)? else { break };
            infos.push(CheckpointInfo {
                name,
                checkpoint: statements::checkpoint(&row)?,
                leased_until: value::<Option<i64>>(&row, 7)?.map(Timestamp::from_micros),
                updated_at: Timestamp::from_micros(value(&row, 8)?),
                parked: unsigned(value(&row, 9)?, "number of parked events")?,
            });
        }
        Ok(infos)
    };
    list.await.map_err(|error: Error| error.during(operation))
}

/// The events that a subscription has put aside, of the read models in a schema, in order of position. Its name with its share.
/// Creates nothing.
///
/// # Errors
/// As [`checkpoints`].
pub async fn parked_events(config: PostgresConfig, subscription: &str) -> Result<Vec<Parked>> {
    let operation = format!("list what subscription `{subscription}` has parked in {config}");
    let list = async {
        let (connections, _) = config.connections()?;
        let id = tables::prepare(&connections, &config.clone().create_if_missing(false)).await?;
        let statements = Statements::new(&config.quoted_schema(), id);
        statements.all_parked(&connections.rows(&statements.parked, &[&subscription]).await?)
    };
    list.await.map_err(|error| error.during(operation))
}

/// Asks to try again what a subscription has put aside, of the read models in a schema: the event at a position, or all of them.
/// The process that works does so within a third of a lease, once, in order of position, whatever it has handled since; what
/// fails again stays parked with its new error. Answers how many there are.
///
/// # Errors
/// As [`checkpoints`].
pub async fn retry_parked(
    config: PostgresConfig,
    subscription: &str,
    position: Option<Position>,
) -> Result<u64> {
    let operation = format!("try again what subscription `{subscription}` has parked in {config}");
    let changed = change(config, |statements| &statements.retry_parked, subscription, position).await;
    changed.map_err(|error| error.during(operation))
}

/// Drops what a subscription has put aside, of the read models in a schema: the event at a position, or all of them. It is never
/// handled; the event itself stays in the log. Answers how many were dropped.
///
/// # Errors
/// As [`checkpoints`].
pub async fn drop_parked(
    config: PostgresConfig,
    subscription: &str,
    position: Option<Position>,
) -> Result<u64> {
    let operation = format!("drop what subscription `{subscription}` has parked in {config}");
    let changed = change(config, |statements| &statements.drop_parked, subscription, position).await;
    changed.map_err(|error| error.during(operation))
}

async fn change(
    config: PostgresConfig,
    statement: fn(&Statements) -> &String,
    subscription: &str,
    position: Option<Position>,
) -> Result<u64> {
    let (connections, _) = config.connections()?;
    let id = tables::prepare(&connections, &config.clone().create_if_missing(false)).await?;
    let statements = Statements::new(&config.quoted_schema(), id);
    let position = position.map(|position| signed(position.0));
    let changed = connections.rows(statement(&statements), &[&subscription, &position]).await?;
    Ok(changed.len() as u64)
}
