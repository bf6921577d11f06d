//! The schema: created, brought up to date, or found to be of another release.
//!
//! Format n + 1 is what the n-th migration makes of format n. A migration never changes after a release; a new one is added.

use std::cmp::Ordering;

use deadpool_postgres::{GenericClient, Object, Transaction};
use tailfold::{Error, Outcome, Result, StoreId, Timestamp};
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::config::PostgresConfig;
use crate::connections::{Connections, idle_limit, limits};
use crate::error::Failure;
use crate::locks::Locks;
use crate::patience::Patience;
use crate::{pooler, positions};

const MIGRATIONS: &[&[&str]] = &[
    &[
        include_str!("../sql/meta.sql"),
        include_str!("../sql/positions.sql"),
        include_str!("../sql/events.sql"),
        include_str!("../sql/event_tags.sql"),
        include_str!("../sql/snapshots.sql"),
        include_str!("../sql/snapshot_payloads.sql"),
        include_str!("../sql/event_log.sql"),
    ],
    // Builds indexes over the log.
    &[
        include_str!("../sql/check_indexes.sql"),
        include_str!("../sql/events_of_type.sql"),
        include_str!("../sql/events_of_category.sql"),
    ],
    // Functions that know which store they work on.
    &[include_str!("../sql/drop_unchecked_functions.sql"), include_str!("../sql/meta_schema_name.sql")],
];

/// Functions, as this release calls them: made after the migrations, and made anew in a schema that was
/// renamed. Where one gets other parameters, a migration drops the one before.
const FUNCTIONS: &[&str] = &[
    include_str!("../sql/genesis.sql"),
    include_str!("../sql/check_isolation.sql"),
    include_str!("../sql/check_store.sql"),
    include_str!("../sql/lock_all.sql"),
    include_str!("../sql/save_snapshot.sql"),
    include_str!("../sql/append.sql"),
    include_str!("../sql/erase.sql"),
    include_str!("../sql/truncate.sql"),
];

/// The oldest server that works: functions of transaction ids and of SHA-256 are older, tests are not.
const OLDEST_SERVER: i32 = 150_000;

/// Whether there is a table in a schema. It looks into the catalogue's tables: functions such as `to_regclass` may tell what was
/// true before the transaction waited for its lock.
const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE n.nspname = $1 AND c.relname = $2)";

/// A schema that is fit to be used.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: StoreId,
    /// The last position that is there.
    pub(crate) seen: i64,
}

pub(crate) async fn prepare(connections: &Connections, config: &PostgresConfig) -> Result<Prepared> {
    let id = find_or_create(connections, config).await?;
    let seen = positions::check(connections, &config.quoted_schema()).await?;
    Ok(Prepared { id, seen })
}

async fn find_or_create(connections: &Connections, config: &PostgresConfig) -> Result<StoreId> {
    connections
        .insist_with(Patience::new(connections).at_leisure().behind_writers(), |mut connection| async move {
            pooler::refuse(connections, &connection).await?;
            let found = find_or_create_by(connection.client(), config).await?;
            connection.settled();
            Ok(found)
        })
        .await
}

async fn find_or_create_by(client: &mut Object, config: &PostgresConfig) -> Result<StoreId, Failure> {
    check_server(client).await?;
    let Some(found) = look(client, config).await? else {
        return match config.create_if_missing {
            true => migrate(client, config).await,
            false => Err(Error::invalid("there is no such store").into()),
        };
    };
    let Found { format, id, schema_name } = &found;
    match format.cmp(&current()) {
        Ordering::Greater => Err(Error::unsupported(format!(
            "the schema `{}` has format {format} of a newer release; this one knows {}",
            config.schema,
            current()
        ))
        .into()),
        Ordering::Equal if *schema_name == config.schema => Ok(*id),
        _ if config.create_if_missing => migrate(client, config).await,
        Ordering::Equal => Err(Error::unsupported(format!(
            "the schema was called `{schema_name}` when its functions were made, and is `{}` now: a process that \
             may create the store makes them anew when it connects",
            config.schema
        ))
        .into()),
        Ordering::Less => Err(Error::unsupported(format!(
            "the schema `{}` has format {format} of an older release: a process that may create it brings it up to {}",
            config.schema,
            current()
        ))
        .into()),
    }
}

fn current() -> i32 {
    MIGRATIONS.len() as i32
}

pub(crate) async fn check_server(client: &Object) -> Result<(), Failure> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'), pg_is_in_recovery()",
            &[],
        )
        .await?;
    let (version, encoding, is_standby): (i32, &str, bool) = (row.get(0), row.get(1), row.get(2));
    if version < OLDEST_SERVER {
        return Err(Error::unsupported(format!(
            "the server has release {}: 15 or a newer one is needed",
            version / 10_000
        ))
        .into());
    }
    if encoding != "UTF8" {
        return Err(
            Error::unsupported(format!("the database has encoding {encoding}: UTF8 is needed")).into()
        );
    }
    if is_standby {
        return Err(Failure::Undone(Error::unavailable(
            Outcome::NotDone,
            "the server is a standby: name the primary, or all of them with `target_session_attrs=read-write`",
        )));
    }
    Ok(())
}

