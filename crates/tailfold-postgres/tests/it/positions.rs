//! Positions that would be given out again, or out of order.

use crate::support::*;

async fn sql(statement: &str) {
    client(&shared_server().await).await.batch_execute(statement).await.unwrap();
}

async fn connect(schema: &str) -> Result<PostgresStore> {
    config(&shared_server().await).schema(schema).max_connections(2).connect().await
}

/// What a logical replica has that was made a server of its own: rows, and a sequence that nobody has drawn
/// from.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_is_behind_the_log_is_set_right_before_anybody_appends() {
    for behind in ["setval('positions', 1)", "setval('positions', 1, false)", "setval('positions', 9)"] {
        let (store, schema) = fresh_store().await;
        let last = append(&store, "a/1", events(10)).await.position;
        assert_eq!(last, Position(10));
        sql(&format!("SET search_path = {schema}; SELECT {behind}")).await;
        let store = connect(&schema).await.unwrap();
        assert_eq!(append(&store, "a/1", events(1)).await.position, Position(11), "{behind}");
    }
    // One that is ahead stays: what was drawn in vain was passed by nobody, but may be under way.
    let (_, schema) = fresh_store().await;
    sql(&format!("SET search_path = {schema}; SELECT setval('positions', 50)")).await;
    let store = connect(&schema).await.unwrap();
    assert_eq!(append(&store, "a/1", events(1)).await.position, Position(51));
}

/// Somebody sets it while a process appends, whose followers have passed what it would give out.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_to_a_sequence_that_was_set_back_sets_it_right() {
    for (expected, count) in [(Expected::NoStream, 1), (Expected::NoStream, 3), (Expected::Any, 1)] {
        let (store, schema) = fresh_store().await;
        append(&store, "a/1", events(1)).await;
        append(&store, "a/2", events(9)).await;
        sql(&format!(
            "DELETE FROM {schema}.events WHERE position < 8; SELECT setval('{schema}.positions', 1)"
        ))
        .await;
        let commit = Commit::new(stream("a/3"), expected, events(count));
        let position = store.append(commit).await.unwrap().position;
        assert_eq!(position, Position(10 + count), "{expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewing_the_id_sets_the_sequence_right_too() {
    let (store, schema) = fresh_store().await;
    append(&store, "a/1", events(10)).await;
    sql(&format!("SET search_path = {schema}; SELECT setval('positions', 1)")).await;
    store.renew_id().await.unwrap();
    let row = client(&shared_server().await)
        .await
        .query_one(&format!("SELECT nextval('{schema}.positions')"), &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 11);
}

/// Sessions that draw ten positions at a time use some of them after others have used later ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_would_go_back_is_set_right() {
    for (wrong, first) in [("CACHE 10", 11), ("INCREMENT 5", 3), ("MAXVALUE 1000 CYCLE", 3)] {
        let (store, schema) = fresh_store().await;
        append(&store, "a/1", events(1)).await;
        sql(&format!("ALTER SEQUENCE {schema}.positions {wrong}")).await;
        // Another session has some of them put by.
        let other = client(&shared_server().await).await;
        let draw = format!("SELECT nextval('{schema}.positions')");
        let drawn: i64 = other.query_one(&draw, &[]).await.unwrap().get(0);
        let store = connect(&schema).await.unwrap();
        let position = append(&store, "a/1", events(1)).await.position;
        assert!(position >= Position(first) && position > Position(drawn as u64), "{wrong}: {position}");
        let next: i64 = other.query_one(&draw, &[]).await.unwrap().get(0);
        assert_eq!(next, position.0 as i64 + 1, "{wrong}");
    }
}

/// Whoever may use a store may not always change it.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_set_the_sequence_right_is_told_who_can() {
    let (store, schema) = fresh_store().await;
    append(&store, "a/1", events(10)).await;
    let role = format!("r_{schema}");
    sql(&format!(
        "CREATE ROLE {role} LOGIN;
         GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
         SELECT setval('{schema}.positions', 3)"
    ))
    .await;
    let url = shared_server().await.replace("tailfold@", &format!("{role}@"));
    let find = || config(&url).schema(&schema).create_if_missing(false).connect();
    let error = find().await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error:?}");
    let says = format!("SELECT setval('\"{schema}\".positions', 10)");
    assert!(error.to_string().contains(&says), "{error}");
    sql(&format!("GRANT UPDATE ON SEQUENCE {schema}.positions TO {role}")).await;
    let store = find().await.unwrap();
    assert_eq!(append(&store, "a/1", events(1)).await.position, Position(11));
}

/// A role that may draw no position, as whoever looks at a store may have it, cannot tell where the sequence
/// stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_only_reads_connects() {
    let (store, schema) = fresh_store().await;
    append(&store, "a/1", events(10)).await;
    let role = format!("r_{schema}");
    sql(&format!(
        "CREATE ROLE {role} LOGIN;
         GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
    ))
    .await;
    let url = shared_server().await.replace("tailfold@", &format!("{role}@"));
    let reader = config(&url).schema(&schema).create_if_missing(false).connect().await.unwrap();
    assert_eq!(reader.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap().len(), 10);
    let error = reader.append(Commit::new(stream("a/1"), Expected::Any, events(1))).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("permission denied"), "{error}");
}

/// Processes that find it behind at once, and append at once.
#[tokio::test(flavor = "multi_thread")]
async fn many_processes_set_it_right_without_a_position_twice() {
    let (store, schema) = fresh_store().await;
    append(&store, "a/1", events(10)).await;
    sql(&format!("SELECT setval('{schema}.positions', 1)")).await;
    let connecting: Vec<_> = (0..8)
        .map(|number| {
            let schema = schema.clone();
            tokio::spawn(async move {
                let store = connect(&schema).await.unwrap();
                append(&store, &format!("b/{number}"), events(5)).await;
            })
        })
        .collect();
    for connecting in connecting {
        soon("a connect", connecting).await.unwrap();
    }
    let log = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert_eq!(log.len(), 50);
    assert_eq!(log.last().unwrap().position, Position(50));
}
