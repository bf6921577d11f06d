//! Creating and finding a store.

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_that_create_a_store_at_once_create_one() {
    let (url, schema) = (shared_server().await, fresh_schema());
    let connecting: Vec<_> = (0..16)
        .map(|_| {
            let config = config(&url).schema(&schema).max_connections(2);
            tokio::spawn(async move { config.connect().await.unwrap().store_id().await.unwrap() })
        })
        .collect();
    let mut ids = Vec::new();
    for connecting in connecting {
        ids.push(soon("a connect", connecting).await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_missing_is_not_made_where_that_is_not_wanted() {
    let (url, schema) = (shared_server().await, fresh_schema());
    let find = || config(&url).schema(&schema).create_if_missing(false).connect();
    let error = find().await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid);
    assert!(error.to_string().contains("there is no such store"), "{error}");
    let other = client(&url).await;
    let found = other.query("SELECT FROM pg_namespace WHERE nspname = $1", &[&schema]).await.unwrap();
    assert!(found.is_empty());
    config(&url).schema(&schema).connect().await.unwrap();
    find().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_schema_of_somebody_who_may_not_create_any_is_used() {
    let (url, schema) = (shared_server().await, fresh_schema());
    let admin = client(&url).await;
    let role = format!("r_{schema}");
    admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA {schema} AUTHORIZATION {role}"))
        .await
        .unwrap();
    let url = url.replace("tailfold@", &format!("{role}@"));
    let store = config(&url).schema(&schema).connect().await.unwrap();
    append(&store, "a/1", events(3)).await;
    let refused = config(&url).schema(fresh_schema()).connect().await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
}

/// What docs/postgres.md says is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_use_the_tables_may_use_the_store() {
    let (_, schema) = fresh_store().await;
    let url = shared_server().await;
    let role = format!("r_{schema}");
    let grants = format!(
        "CREATE ROLE {role} LOGIN;
         GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
         REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}"
    );
    client(&url).await.batch_execute(&grants).await.unwrap();
    let url = url.replace("tailfold@", &format!("{role}@"));
    let store = config(&url).schema(&schema).create_if_missing(false).connect().await.unwrap();
    append(&store, "a/1", vec![tagged("x"), tagged("y")]).await;
    let filter = Filter::tag(Tag::new("x").unwrap()).or(Filter::category("a"));
    let commit = Commit::new(stream("b/1"), Expected::NoStream, events(1));
    store.append(commit.unchanged(filter, Position(100))).await.unwrap();
    let slot = Slot::new("fold", "0123456789abcdef".parse().unwrap(), "a/1").unwrap();
    let head = store.head(&stream("a/1")).await.unwrap().unwrap();
    let save = Save { head, bytes: "state".into(), keep: Keep::Newest, day: Day(1) };
    store.save(&slot, save).await.unwrap();
    let removed = store.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(1))).await.unwrap();
    assert_eq!((removed.events, removed.snapshots), (2, 1));
    assert_eq!(store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_release_is_left_alone() {
    let (_, schema) = fresh_store().await;
    let url = shared_server().await;
    client(&url).await.batch_execute(&format!("UPDATE {schema}.meta SET format = 1000")).await.unwrap();
    let error = config(&url).schema(&schema).connect().await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 1000 of a newer release"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_in_two_schemas_do_not_mix() {
    let ((one, _), (other, schema)) = (fresh_store().await, fresh_store().await);
    append(&one, "a/1", events(3)).await;
    assert!(read(&other, "a/1").await.is_empty());
    assert_ne!(one.store_id().await.unwrap(), other.store_id().await.unwrap());
    assert!(one.bytes().await.unwrap() > 0);
    // A name that is a word of SQL's own.
    let url = shared_server().await;
    let words = config(&url).schema("order").connect().await.unwrap();
    append(&words, &format!("a/{schema}"), events(1)).await;
    assert_eq!(read(&words, &format!("a/{schema}")).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_id_is_told_to_whoever_connects_next() {
    let (store, schema) = fresh_store().await;
    let before = store.store_id().await.unwrap();
    let renewed = store.renew_id().await.unwrap();
    let again = config(&shared_server().await).schema(&schema).connect().await.unwrap();
    assert_eq!(again.store_id().await.unwrap(), renewed);
    assert_ne!(before, renewed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_says_so() {
    let (store, _) = fresh_store().await;
    store.close().await.unwrap();
    let error = store.head(&stream("a/1")).await.unwrap_err();
    assert_eq!(error.to_string(), "read the head of stream `a/1`: the store is closed");
    let commit = Commit::new(stream("a/1"), Expected::NoStream, events(1));
    let error = store.append(commit).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(Outcome::NotDone)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_of_tags_is_built_anew() {
    let (store, schema) = fresh_store().await;
    append(&store, "a/1", vec![tagged("x"), tagged("y"), tagged("x")]).await;
    let other = client(&shared_server().await).await;
    other.batch_execute(&format!("TRUNCATE {schema}.event_tags")).await.unwrap();
    let filter = Filter::tag(Tag::new("x").unwrap());
    let found = async || store.read_all_to_vec(Position::ZERO, filter.clone()).await.unwrap().len();
    assert_eq!(found().await, 0);
    store.reindex().await.unwrap();
    assert_eq!(found().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_the_log_with_sql() {
    let (store, schema) = fresh_store().await;
    append(&store, "a/1", vec![event(r#"{"cents":7}"#)]).await;
    let other = client(&shared_server().await).await;
    let row = other
        .query_one(
            &format!("SELECT (payload::json ->> 'cents')::integer, stream FROM {schema}.event_log"),
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (7, "a/1"));
}

/// A store as the release before made it, with events, is brought up to date once, however many processes connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_1_is_migrated_by_whoever_connects_first() {
    let (store, schema) = fresh_store().await;
    append(&store, "a/1", events(3)).await;
    let (url, id) = (shared_server().await, store.store_id().await.unwrap());
    store.close().await.unwrap();
    let other = client(&url).await;
    back_to_format_1(&other, &schema).await;
    let refused = config(&url).schema(&schema).create_if_missing(false).connect().await.unwrap_err();
    assert!(refused.to_string().contains("format 1 of an older release"), "{refused}");
    let connecting: Vec<_> = (0..8)
        .map(|_| {
            let config = config(&url).schema(&schema).max_connections(2);
            tokio::spawn(async move { config.connect().await.unwrap() })
        })
        .collect();
    for store in connecting {
        let store = soon("a connect", store).await.unwrap();
        assert_eq!(store.store_id().await.unwrap(), id);
        assert_eq!(read(&store, "a/1").await.len(), 3);
    }
    let made =
        "SELECT format::bigint, (SELECT count(*) FROM pg_indexes WHERE schemaname = $1 AND indexname IN
                ('events_of_type', 'events_of_category')) FROM";
    let row = other.query_one(&format!("{made} {schema}.meta"), &[&schema]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (3, 2));
}

async fn back_to_format_1(client: &tokio_postgres::Client, schema: &str) {
    let back = format!(
        "DROP INDEX {schema}.events_of_type, {schema}.events_of_category; UPDATE {schema}.meta SET format = 1;
         ALTER TABLE {schema}.meta DROP COLUMN schema_name"
    );
    client.batch_execute(&back).await.unwrap();
}

/// Its functions do not ask which store is meant. They are replaced, and what they recorded is recognised.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_2_gets_functions_that_know_their_store() {
    let (url, schema) = (shared_server().await, fresh_schema());
    let other = client(&url).await;
    let made = include_str!("format_2.sql").replace("{schema}", &schema);
    other.batch_execute(&format!("CREATE SCHEMA {schema}; {made}")).await.unwrap();
    let call = format!(
        "SELECT outcome FROM {schema}.append('{{a/1}}', '{{1}}', '{{0}}', '{{NULL}}', '{{1}}', ARRAY[gen_random_uuid()],
             '{{test.happened}}', '{{1}}', '{{0}}', '{{f}}', ARRAY[''::bytea], $1, '{{x}}', ARRAY['old'::bytea], 0, '{{}}',
             '{{}}', false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
    );
    let recorded = other.query_one(&call, &[&vec![vec![7_u8; 16]]]).await.unwrap();
    assert_eq!(recorded.get::<_, &str>(0), "recorded");

    let store = config(&url).schema(&schema).connect().await.unwrap();
    append(&store, "a/1", vec![event("new")]).await;
    assert_eq!(payloads(&read(&store, "a/1").await), ["old", "new"]);
    let refused = other.query_one(&call, &[&vec![vec![7_u8; 16]]]).await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("does not exist"), "{refused:?}");
    let functions =
        "SELECT count(*), count(DISTINCT proname) FROM pg_proc WHERE pronamespace = $1::text::regnamespace";
    let row = other.query_one(functions, &[&schema]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (8, 8));
}

/// As docs/postgres.md says for a large log: the indexes are built before, and taken as they are once they are valid.
#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_are_there_already_are_taken_if_they_are_valid() {
    let (_, schema) = fresh_store().await;
    let (url, other) = (shared_server().await, client(&shared_server().await).await);
    back_to_format_1(&other, &schema).await;
    for index in [
        format!("events_of_type ON {schema}.events (type, position)"),
        format!("events_of_category ON {schema}.events (split_part(stream, '/', 1), position)"),
    ] {
        other.batch_execute(&format!("CREATE INDEX CONCURRENTLY {index}")).await.unwrap();
    }
    let is_valid = |valid: bool| {
        format!(
            "UPDATE pg_index SET indisvalid = {valid} WHERE indexrelid = '{schema}.events_of_type'::regclass"
        )
    };
    other.batch_execute(&is_valid(false)).await.unwrap();
    let error = config(&url).schema(&schema).connect().await.unwrap_err();
    assert!(error.to_string().contains("events_of_type is not valid"), "{error}");
    other.batch_execute(&is_valid(true)).await.unwrap();
    config(&url).schema(&schema).connect().await.unwrap();
}

/// A migration that cannot be done within the deadline says what to do, and holds nobody up for longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_takes_too_long_is_given_up() {
    let (server, schema) = (own_server().await, fresh_schema());
    let hasty = || config(&server.url()).schema(&schema).deadline(Duration::from_secs(2)).connect();
    hasty().await.unwrap();
    let other = client(&server.url()).await;
    back_to_format_1(&other, &schema).await;
    other
        .batch_execute(
            "CREATE FUNCTION public.slow() RETURNS event_trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM pg_sleep(5); END';
             CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('CREATE INDEX')
                 EXECUTE FUNCTION public.slow()",
        )
        .await
        .unwrap();
    let error = hasty().await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    assert!(error.to_string().contains("build its indexes before"), "{error}");
    other.batch_execute("DROP EVENT TRIGGER slow").await.unwrap();
    hasty().await.unwrap();
}

/// One that waits for somebody says for whom.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_held_up_names_who_does() {
    let (_, schema) = fresh_store().await;
    let (url, mut other) = (shared_server().await, client(&shared_server().await).await);
    back_to_format_1(&other, &schema).await;
    let pid: i32 = other.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let writer = other.transaction().await.unwrap();
    writer.batch_execute(&format!("LOCK TABLE {schema}.events IN ROW EXCLUSIVE MODE")).await.unwrap();
    let error = config(&url).schema(&schema).deadline(Duration::from_secs(3)).connect().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("held up by process {pid}")), "{error}");
    writer.commit().await.unwrap();
    config(&url).schema(&schema).connect().await.unwrap();
}
