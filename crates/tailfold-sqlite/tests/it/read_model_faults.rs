//! Read models in SQLite beside what goes wrong: a lease that changes hands, a disk that is full, handlers
//! that do what they must not, and people who drop what is being tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tailfold::{
    Batch, BoxError, ByPosition, Checkpoint, Claim, Claimed, Delivery, EventId, EventStore as _, EventType,
    Parked, Position, ReadModel as _, Subscription, Timestamp,
};
use tailfold_sqlite::rusqlite::{Connection, Transaction};
use tailfold_sqlite::{SqliteReadModel, drop_parked, parked_events};

use crate::read_models::{CounterEvent, Place, never, twice, until};

/// Who drops an event while it is tried again is believed: it does not come back when that fails.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_while_it_is_tried_again_does_not_come_back() {
    let place = Place::new().await;
    let path = place.directory.path().join("model");
    let mut model = place.model(never);
    let claim = Claim { name: "seen".into(), owner: EventId::fresh(), lease: Duration::from_secs(30) };
    model.claim(&claim).await.unwrap();
    let store = place.store.store_id().await.unwrap();
    let kept = Checkpoint { store, position: Position(1), last: None };
    let parked = parked_at_1("why");
    let batch =
        |before| Batch { before, deliveries: &[], parked: Some(&parked), unparked: None, after: &kept };
    model.handle(&claim, batch(None)).await.unwrap();
    model.handle(&claim, batch(Some(&kept))).await.unwrap();
    assert_eq!(parked_events(&path, "seen").unwrap().len(), 1);
    assert_eq!(drop_parked(&path, "seen", None).unwrap(), 1);
    model.handle(&claim, batch(Some(&kept))).await.unwrap();
    assert_eq!(parked_events(&path, "seen").unwrap(), []);
}

fn parked_at_1(error: &str) -> Parked {
    Parked {
        position: Position(1),
        stream: "counter/1".parse().unwrap(),
        version: 1.into(),
        event_type: EventType::new("counter.added").unwrap(),
        error: error.to_owned(),
        attempts: 1,
        parked_at: Timestamp::from_micros(0),
        retry_requested: false,
    }
}

/// What `ByPosition` keeps lies among the snapshots of a store, whose log is cleared as for an erase.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_by_position_of_an_erased_stream_is_gone_from_store_and_log() {
    let place = Place::new().await;
    let position = place.add(0..10).await;
    let handler = |delivery: &Delivery<CounterEvent>| match delivery.event() {
        Some(CounterEvent::Added { number }) if number % 5 == 0 => Err("SECRET-OF-0".into()),
        _ => Ok(()),
    };
    let model = ByPosition::new(place.store.clone(), "seen", handler).unwrap();
    let subscription =
        Subscription::builder(place.store.clone(), "seen", model).retry(twice()).start().unwrap();
    drop(subscription.wait_for(position).await);
    assert_eq!(Subscription::parked(&place.store, "seen").await.unwrap().len(), 2);
    let removed = place.counters.erase("0").await.unwrap();
    subscription.wait_for(removed.tombstone).await.unwrap();
    assert_eq!(Subscription::parked(&place.store, "seen").await.unwrap(), []);
    for name in ["store", "store-wal"] {
        assert_eq!(lines_with("SECRET-OF-0", &place.directory.path().join(name)), 0, "{name}");
    }
    subscription.stop().await.unwrap();
}

/// By another process: closing a file here would drop the locks on it.
fn lines_with(text: &str, path: &std::path::Path) -> u64 {
    let found = std::process::Command::new("grep").args(["-a", "-c", text]).arg(path).output().unwrap();
    String::from_utf8(found.stdout).unwrap().trim().parse().unwrap()
}

/// Whoever had the lease has removed it, and ended before it was out of the log as well.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_lease_over_clears_the_log_of_what_was_erased() {
    let place = Place::new().await;
    let path = place.directory.path().join("model");
    let (mut first, mut second) = (place.model(never), place.model(never));
    let claim = || Claim { name: "seen".into(), owner: EventId::fresh(), lease: Duration::from_secs(30) };
    let (of_first, of_second) = (claim(), claim());
    first.claim(&of_first).await.unwrap();
    let parked = parked_at_1("SECRET-OF-1");
    let store = place.store.store_id().await.unwrap();
    let after = Checkpoint { store, position: Position(1), last: None };
    let batch = Batch { before: None, deliveries: &[], parked: Some(&parked), unparked: None, after: &after };
    first.handle(&of_first, batch).await.unwrap();
    assert!(matches!(second.claim(&of_second).await.unwrap(), Claimed::Held(_)));
    let ended = Connection::open(&path).unwrap();
    ended.pragma_update(None, "secure_delete", true).unwrap();
    assert_eq!(ended.execute("DELETE FROM tailfold_parked_events", []).unwrap(), 1);
    first.release(&of_first).await.unwrap();
    assert!(matches!(second.claim(&of_second).await.unwrap(), Claimed::Granted(_)));
    for path in [&path, &place.directory.path().join("model-wal")] {
        assert_eq!(lines_with("SECRET-OF-1", path), 0, "{}", path.display());
    }
}

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
