//! Read models in SQLite: exactly once, one worker at a time, whatever ends when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tailfold::{
    BoxError, Delivery, ErrorKind, Event, EventMeta, Fold, Position, Repository, State, Subscription,
};
use tailfold_sqlite::rusqlite::{Connection, Transaction};
use tailfold_sqlite::{SqliteReadModel, SqliteStore, checkpoints, parked_events};

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    Added { number: i64 },
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "counter")]
struct Counter {}

impl Fold for Counter {
    type Event = CounterEvent;
    fn apply(&mut self, _: CounterEvent, _: &EventMeta<'_>) {}
}

struct Place {
    directory: tempfile::TempDir,
    store: SqliteStore,
    counters: Repository<Counter>,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("store")).await.unwrap();
        let counters = Repository::builder(store.clone()).build().unwrap();
        Self { directory, store, counters }
    }

    /// A model whose table would refuse an event that comes twice.
    fn model(
        &self,
        mut fails: impl FnMut(&Delivery<CounterEvent>) -> bool + Send + 'static,
    ) -> SqliteReadModel<
        CounterEvent,
        impl FnMut(&Transaction<'_>, &Delivery<CounterEvent>) -> Result<(), BoxError> + Send + 'static,
    > {
        let handler = move |transaction: &Transaction<'_>, delivery: &Delivery<CounterEvent>| {
            let number = match delivery.event() {
                Some(CounterEvent::Added { number }) => *number,
                None => -1,
            };
            transaction
                .execute("INSERT INTO seen VALUES (?1, ?2)", (delivery.position().0 as i64, number))?;
            if fails(delivery) {
                return Err("not this one".into());
            }
            Ok(())
        };
        let model = SqliteReadModel::open(self.directory.path().join("model"), handler).unwrap();
        model
            .prepare(
                "CREATE TABLE IF NOT EXISTS seen (position INTEGER PRIMARY KEY, number INTEGER NOT NULL)",
            )
            .unwrap();
        model
    }

    async fn add(&self, numbers: std::ops::Range<i64>) -> Position {
        let mut position = None;
        for number in numbers {
            let added = self
                .counters
                .execute((number % 5).to_string(), move |_| Ok::<_, ()>(CounterEvent::Added { number }));
            position = added.await.unwrap().unwrap().position();
        }
        position.unwrap()
    }

    fn seen(&self) -> Vec<i64> {
        let connection = Connection::open(self.directory.path().join("model")).unwrap();
        let mut statement = connection.prepare("SELECT number FROM seen ORDER BY position").unwrap();
        let found = statement.query_map([], |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }
}

