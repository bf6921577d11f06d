//! What read models have kept in a schema, for people who look after them.

use tailfold::{CheckpointInfo, Parked, Result, Timestamp};

use super::statements::{self, Statements};
use super::tables;
use crate::config::PostgresConfig;
use crate::rows::{unsigned, value};

/// Where the subscriptions stand whose read models are in a schema, by name. Leases and times are by the server's clock.
/// Creates nothing.
///
/// # Errors
/// `Invalid` where there are no read models, and those of [`PostgresReadModel::over`](super::PostgresReadModel::over).
pub async fn checkpoints(config: PostgresConfig) -> Result<Vec<CheckpointInfo>> {
    let operation = format!("list the checkpoints in {config}");
    let list = async {
        let (connections, _) = config.connections()?;
        tables::prepare(&connections, &config.clone().create_if_missing(false)).await?;
        let statements = Statements::new(&config.quoted_schema());
        let rows = connections.rows(&statements.checkpoints, &[]).await?;
        let infos = rows.iter().map(|row| {
            Ok(CheckpointInfo {
                name: value(row, 6)?,
                checkpoint: statements::checkpoint(row)?,
                leased_until: value::<Option<i64>>(row, 7)?.map(Timestamp::from_micros),
                updated_at: Timestamp::from_micros(value(row, 8)?),
                parked: unsigned(value(row, 9)?, "number of parked events")?,
            })
        });
        infos.collect::<Result<_>>()
    };
    list.await.map_err(|error| error.during(operation))
}

/// The events that a subscription has put aside, of the read models in a schema, in order of position. Its name with its share.
/// To handle one again, read it from the log at its position. Creates nothing.
///
/// # Errors
/// As [`checkpoints`].
pub async fn parked_events(config: PostgresConfig, subscription: &str) -> Result<Vec<Parked>> {
    let operation = format!("list what subscription `{subscription}` has parked in {config}");
    let list = async {
        let (connections, _) = config.connections()?;
        tables::prepare(&connections, &config.clone().create_if_missing(false)).await?;
        let statements = Statements::new(&config.quoted_schema());
        let rows = connections.rows(&statements.parked, &[&subscription]).await?;
        rows.iter().map(statements::parked).collect::<Result<_>>()
    };
    list.await.map_err(|error| error.during(operation))
}
