//! What is said to the server about checkpoints, and its rows.

use tailfold::{
    Checkpoint, Error, EventType, HandledEvent, Parked, Position, Result, StoreId, Timestamp, Version,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::rows::{head, unsigned, value};

/// What [`checkpoint`] reads, in its order.
const CHECKPOINT: &str = "store, position, last_position, last_stream, last_version, last_chain";

#[derive(Clone, Debug)]
pub(super) struct Statements {
    schema: String,
    id: Uuid,
    pub(super) claim: String,
    pub(super) release: String,
    pub(super) lock: String,
    pub(super) advance: String,
    pub(super) park: String,
    pub(super) drop_erased: String,
    pub(super) checkpoints: String,
    pub(super) parked: String,
    pub(super) unpark: String,
    pub(super) retry_parked: String,
    pub(super) drop_parked: String,
}

impl Statements {
    /// For a schema, quoted, and the read models that it held when it was connected to: where another schema
    /// has the name by now, nothing is read or written there.
    pub(super) fn new(schema: &str, id: Uuid) -> Self {
        let is_own = format!("EXISTS (SELECT FROM {schema}.read_models_meta WHERE id = '{id}')");
        Self {
            schema: schema.to_owned(),
            id,
            // One that is locked is at work, or its connection broke a moment ago: it is passed over, so that nobody waits for
            // as long as a handler takes. The scalar subquery locks its row once and sees it as it is then.
            claim: format!(
                "WITH renewed AS (
                     UPDATE {schema}.checkpoints
                     SET owner = $2, leased_until = clock_timestamp() + make_interval(secs => $3)
                     WHERE name = (SELECT name FROM {schema}.checkpoints
                                   WHERE name = $1 AND (owner = $2 OR owner IS NULL OR leased_until < clock_timestamp())
                                       AND {is_own}
                                   FOR UPDATE SKIP LOCKED)
                     RETURNING {CHECKPOINT}
                 ), made AS (
                     INSERT INTO {schema}.checkpoints (name, owner, leased_until, updated_at)
                     SELECT $1, $2, clock_timestamp() + make_interval(secs => $3), clock_timestamp()
                     WHERE NOT EXISTS (SELECT FROM {schema}.checkpoints WHERE name = $1) AND {is_own}
                     ON CONFLICT (name) DO NOTHING
                     RETURNING {CHECKPOINT}
                 ), found AS (
                     SELECT {CHECKPOINT}, true AS granted FROM renewed
                     UNION ALL SELECT {CHECKPOINT}, true FROM made
                     UNION ALL SELECT {CHECKPOINT}, false FROM {schema}.checkpoints
                               WHERE name = $1 AND NOT EXISTS (SELECT FROM renewed)
                 )
                 SELECT {CHECKPOINT}, granted, is_own FROM (SELECT {is_own} AS is_own) AS own LEFT JOIN found ON true"
            ),
            release: format!(
                "UPDATE {schema}.checkpoints SET owner = NULL, leased_until = clock_timestamp() WHERE name = $1 AND owner = $2"
            ),
            // A session that falls silent in the middle keeps the row from others for as long as a lease lasts.
            lock: format!(
                "SELECT {CHECKPOINT}, set_config('idle_in_transaction_session_timeout', $3, true)
                 FROM {schema}.checkpoints WHERE name = $1 AND owner = $2 AND {is_own} FOR UPDATE"
            ),
            advance: format!(
                "UPDATE {schema}.checkpoints
                 SET leased_until = clock_timestamp() + make_interval(secs => $2), updated_at = clock_timestamp(), store = $3,
                     position = $4, last_position = $5, last_stream = $6, last_version = $7, last_chain = $8
                 WHERE name = $1 AND owner = $9 AND {is_own}"
            ),
            park: format!(
                "INSERT INTO {schema}.parked_events
                     (subscription, position, stream, version, type, error, attempts, parked_at)
                 SELECT $1::text, $2::bigint, $3::text, $4::bigint, $5::text, $6::text, $7::bigint, $8::bigint
                 WHERE $9::boolean
                     OR EXISTS (SELECT FROM {schema}.parked_events WHERE subscription = $1 AND position = $2)
                 ON CONFLICT (subscription, position) DO UPDATE
                 SET error = excluded.error, attempts = excluded.attempts, parked_at = excluded.parked_at,
                     retry_requested = false"
            ),
            unpark: format!("DELETE FROM {schema}.parked_events WHERE subscription = $1 AND position = $2"),
            retry_parked: format!(
                "UPDATE {schema}.parked_events SET retry_requested = true
                 WHERE subscription = $1 AND ($2::bigint IS NULL OR position = $2) AND {is_own}
                 RETURNING position"
            ),
            drop_parked: format!(
                "DELETE FROM {schema}.parked_events
                 WHERE subscription = $1 AND ($2::bigint IS NULL OR position = $2) AND {is_own}
                 RETURNING position"
            ),
            drop_erased: format!(
                "DELETE FROM {schema}.parked_events WHERE subscription = $1 AND stream = $2 AND position < $3"
            ),
            checkpoints: format!(
                "SELECT {CHECKPOINT}, name,
                        CASE WHEN owner IS NOT NULL THEN (extract(epoch FROM leased_until) * 1000000)::bigint END,
                        (extract(epoch FROM updated_at) * 1000000)::bigint,
                        (SELECT count(*) FROM {schema}.parked_events p WHERE p.subscription = c.name), is_own
                 FROM (SELECT {is_own} AS is_own) AS own LEFT JOIN {schema}.checkpoints c ON true ORDER BY name"
            ),
            parked: format!(
                "SELECT position, stream, version, type, error, attempts, parked_at, retry_requested, is_own
                 FROM (SELECT {is_own} AS is_own) AS own LEFT JOIN {schema}.parked_events ON subscription = $1 ORDER BY position"
            ),
        }
    }

    /// Fails if another schema has the name by now; `column` of a row tells.
    pub(super) fn check_own(&self, row: &Row, column: usize) -> Result<()> {
        if value(row, column)? {
            return Ok(());
        }
        let Self { schema, id, .. } = self;
        Err(Error::invalid(format!(
            "the schema {schema} does not hold read models {id} any more: it was renamed, restored or made anew. Open the read \
             model again in the one that is meant"
        )))
    }

    /// What is put aside, of the rows of [`parked`](Self::parked).
    pub(super) fn all_parked(&self, rows: &[Row]) -> Result<Vec<Parked>> {
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            self.check_own(row, 8)?;
            // One row without an event, where nothing is.
            if value::<Option<i64>>(row, 0)?.is_some() {
                all.push(parked(row)?);
            }
        }
        Ok(all)
    }
}