/// What a schema says about the store in it.
struct Found {
    format: i32,
    id: StoreId,
    /// What it was called when its functions were made; empty before format 3.
    schema_name: String,
}

/// The store in the schema; `None` if there is none.
async fn look(client: &impl GenericClient, config: &PostgresConfig) -> Result<Option<Found>, Failure> {
    let schema = config.quoted_schema();
    if !is_there(client, config, "meta").await? {
        return Ok(None);
    }
    let statement = format!(
        "SELECT format, store_id, coalesce(to_jsonb(m) ->> 'schema_name', '') FROM {schema}.meta AS m"
    );
    let Some(row) = client.query_opt(&statement, &[]).await? else {
        return Err(Error::corrupt(format!("the table {schema}.meta is empty")).into());
    };
    let id = StoreId::from_uuid(row.get::<_, Uuid>(1));
    Ok(Some(Found { format: row.get(0), id, schema_name: row.get(2) }))
}

/// Whether the schema has a table of that name.
pub(crate) async fn is_there(
    client: &impl GenericClient,
    config: &PostgresConfig,
    table: &str,
) -> Result<bool, Failure> {
    Ok(client.query_one(EXISTS, &[&config.schema, &table]).await?.get(0))
}

/// Begins a transaction that has the schema, and nobody beside it who changes it too.
pub(crate) async fn begin_migration<'a>(
    client: &'a mut Object,
    config: &PostgresConfig,
) -> Result<Transaction<'a>, Failure> {
    // Each statement has to see what was committed while it waited for the lock.
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    transaction.batch_execute(&idle_limit(config.deadline)).await?;
    let lock = Locks::new(&config.schema).migration();
    transaction.query_one("SELECT pg_advisory_xact_lock($1)", &[&lock]).await?;
    // Whoever may not create schemas may be given an empty one.
    let found =
        transaction.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&config.schema]).await?;
    if found.is_none() {
        transaction.batch_execute(&format!("CREATE SCHEMA {}", config.quoted_schema())).await?;
    }
    Ok(transaction)
}

/// Applies the migrations after those that made the format which was found.
pub(crate) async fn apply(
    transaction: &Transaction<'_>,
    config: &PostgresConfig,
    migrations: &[&[&str]],
    found: i32,
) -> Result<(), Failure> {
    // A server that gives up says so in time, and leaves nothing behind that goes on.
    let patience = (config.deadline * 3 / 4).as_millis().clamp(1, i32::MAX as u128);
    let settings = format!("SET LOCAL statement_timeout = {patience}; {}", limits(config.deadline));
    transaction.batch_execute(&settings).await?;
    for migration in migrations.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        make(transaction, config, migration).await?;
    }
    Ok(())
}

async fn make(
    transaction: &Transaction<'_>,
    config: &PostgresConfig,
    objects: &[&str],
) -> Result<(), Failure> {
    for object in objects {
        let made = transaction.batch_execute(&object.replace("{schema}", &config.quoted_schema())).await;
        made.map_err(|error| refused(error, config))?;
    }
    Ok(())
}

/// Applies what is missing, and makes the functions, in one transaction: all of it or nothing, however many
/// processes do so at the same time.
async fn migrate(client: &mut Object, config: &PostgresConfig) -> Result<StoreId, Failure> {
    let transaction = begin_migration(client, config).await?;
    let schema = config.quoted_schema();
    let format = look(&transaction, config).await?.map_or(0, |found| found.format);
    apply(&transaction, config, MIGRATIONS, format).await?;
    // An append that began under another name of the schema holds other locks than those that begin now: it
    // ends first.
    make(&transaction, config, &["LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE"]).await?;
    make(&transaction, config, FUNCTIONS).await?;
    let statement = format!(
        "INSERT INTO {schema}.meta (format, store_id, created_at, schema_name) VALUES ($1, $2, $3, $4)
         ON CONFLICT (one) DO UPDATE SET format = excluded.format, schema_name = excluded.schema_name RETURNING store_id"
    );
    let created_at = Timestamp::from(std::time::SystemTime::now()).as_micros();
    let fresh = StoreId::fresh();
    let values: [&(dyn ToSql + Sync); 4] = [&current(), fresh.as_uuid(), &created_at, &config.schema];
    let row = transaction.query_one(&statement, &values).await?;
    let id = StoreId::from_uuid(row.get::<_, Uuid>(0));
    transaction.commit().await?;
    Ok(id)
}

/// Why a migration ended.
fn refused(error: tokio_postgres::Error, config: &PostgresConfig) -> Failure {
    if error.code() != Some(&SqlState::QUERY_CANCELED) {
        return error.into();
    }
    Failure::Final(Error::unavailable(
        Outcome::NotDone,
        format!(
            "bringing the schema `{}` up to date takes too long for a deadline of {:?}: build its indexes before, as \
             docs/postgres.md says, or connect once with a longer deadline",
            config.schema, config.deadline
        ),
    ))
}
