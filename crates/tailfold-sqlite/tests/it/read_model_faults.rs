//! Read models in SQLite beside what goes wrong: a lease that changes hands, a disk that is full, handlers
//! that do what they must not, and people who drop what is being tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tailfold::{BoxError, Delivery, Subscription};
use tailfold_sqlite::rusqlite::Transaction;
use tailfold_sqlite::{SqliteReadModel, parked_events};

use crate::read_models::{CounterEvent, Place, twice, until};

/// Nothing of a batch is kept without its checkpoint, nor the checkpoint without the batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_the_transaction_has_failed() {
    let ends: [fn(&Transaction<'_>); 2] = [
        |transaction| drop(transaction.execute("INSERT OR ROLLBACK INTO seen VALUES (1, 0)", [])),
        |transaction| transaction.execute_batch("ROLLBACK").unwrap(),
    ];
    for end in ends {
        let place = Place::new().await;
        let position = place.add(0..20).await;
        let path = place.directory.path().join("model");
        let model = SqliteReadModel::open(&path, move |transaction: &Transaction<'_>, delivery| {
            let Some(CounterEvent::Added { number }) = Delivery::event(delivery) else { return Ok(()) };
            if *number == 7 {
                end(transaction);
                return Ok(());
            }
            let seen = "INSERT INTO seen VALUES (?1, ?2)";
            transaction.execute(seen, (delivery.position().0 as i64, number))?;
            Ok(())
        });
        let model = model.unwrap();
        model.prepare("CREATE TABLE seen (position INTEGER PRIMARY KEY, number INTEGER NOT NULL)").unwrap();
        let subscription =
            Subscription::builder(place.store.clone(), "seen", model).retry(twice()).start().unwrap();
        drop(subscription.wait_for(position).await);
        subscription.stop().await.unwrap();
        assert_eq!(place.seen(), (0..20).filter(|number| *number != 7).collect::<Vec<_>>());
        let parked = parked_events(&path, "seen").unwrap();
        assert!(parked.len() == 1 && parked[0].error.contains("has ended the transaction"), "{parked:?}");
    }
}

/// The event is not to blame: it is handled as soon as there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_parks_nothing() {
    let place = Place::new().await;
    let position = place.add(0..1).await;
    let (full, is_full) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let handler = {
        let (full, is_full) = (full.clone(), is_full.clone());
        move |transaction: &Transaction<'_>, _: &Delivery<CounterEvent>| {
            let pages = if full.load(Ordering::Relaxed) { 20 } else { 1_000_000 };
            transaction.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            is_full.fetch_add(1, Ordering::Relaxed);
            transaction.execute("INSERT INTO large VALUES (zeroblob(1000000))", [])?;
            Ok::<_, BoxError>(())
        }
    };
    let path = place.directory.path().join("model");
    let model = SqliteReadModel::open(&path, handler).unwrap();
    model.prepare("CREATE TABLE large (bytes BLOB)").unwrap();
    let subscription =
        Subscription::builder(place.store.clone(), "seen", model).retry(twice()).start().unwrap();
    until(|| is_full.load(Ordering::Relaxed) > 5).await;
    full.store(false, Ordering::Relaxed);
    subscription.wait_for(position).await.unwrap();
    assert_eq!(parked_events(&path, "seen").unwrap(), []);
    subscription.stop().await.unwrap();
}
