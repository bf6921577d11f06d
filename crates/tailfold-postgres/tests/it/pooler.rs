//! Poolers between the store and the server.

use std::sync::Arc;

use tailfold_testkit::servers::PgBouncer;

use crate::support::*;

async fn pooler(mode: &'static str) -> PgBouncer {
    let url = shared_server().await;
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    tokio::task::spawn_blocking(move || PgBouncer::start(port, mode).unwrap()).await.unwrap()
}

fn is_refused(error: &Error) {
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("PgBouncer") && error.to_string().contains("pool_mode"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_among_transactions_is_refused_by_name() {
    for mode in ["transaction", "statement"] {
        let pooler = pooler(mode).await;
        for schema in [fresh_schema(), fresh_store().await.1] {
            let connect = config(&pooler.url()).schema(&schema).deadline(Duration::from_secs(10)).connect();
            is_refused(&connect.await.unwrap_err());
        }
        let model = tailfold_postgres::checkpoints(config(&pooler.url()).schema(fresh_schema())).await;
        is_refused(&model.unwrap_err());
    }
}

/// One server's session for all of them, and others that use it at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn such_a_pooler_is_found_out_beside_others_that_use_it() {
    let pooler = Arc::new(pooler("transaction").await);
    let busy: Vec<_> = (0..8)
        .map(|_| {
            let pooler = pooler.clone();
            tokio::spawn(async move {
                let client = client(&pooler.url()).await;
                loop {
                    client.simple_query("SELECT pg_sleep(0.001)").await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..5 {
        is_refused(&config(&pooler.url()).schema(fresh_schema()).connect().await.unwrap_err());
    }
    busy.iter().for_each(|task: &tokio::task::JoinHandle<()>| task.abort());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_works_behind_a_pooler_that_pools_sessions() {
    let (pooler, schema) = (pooler("session").await, fresh_schema());
    let connect = || config(&pooler.url()).schema(&schema).poll_interval(Duration::from_secs(3600)).connect();
    let (store, other) = (connect().await.unwrap(), connect().await.unwrap());
    let mut live = other.read_all(Position::ZERO, Filter::all(), Follow::Live);
    let appending: Vec<_> = (0..40)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { append(&store, &format!("a/{number}"), events(3)).await })
        })
        .collect();
    for appending in appending {
        appending.await.unwrap();
    }
    let mut seen = 0;
    while seen < 120 {
        seen += soon("the events", live.try_next()).await.unwrap().unwrap().events.len();
    }
    // Told by a notification, since nobody looks for an hour.
    append(&store, "b/1", vec![event("next")]).await;
    let last = soon("the next event", live.try_next()).await.unwrap().unwrap().events;
    assert_eq!(payloads(&last), ["next"]);
}
