//! Read models beside what goes wrong: a server without room, and people who drop what is being tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tailfold_postgres::tokio_postgres::Transaction;
use tailfold_postgres::{PostgresHandler, PostgresReadModel, drop_parked, parked_events, retry_parked};

use crate::read_models::{AccountEvent, deposit, parked_where, tables, totals, twice};
use crate::support::*;

/// Drops its event while it is tried again.
struct Drops {
    schema: String,
    url: String,
    attempts: u32,
}

#[async_trait]
impl PostgresHandler<AccountEvent> for Drops {
    async fn handle(
        &mut self,
        transaction: &Transaction<'_>,
        _: &Delivery<AccountEvent>,
    ) -> Result<(), BoxError> {
        self.attempts += 1;
        let write = format!("INSERT INTO {}.seen VALUES (1, 'handled')", self.schema);
        transaction.execute(&write, &[]).await?;
        match self.attempts {
            1 => Err("not yet".into()),
            _ => {
                let config = config(&self.url).schema(&self.schema);
                assert_eq!(drop_parked(config, "totals", None).await?, 1);
                Ok(())
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_while_it_is_tried_again_is_not_handled() {
    let url = shared_server().await;
    let (schema, store) = (tables(&url).await, MemoryStore::new());
    let last = deposit(&store, 1..=1).await;
    let handler = Drops { schema: schema.clone(), url: url.clone(), attempts: 0 };
    let config = || config(&url).schema(&schema);
    let model = PostgresReadModel::over(config(), handler).await.unwrap();
    let builder = Subscription::builder(store, "totals", model).retry(Retry { limit: 0, ..twice() });
    let subscription = builder.lease(Duration::from_secs(1)).start().unwrap();
    drop(soon("the event", subscription.wait_for(last)).await);
    assert_eq!(retry_parked(config(), "totals", None).await.unwrap(), 1);
    soon("the drop", parked_where(config, <[Parked]>::is_empty)).await;
    subscription.stop().await.unwrap();
    assert_eq!(totals(&url, &schema).await.2, 0, "nothing of it is kept");
}

/// Meets a server that has no room, or whose disk fails, for so many times.
struct Refused {
    code: &'static str,
    attempts: Arc<AtomicU64>,
}

#[async_trait]
impl PostgresHandler<AccountEvent> for Refused {
    async fn handle(
        &mut self,
        transaction: &Transaction<'_>,
        _: &Delivery<AccountEvent>,
    ) -> Result<(), BoxError> {
        if self.attempts.fetch_add(1, Ordering::Relaxed) < 5 {
            let raise =
                format!("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{}'; END $$", self.code);
            transaction.batch_execute(&raise).await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_could_not_do_parks_nothing() {
    let url = shared_server().await;
    // A full disk, and one that fails.
    for code in ["53100", "58030"] {
        let (schema, store) = (tables(&url).await, MemoryStore::new());
        let last = deposit(&store, 1..=1).await;
        let attempts = Arc::new(AtomicU64::new(0));
        let config = || config(&url).schema(&schema);
        let handler = Refused { code, attempts: attempts.clone() };
        let model = PostgresReadModel::over(config(), handler).await.unwrap();
        let builder = Subscription::builder(store, "totals", model).retry(Retry { limit: 0, ..twice() });
        let subscription = builder.start().unwrap();
        soon("the event", subscription.wait_for(last)).await.unwrap();
        subscription.stop().await.unwrap();
        assert_eq!(attempts.load(Ordering::Relaxed), 6, "{code}");
        assert_eq!(parked_events(config(), "totals").await.unwrap(), []);
    }
}
