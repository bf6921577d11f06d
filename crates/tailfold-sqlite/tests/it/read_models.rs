//! Read models in SQLite: exactly once, one worker at a time, whatever ends when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tailfold::{
    BoxError, Delivery, ErrorKind, Event, EventMeta, Fold, Position, Repository, Retry, State, Subscription,
};
use tailfold_sqlite::rusqlite::{Connection, Transaction};
use tailfold_sqlite::{SqliteReadModel, SqliteStore, checkpoints, drop_parked, parked_events, retry_parked};

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "counter")]
pub(crate) enum CounterEvent {
    Added { number: i64 },
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "counter")]
pub(crate) struct Counter {}

impl Fold for Counter {
    type Event = CounterEvent;
    fn apply(&mut self, _: CounterEvent, _: &EventMeta<'_>) {}
}

pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: SqliteStore,
    pub(crate) counters: Repository<Counter>,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("store")).await.unwrap();
        let counters = Repository::builder(store.clone()).build().unwrap();
        Self { directory, store, counters }
    }

    /// A model whose table would refuse an event that comes twice.
    pub(crate) fn model(
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

    pub(crate) async fn add(&self, numbers: std::ops::Range<i64>) -> Position {
        let mut position = None;
        for number in numbers {
            let added = self
                .counters
                .execute((number % 5).to_string(), move |_| Ok::<_, ()>(CounterEvent::Added { number }));
            position = added.await.unwrap().unwrap().position();
        }
        position.unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<i64> {
        let connection = Connection::open(self.directory.path().join("model")).unwrap();
        let mut statement = connection.prepare("SELECT number FROM seen ORDER BY position").unwrap();
        let found = statement.query_map([], |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }
}

pub(crate) fn never(_: &Delivery<CounterEvent>) -> bool {
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
    let subscription =
        Subscription::builder(place.store.clone(), "seen", model).retry(twice()).start().unwrap();
    let error = subscription.wait_for(Position(8)).await.unwrap_err().to_string();
    assert!(error.contains("position 8") && error.contains("is parked"), "{error}");
    subscription.wait_until_current().await.unwrap_err();
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

/// Two repetitions, with pauses that a test can wait for.
pub(crate) fn twice() -> Retry {
    Retry { limit: 2, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(10) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_rolls_its_batch_back_and_its_event_is_parked_tried_again_or_dropped() {
    let place = Place::new().await;
    let path = place.directory.path().join("model");
    place.add(0..20).await;
    let mended = Arc::new(AtomicBool::new(false));
    let model = {
        let mended = mended.clone();
        place.model(move |delivery| {
            let is_poison = matches!(delivery.event(), Some(CounterEvent::Added { number: 7 | 11 }));
            assert!(!is_poison || mended.load(Ordering::Relaxed), "never that number");
            false
        })
    };
    let builder = Subscription::builder(place.store.clone(), "seen", model).retry(twice());
    let subscription = builder.lease(Duration::from_millis(300)).start().unwrap();
    subscription.wait_for(Position(12)).await.unwrap_err();
    subscription.wait_until_current().await.unwrap_err();
    assert!(subscription.is_working());
    let parked = || parked_events(&path, "seen").unwrap();
    assert_eq!(parked().len(), 2);
    assert_eq!((parked()[0].position, parked()[0].attempts), (Position(8), 3));
    assert_eq!(parked()[0].error, "panicked: never that number");
    // In vain at first.
    assert_eq!(retry_parked(&path, "seen", None).unwrap(), 2);
    until(|| parked().iter().all(|parked| parked.attempts == 4 && !parked.retry_requested)).await;
    mended.store(true, Ordering::Relaxed);
    assert_eq!(retry_parked(&path, "seen", Some(Position(8))).unwrap(), 1);
    until(|| parked().len() == 1).await;
    assert_eq!(drop_parked(&path, "seen", Some(Position(8))).unwrap(), 0);
    assert_eq!(drop_parked(&path, "seen", None).unwrap(), 1);
    subscription.stop().await.unwrap();
    let mut seen = place.seen();
    seen.sort_unstable();
    assert_eq!(seen, (0..20).filter(|number| *number != 11).collect::<Vec<_>>());
}

pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let soon = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), soon).await.expect("it becomes so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_before_parked_events_could_be_tried_again_is_brought_up_to_date() {
    let place = Place::new().await;
    let path = place.directory.path().join("model");
    drop(place.model(never));
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "ALTER TABLE tailfold_parked_events DROP COLUMN retry_requested;
         INSERT INTO tailfold_parked_events VALUES ('seen', 8, 'counter/2', 3, 'counter.added', 'why', 3, 0);",
    )
    .unwrap();
    assert_eq!(parked_events(&path, "seen").unwrap().len(), 1);
    drop(place.model(never));
    assert!(!parked_events(&path, "seen").unwrap()[0].retry_requested);
    assert_eq!(retry_parked(&path, "seen", None).unwrap(), 1);
    assert!(parked_events(&path, "seen").unwrap()[0].retry_requested);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_of_an_erased_stream_is_gone_from_file_and_log() {
    let place = Place::new().await;
    let position = place.add(0..10).await;
    let handler = |_: &Transaction<'_>, delivery: &Delivery<CounterEvent>| match delivery.event() {
        Some(CounterEvent::Added { number }) if number % 5 < 2 => {
            Err(format!("SECRET-OF-{}", number % 5).into())
        }
        _ => Ok(()),
    };
    let path = place.directory.path().join("model");
    let model = SqliteReadModel::open(&path, handler).unwrap();
    let subscription =
        Subscription::builder(place.store.clone(), "seen", model).retry(twice()).start().unwrap();
    // An error where one is parked during the call, and not where that came before it.
    drop(subscription.wait_for(position).await);
    assert_eq!(parked_events(&path, "seen").unwrap().len(), 4);
    let removed = place.counters.erase("0").await.unwrap();
    subscription.wait_for(removed.tombstone).await.unwrap();
    let left = parked_events(&path, "seen").unwrap();
    assert!(left.len() == 2 && left.iter().all(|parked| parked.stream.id() == "1"), "{left:?}");
    let gone = async {
        let log = place.directory.path().join("model-wal");
        while [&path, &log].iter().any(|path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes.windows(11).any(|window| window == b"SECRET-OF-0")
        }) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the texts of its errors go");
    subscription.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_opens_while_another_workers_batch_lasts() {
    let place = Place::new().await;
    drop(place.model(never));
    let path = place.directory.path().join("model");
    let busy = Connection::open(&path).unwrap();
    busy.execute_batch("BEGIN IMMEDIATE; INSERT INTO seen VALUES (-1, -1)").unwrap();
    // Opens, and prepares the tables that are there.
    let begun = std::time::Instant::now();
    let model = place.model(never);
    assert!(begun.elapsed() < Duration::from_secs(3), "it waited for {:?}", begun.elapsed());
    busy.execute_batch("ROLLBACK").unwrap();
    let position = place.add(0..5).await;
    let subscription = Subscription::builder(place.store.clone(), "seen", model).start().unwrap();
    subscription.wait_for(position).await.unwrap();
    assert_eq!(place.seen().len(), 5);
    subscription.stop().await.unwrap();
}
