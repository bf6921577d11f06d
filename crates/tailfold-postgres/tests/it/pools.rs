//! A pool that exists already.

use deadpool_postgres::{Manager, Pool};
use tokio_postgres::NoTls;

use crate::support::*;

fn pool(url: &str, options: &str) -> Pool {
    let mut server: tokio_postgres::Config = url.parse().unwrap();
    server.options(options);
    Pool::builder(Manager::new(server, NoTls)).max_size(3).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_works_over_an_existing_pool_and_leaves_it_open() {
    let (url, schema) = (shared_server().await, fresh_schema());
    let pool = pool(&url, "");
    let over =
        || PostgresConfig::over_pool(pool.clone()).schema(&schema).poll_interval(Duration::from_millis(20));
    let store = over().connect().await.unwrap();
    append(&store, "a/1", events(3)).await;
    // Without a connection to listen on, it looks for itself.
    let reader = over().connect().await.unwrap();
    let mut live = reader.read_all(Position::ZERO, Filter::all(), Follow::Live);
    let seen = soon("the events", live.try_next()).await.unwrap().unwrap().events;
    assert_eq!(payloads(&seen), ["0", "1", "2"]);
    let listening =
        over().listen_at(&url).unwrap().poll_interval(Duration::from_secs(3600)).connect().await.unwrap();
    let mut live = listening.read_all(seen[2].position, Filter::all(), Follow::Live);
    append(&store, "a/1", vec![event("next")]).await;
    let seen = soon("the next event", live.try_next()).await.unwrap().unwrap().events;
    assert_eq!(payloads(&seen), ["next"]);
    store.close().await.unwrap();
    assert!(pool.get().await.is_ok());
    assert_eq!(
        PostgresConfig::over_pool(pool).to_string(),
        "a pool of PostgreSQL connections, schema tailfold"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_would_not_see_what_others_did_are_refused() {
    let (url, schema) = (shared_server().await, fresh_schema());
    for level in ["repeatable read", "serializable"] {
        let options = format!("-c default_transaction_isolation={}", level.replace(' ', "\\ "));
        let store = PostgresConfig::over_pool(pool(&url, &options)).schema(&schema).connect().await.unwrap();
        let error = store.append(Commit::new(stream("a/1"), Expected::Any, events(1))).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error:?}");
        assert!(error.to_string().contains(&format!("are {level}: they must be read committed")), "{error}");
    }
}

/// Sessions in which backslashes are no letters, numbers are read otherwise, and the like: what the server's
/// defaults, or those of a role, may be.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_session_do_not_change_what_is_recorded() {
    let url = shared_server().await;
    for options in [
        "-c standard_conforming_strings=off",
        "-c array_nulls=off -c transform_null_equals=on -c bytea_output=escape",
        "-c datestyle=german -c timezone=Asia/Kathmandu -c intervalstyle=iso_8601 -c extra_float_digits=-5",
        "-c quote_all_identifiers=on -c search_path= -c plan_cache_mode=force_generic_plan",
    ] {
        let schema = fresh_schema();
        let store = PostgresConfig::over_pool(pool(&url, options)).schema(&schema).connect().await.unwrap();
        append(&store, "a/1", vec![tagged("t"), event("\\x00 ' \" %")]).await;
        let head = store.head(&stream("a/1")).await.unwrap();
        let commit = Commit::new(stream("a/1"), Expected::from_head(head), events(2));
        store.append(commit.unchanged(Filter::tag(Tag::new("t").unwrap()), Position(9))).await.unwrap();
        assert_eq!(payloads(&read(&store, "a/1").await), ["t", "\\x00 ' \" %", "0", "1"], "{options}");
        store.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(1))).await.unwrap();
        append(&store, "a/1", events(1)).await;
        let verified = tailfold_testkit::verify_chain(&store).await.unwrap();
        assert_eq!((verified.events, verified.erased), (2, 1), "{options}");
    }
}