/// The checkpoint in a row that begins with one.
pub(super) fn checkpoint(row: &Row) -> Result<Option<Checkpoint>> {
    let Some(store) = value::<Option<Uuid>>(row, 0)? else { return Ok(None) };
    let last = match value::<Option<i64>>(row, 2)? {
        None => None,
        Some(position) => Some(HandledEvent {
            position: Position(unsigned(position, "position")?),
            stream: value::<&str>(row, 3)?.parse()?,
            head: head(row, 4, 5)?,
        }),
    };
    let position = Position(unsigned(value(row, 1)?, "position")?);
    Ok(Some(Checkpoint { store: StoreId::from_uuid(store), position, last }))
}

fn parked(row: &Row) -> Result<Parked> {
    let attempts = value::<i64>(row, 5)?;
    Ok(Parked {
        position: Position(unsigned(value(row, 0)?, "position")?),
        stream: value::<&str>(row, 1)?.parse()?,
        version: Version(unsigned(value(row, 2)?, "version")?),
        event_type: EventType::new(value::<&str>(row, 3)?)?,
        error: value(row, 4)?,
        attempts: u32::try_from(attempts)
            .map_err(|_| Error::corrupt(format!("the number of attempts {attempts} is out of range")))?,
        parked_at: Timestamp::from_micros(value(row, 6)?),
        retry_requested: value(row, 7)?,
    })
}
