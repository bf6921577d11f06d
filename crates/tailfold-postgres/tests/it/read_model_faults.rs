//! Read models beside what goes wrong: a server without room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tailfold_postgres::tokio_postgres::Transaction;
use tailfold_postgres::{PostgresHandler, PostgresReadModel, parked_events};

use crate::read_models::{AccountEvent, deposit, tables, twice};
use crate::support::*;

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
