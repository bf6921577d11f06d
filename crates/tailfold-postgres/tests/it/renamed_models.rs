//! Read models whose schema is renamed, and others that have got its name meanwhile.

use async_trait::async_trait;
use tailfold_postgres::tokio_postgres::Transaction;
use tailfold_postgres::{PostgresHandler, PostgresReadModel, checkpoints};

use crate::read_models::{AccountEvent, Totals, deposit, model, tables};
use crate::support::*;

async fn rename(url: &str, from: &str, to: &str) {
    let rename = format!("ALTER SCHEMA {from} RENAME TO {to}");
    client(url).await.batch_execute(&rename).await.unwrap();
}

fn is_refused(error: &Error) {
    assert_eq!(error.kind(), &ErrorKind::Invalid, "{error:?}");
    assert!(
        error.to_string().contains("any more") && error.to_string().contains("Open the read model again"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_schema_holds_other_read_models_now_writes_nothing_there() {
    let url = shared_server().await;
    let (name, moved_to) = (tables(&url).await, fresh_schema());
    let mut running = model(&url, &name, Totals::of(&name)).await;
    let claim = |owner| Claim { name: "totals".into(), owner, lease: Duration::from_secs(30) };
    let of_running = claim(EventId::fresh());
    let store = StoreId::from_uuid(*EventId::fresh().as_uuid());
    let at = |position| Checkpoint { store, position: Position(position), last: None };
    let (one, two) = (at(1), at(2));
    running.claim(&of_running).await.unwrap();
    let to_one = Batch { before: None, deliveries: &[], parked: None, unparked: None, after: &one };
    running.handle(&of_running, to_one).await.unwrap();
    rename(&url, &name, &moved_to).await;
    let mut other = model(&url, &name, Totals::of(&name)).await;
    is_refused(&running.claim(&of_running).await.unwrap_err());
    is_refused(&running.parked("totals").await.unwrap_err());
    assert_eq!(checkpoints(config(&url).schema(&name)).await.unwrap(), []);
    // Even where the other one is held by the same worker, as after a dump and a restore that has begun anew.
    other.claim(&of_running).await.unwrap();
    let to_two = || Batch { before: None, deliveries: &[], parked: None, unparked: None, after: &two };
    assert!(matches!(running.handle(&of_running, to_two()).await, Err(HandleError::Lost)));
    is_refused(&running.claim(&of_running).await.unwrap_err());
    assert_eq!(checkpoints(config(&url).schema(&name)).await.unwrap()[0].checkpoint, None);
    // Where they are now, they go on.
    let mut moved = model(&url, &moved_to, Totals::of(&name)).await;
    assert_eq!(moved.claim(&of_running).await.unwrap(), Claimed::Granted(Some(one.clone())));
    let to_two = Batch { before: Some(&one), ..to_two() };
    moved.handle(&of_running, to_two).await.unwrap();
}

/// Renames the schema of its model, and makes another one of the old name, before it has written.
struct Renames {
    url: String,
    name: String,
    moved_to: String,
}

#[async_trait]
impl PostgresHandler<AccountEvent> for Renames {
    async fn handle(&mut self, _: &Transaction<'_>, _: &Delivery<AccountEvent>) -> Result<(), BoxError> {
        rename(&self.url, &self.name, &self.moved_to).await;
        let mut other = model(&self.url, &self.name, Totals::of(&self.name)).await;
        let (owner, lease) = (EventId::fresh(), Duration::from_secs(30));
        other.claim(&Claim { name: "totals".into(), owner, lease }).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_renamed_in_the_middle_of_a_batch_undoes_it() {
    let (url, store) = (shared_server().await, MemoryStore::new());
    let (name, moved_to) = (tables(&url).await, fresh_schema());
    let handler = Renames { url: url.clone(), name: name.clone(), moved_to: moved_to.clone() };
    let model = PostgresReadModel::over(config(&url).schema(&name), handler).await.unwrap();
    deposit(&store, 1..=1).await;
    let lease = Duration::from_millis(100);
    let subscription = Subscription::builder(store, "totals", model).lease(lease).start().unwrap();
    is_refused(&soon("the end", subscription.failed()).await);
    for schema in [&name, &moved_to] {
        let kept = checkpoints(config(&url).schema(schema)).await.unwrap();
        assert_eq!((kept.len(), &kept[0].checkpoint), (1, &None), "{schema}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_models_of_an_earlier_format_are_brought_up_to_date() {
    let url = shared_server().await;
    let schema = tables(&url).await;
    drop(model(&url, &schema, Totals::of(&schema)).await);
    let older = format!(
        "ALTER TABLE {schema}.read_models_meta DROP COLUMN id; UPDATE {schema}.read_models_meta SET format = 2"
    );
    client(&url).await.batch_execute(&older).await.unwrap();
    let error = checkpoints(config(&url).schema(&schema)).await.unwrap_err();
    assert!(error.to_string().contains("format 2 of an older release"), "{error}");
    drop(model(&url, &schema, Totals::of(&schema)).await);
    assert_eq!(checkpoints(config(&url).schema(&schema)).await.unwrap(), []);
}