fn never(_: &Delivery<CounterEvent>) -> bool {
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_checkpoint_move_together_over_restarts() {
    let place = Place::new().await;
    for round in 0..4 {
        let position = place.add(round * 25..round * 25 + 25).await;
        let model = place.model(never);
        let subscription =
            Subscription::builder(place.store.clone(), "seen", model).batch(4).start().unwrap();
        subscription.wait_for(position).await.unwrap();
        assert_eq!(place.seen().len() as i64, round * 25 + 25);
        // Dropped in the middle of whatever it does, or stopped.
        if round % 2 == 0 {
            subscription.stop().await.unwrap();
        } else {
            drop(subscription);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(place.seen(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_event_rolls_its_batch_back_and_is_parked_after_retries() {
    let place = Place::new().await;
    place.add(0..20).await;
    let attempts = Arc::new(AtomicU64::new(0));
    let counted = attempts.clone();
    let model = place.model(move |delivery| {
        let is_poison = matches!(delivery.event(), Some(CounterEvent::Added { number: 7 }));
        counted.fetch_add(u64::from(is_poison), Ordering::Relaxed);
        is_poison
    });
    let subscription = Subscription::builder(place.store.clone(), "seen", model).retries(2).start().unwrap();
    subscription.wait_until_current().await.unwrap();
    subscription.stop().await.unwrap();
    assert_eq!(place.seen(), (0..20).filter(|number| *number != 7).collect::<Vec<_>>());
    assert_eq!(attempts.load(Ordering::Relaxed), 3);
    let parked = parked_events(place.directory.path().join("model"), "seen").unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].stream.as_str(), parked[0].attempts), ("counter/2", 3));
    assert_eq!(parked[0].error, "not this one");
    let kept = checkpoints(place.directory.path().join("model")).unwrap();
    assert_eq!((kept.len(), kept[0].parked), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_listed_and_nothing_is_made_by_looking() {
    let place = Place::new().await;
    let path = |name: &str| place.directory.path().join(name);
    let position = place.add(0..3).await;
    std::fs::write(path("empty"), "").unwrap();
    for name in ["missing", "empty", "store"] {
        for error in [checkpoints(path(name)).unwrap_err(), parked_events(path(name), "seen").unwrap_err()] {
            assert_eq!(error.kind(), &ErrorKind::Invalid, "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
    assert!(!path("missing").exists());
    assert_eq!(std::fs::metadata(path("empty")).unwrap().len(), 0);

    let subscription =
        Subscription::builder(place.store.clone(), "seen", place.model(never)).start().unwrap();
    subscription.wait_for(position).await.unwrap();
    let kept = checkpoints(path("model")).unwrap();
    assert_eq!((kept.len(), kept[0].name.as_str(), kept[0].parked), (1, "seen", 0));
    assert!(kept[0].leased_until.unwrap() > kept[0].updated_at);
    assert_eq!(kept[0].checkpoint.as_ref().unwrap().position, position);
    subscription.stop().await.unwrap();
    assert_eq!(checkpoints(path("model")).unwrap()[0].leased_until, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_workers_has_the_lease_and_the_other_takes_over() {
    let place = Place::new().await;
    // Long enough for a busy machine.
    let lease = Duration::from_secs(3);
    let start = || {
        let model = place.model(never);
        Subscription::builder(place.store.clone(), "seen", model).lease(lease).start().unwrap()
    };
    let first = start();
    first.wait_for(place.add(0..10).await).await.unwrap();
    let second = start();
    let position = place.add(10..20).await;
    // Whoever waits with the one that does not work hears of it as well.
    second.wait_for(position).await.unwrap();
    assert!(first.is_working() && !second.is_working());
    first.stop().await.unwrap();
    let position = place.add(20..30).await;
    second.wait_for(position).await.unwrap();
    assert!(second.is_working());
    assert_eq!(place.seen(), (0..30).collect::<Vec<_>>());
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_lease_was_taken_writes_nothing_more() {
    let place = Place::new().await;
    let subscription =
        Subscription::builder(place.store.clone(), "seen", place.model(never)).start().unwrap();
    subscription.wait_for(place.add(0..5).await).await.unwrap();
    // As another process does it whose clock says that the lease is over.
    let thief = Connection::open(place.directory.path().join("model")).unwrap();
    thief.busy_timeout(Duration::from_secs(5)).unwrap();
    let far = i64::MAX;
    thief.execute("UPDATE tailfold_checkpoints SET owner = x'00', lease_until = ?1", [far]).unwrap();
    place.add(5..10).await;
    while subscription.is_working() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(place.seen(), (0..5).collect::<Vec<_>>());
    subscription.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_stream_is_told_and_a_wrong_file_is_refused() {
    let place = Place::new().await;
    let subscription =
        Subscription::builder(place.store.clone(), "seen", place.model(never)).start().unwrap();
    place.add(0..5).await;
    let tombstone = place.counters.erase("3").await.unwrap().tombstone.unwrap();
    subscription.wait_for(tombstone).await.unwrap();
    assert_eq!(place.seen().last(), Some(&-1));
    subscription.stop().await.unwrap();
    let refused = SqliteReadModel::<CounterEvent, _>::open(
        place.directory.path().join("store"),
        |_: &Transaction<'_>, _: &Delivery<CounterEvent>| Ok(()),
    );
    let error = refused.err().unwrap();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("a file of its own"), "{error}");
    let error = place.model(never).prepare("CREATE NONSENSE").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
}
