//! Read models in PostgreSQL: every event has its effect once, whatever fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tailfold_postgres::tokio_postgres::Transaction;
use tailfold_postgres::{
    PostgresHandler, PostgresReadModel, checkpoints, drop_parked, parked_events, retry_parked,
};

use crate::support::*;

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "account")]
pub(crate) enum AccountEvent {
    Deposited { cents: i64 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "account")]
struct Account {
    cents: i64,
}

impl Fold for Account {
    type Event = AccountEvent;

    fn apply(&mut self, event: AccountEvent, _: &EventMeta<'_>) {
        let AccountEvent::Deposited { cents } = event;
        self.cents += cents;
    }
}

/// Counts and sums. The key of `seen` would not let an event in twice, and an update does not hide one.
pub(crate) struct Totals {
    schema: String,
    /// The amount that it does not like, and how.
    dislikes: Option<(i64, Dislike)>,
    attempts: Arc<AtomicU64>,
    pause: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Dislike {
    /// It says so.
    Tells,
    /// The server refuses its statement, and it does not say so.
    Hides,
    /// Its statement takes far too long.
    Hangs,
    /// It did not expect that.
    Panics,
}

impl Totals {
    pub(crate) fn of(schema: &str) -> Self {
        Self { schema: schema.to_owned(), dislikes: None, attempts: Arc::default(), pause: Duration::ZERO }
    }
}

#[async_trait]
impl PostgresHandler<AccountEvent> for Totals {
    async fn handle(
        &mut self,
        transaction: &Transaction<'_>,
        delivery: &Delivery<AccountEvent>,
    ) -> Result<(), BoxError> {
        let schema = &self.schema;
        let position = delivery.position().0 as i64;
        let account = delivery.recorded().stream.as_str();
        tokio::time::sleep(self.pause).await;
        let Some(AccountEvent::Deposited { cents }) = delivery.event() else {
            transaction
                .execute(&format!("DELETE FROM {schema}.seen WHERE account = $1"), &[&account])
                .await?;
            return Ok(());
        };
        if let Some((amount, dislike)) = self.dislikes
            && amount == *cents
        {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            match dislike {
                Dislike::Tells => {
                    transaction.execute(&format!("UPDATE {schema}.totals SET sum = 0"), &[]).await?;
                    return Err("nobody deposits that".into());
                }
                Dislike::Hides => assert!(transaction.batch_execute("SELECT 1 / 0").await.is_err()),
                Dislike::Hangs => std::future::pending().await,
                Dislike::Panics => panic!("nobody deposits that"),
            }
        }
        let seen = format!("INSERT INTO {schema}.seen (position, account) VALUES ($1, $2)");
        transaction.execute(&seen, &[&position, &account]).await?;
        let sum = format!("UPDATE {schema}.totals SET count = count + 1, sum = sum + $1");
        transaction.execute(&sum, &[cents]).await?;
        Ok(())
    }
}

/// The tables of [`Totals`], in a schema of their own without a store.
pub(crate) async fn tables(url: &str) -> String {
    let schema = fresh_schema();
    let tables = format!(
        "CREATE SCHEMA {schema};
         CREATE TABLE {schema}.seen (position bigint PRIMARY KEY, account text NOT NULL);
         CREATE TABLE {schema}.totals (count bigint NOT NULL, sum bigint NOT NULL);
         INSERT INTO {schema}.totals VALUES (0, 0)"
    );
    client(url).await.batch_execute(&tables).await.unwrap();
    schema
}

/// What is in the tables: count, sum, rows of `seen`.
pub(crate) async fn totals(url: &str, schema: &str) -> (i64, i64, i64) {
    let read = format!("SELECT count, sum, (SELECT count(*) FROM {schema}.seen) FROM {schema}.totals");
    let row = client(url).await.query_one(&read, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

pub(crate) async fn deposit(
    store: &(impl Store + Clone + 'static),
    amounts: impl IntoIterator<Item = i64>,
) -> Position {
    let accounts = Repository::<Account>::builder(store.clone()).build().unwrap();
    let mut last = Position::ZERO;
    for cents in amounts {
        let id = (cents % 5).to_string();
        let receipt = accounts.execute(&id, |_| Ok::<_, String>(AccountEvent::Deposited { cents })).await;
        last = receipt.unwrap().unwrap().position().unwrap();
    }
    last
}

type Model = PostgresReadModel<AccountEvent, Totals>;

pub(crate) async fn model(url: &str, schema: &str, handler: Totals) -> Model {
    PostgresReadModel::over(config(url).schema(schema), handler).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_counted_once_over_restarts_and_told_to_who_waits() {
    let (url, store) = (shared_server().await, MemoryStore::new());
    let schema = tables(&url).await;
    for round in 0..4 {
        let handler = Totals::of(&schema);
        let model = PostgresReadModel::connect(&format!("{url}?schema={schema}"), handler).await.unwrap();
        let subscription = Subscription::builder(store.clone(), "totals", model).batch(7).start().unwrap();
        let last = deposit(&store, round * 20 + 1..=round * 20 + 20).await;
        soon("the event", subscription.wait_for(last)).await.unwrap();
        let handled = round * 20 + 20;
        assert_eq!(totals(&url, &schema).await, (handled, handled * (handled + 1) / 2, handled));
        subscription.stop().await.unwrap();
        let kept = checkpoints(config(&url).schema(&schema)).await.unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].name.as_str(), kept[0].leased_until, kept[0].parked), ("totals", None, 0));
        assert_eq!(kept[0].checkpoint.as_ref().unwrap().position, last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_that_open_read_models_at_once_make_the_tables_once_beside_a_store() {
    let (store, schema) = fresh_store().await;
    let url = shared_server().await;
    let absent = checkpoints(config(&url).schema(&schema)).await.unwrap_err();
    assert_eq!(absent.kind(), &ErrorKind::Invalid, "{absent}");
    let opening = (0..8).map(|_| model(&url, &schema, Totals::of(&schema)));
    futures_util::future::join_all(opening).await;
    assert!(checkpoints(config(&url).schema(&schema)).await.unwrap().is_empty());
    append(&store, "a/1", events(3)).await;
    let other = client(&url).await;
    other.batch_execute(&format!("UPDATE {schema}.read_models_meta SET format = 9")).await.unwrap();
    let opened = PostgresReadModel::over(config(&url).schema(&schema), Totals::of(&schema)).await;
    assert!(opened.unwrap_err().to_string().contains("format 9 of a newer release"));
}

/// Runs a subscription while something happens to its server, and events are recorded.
async fn survives(faults: impl AsyncFnOnce(&mut PostgresServer, &Proxy)) {
    let mut server = own_server().await;
    let proxy = Proxy::to(server.port()).await.unwrap();
    let schema = tables(&server.url()).await;
    let config = through(&proxy).schema(&schema).deadline(Duration::from_secs(3));
    let model = PostgresReadModel::over(config, Totals::of(&schema)).await.unwrap();
    let store = MemoryStore::new();
    let lease = Duration::from_millis(900);
    let subscription =
        Subscription::builder(store.clone(), "totals", model).batch(3).lease(lease).start().unwrap();
    let recording = tokio::spawn({
        let store = store.clone();
        async move {
            let mut last = Position::ZERO;
            for cents in 1..=600 {
                last = deposit(&store, [cents]).await;
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
            last
        }
    });
    faults(&mut server, &proxy).await;
    let last = recording.await.unwrap();
    soon("the last event", subscription.wait_for(last)).await.unwrap();
    subscription.stop().await.unwrap();
    assert_eq!(totals(&server.url(), &schema).await, (600, 300 * 601, 600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_in_the_middle_makes_nothing_count_twice_or_never() {
    survives(async |server, _| {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            tokio::task::block_in_place(|| {
                server.kill().unwrap();
                server.start_again().unwrap();
            });
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_are_cut_in_the_middle_make_nothing_count_twice_or_never() {
    survives(async |_, proxy| {
        for round in 0..60 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            // Anywhere between the first word of a transaction and the answer to its last.
            match round % 2 {
                0 => proxy.cut_after_request_bytes(round * 37 % 900),
                _ => proxy.cut_after_answer_bytes(round * 37 % 400),
            }
        }
        // Nobody hears that it was committed.
        proxy.lose_answers();
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.cut();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_processes_works_and_the_other_takes_over_when_it_falls_silent() {
    let (url, store) = (shared_server().await, MemoryStore::new());
    let schema = tables(&url).await;
    let port = url.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::to(port).await.unwrap();
    let deadline = Duration::from_secs(60);
    // The lease is long enough for a busy machine.
    let (slow, lease) = (Duration::from_millis(20), Duration::from_secs(3));
    let start = |model| Subscription::builder(store.clone(), "totals", model).lease(lease).start().unwrap();
    let handler = Totals { pause: slow, ..Totals::of(&schema) };
    let config = through(&proxy).schema(&schema).deadline(deadline);
    let first = start(PostgresReadModel::over(config, handler).await.unwrap());
    deposit(&store, 1..=5).await;
    soon("the first events", first.wait_until_current()).await.unwrap();
    let second = start(model(&url, &schema, Totals::of(&schema)).await);
    let last = deposit(&store, 6..=20).await;
    soon("what the other one does", second.wait_for(last)).await.unwrap();
    assert!(first.is_working() && !second.is_working());
    // Its network is cut, so that it can neither work nor give the lease back, in the middle of a batch.
    deposit(&store, 21..=60).await;
    tokio::time::sleep(slow * 5).await;
    proxy.lose_answers();
    let last = deposit(&store, 61..=80).await;
    soon("the end of the lease", second.wait_for(last)).await.unwrap();
    assert!(second.is_working());
    proxy.cut();
    let last = deposit(&store, 81..=90).await;
    soon("both", async { tokio::try_join!(first.wait_for(last), second.wait_for(last)) }).await.unwrap();
    second.stop().await.unwrap();
    first.stop().await.unwrap();
    assert_eq!(totals(&url, &schema).await, (90, 45 * 91, 90));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_lease_went_to_another_cannot_commit() {
    let url = shared_server().await;
    let schema = tables(&url).await;
    let (mut stale, mut other) =
        (model(&url, &schema, Totals::of(&schema)).await, model(&url, &schema, Totals::of(&schema)).await);
    let claim = || Claim { name: "totals".into(), owner: EventId::fresh(), lease: Duration::from_secs(2) };
    let (of_stale, of_other) = (claim(), claim());
    assert_eq!(stale.claim(&of_stale).await.unwrap(), Claimed::Granted(None));
    assert_eq!(other.claim(&of_other).await.unwrap(), Claimed::Held(None));
    let at = |position| Checkpoint {
        store: StoreId::from_uuid(*EventId::fresh().as_uuid()),
        position: Position(position),
        last: None,
    };
    let (one, two) = (at(1), at(2));
    let to_one = Batch { before: None, deliveries: &[], parked: None, unparked: None, after: &one };
    stale.handle(&of_stale, to_one).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    assert_eq!(other.claim(&of_other).await.unwrap(), Claimed::Granted(Some(one.clone())));
    let to_two = || Batch { before: Some(&one), deliveries: &[], parked: None, unparked: None, after: &two };
    assert!(matches!(stale.handle(&of_stale, to_two()).await, Err(HandleError::Lost)));
    // Nor may who has the lease go on from where the model does not stand.
    let wrong = Batch { before: Some(&two), deliveries: &[], parked: None, unparked: None, after: &two };
    assert!(matches!(other.handle(&of_other, wrong).await, Err(HandleError::Lost)));
    other.handle(&of_other, to_two()).await.unwrap();
    stale.release(&of_stale).await.unwrap();
    assert_eq!(stale.claim(&of_stale).await.unwrap(), Claimed::Held(Some(two.clone())));
    other.release(&of_other).await.unwrap();
    assert_eq!(stale.claim(&of_stale).await.unwrap(), Claimed::Granted(Some(two)));
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_work_side_by_side_and_handle_every_stream_once() {
    let (url, store) = (shared_server().await, MemoryStore::new());
    let schema = tables(&url).await;
    let mut shares = Vec::new();
    for share in 0..3 {
        let model = model(&url, &schema, Totals::of(&schema)).await;
        shares.push(Subscription::builder(store.clone(), "totals", model).share(share, 3).start().unwrap());
    }
    let last = deposit(&store, 1..=60).await;
    for share in shares {
        soon("a share", share.wait_for(last)).await.unwrap();
        share.stop().await.unwrap();
    }
    assert_eq!(totals(&url, &schema).await, (60, 30 * 61, 60));
    let names: Vec<_> =
        checkpoints(config(&url).schema(&schema)).await.unwrap().into_iter().map(|kept| kept.name).collect();
    assert_eq!(names, ["totals.0-of-3", "totals.1-of-3", "totals.2-of-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_handled_is_parked_with_its_position_and_nothing_of_it_stays() {
    let url = shared_server().await;
    for (dislike, says) in [
        (Dislike::Tells, "nobody deposits that"),
        (Dislike::Hides, "current transaction is aborted"),
        (Dislike::Hangs, "its handler took longer than the deadline"),
        (Dislike::Panics, "panicked: nobody deposits that"),
    ] {
        let (schema, store) = (tables(&url).await, MemoryStore::new());
        deposit(&store, 1..=20).await;
        let handler = Totals { dislikes: Some((8, dislike)), ..Totals::of(&schema) };
        let attempts = handler.attempts.clone();
        let config = || config(&url).schema(&schema).deadline(Duration::from_secs(1));
        let model = PostgresReadModel::over(config(), handler).await.unwrap();
        let subscription =
            Subscription::builder(store.clone(), "totals", model).retry(twice()).start().unwrap();
        let error = soon("the event", subscription.wait_for(Position(8))).await.unwrap_err().to_string();
        assert!(error.contains("position 8") && error.contains("is parked"), "{error}");
        soon("the rest", subscription.wait_until_current()).await.unwrap_err();
        subscription.stop().await.unwrap();
        let parked = parked_events(config(), "totals").await.unwrap();
        assert_eq!(parked.len(), 1);
        assert_eq!((parked[0].position, parked[0].attempts), (Position(8), 3));
        assert_eq!(parked[0].stream.as_str(), "account/3");
        assert!(parked[0].error.contains(says), "{}", parked[0].error);
        // What was hidden was looked for once more each time.
        assert_eq!(attempts.load(Ordering::Relaxed), if dislike == Dislike::Hides { 6 } else { 3 });
        assert_eq!(totals(&url, &schema).await, (19, 10 * 21 - 8, 19));
        if dislike == Dislike::Hangs {
            continue;
        }
        // Tried again: in vain, then by one who has nothing against it.
        let start = async |handler: Totals| {
            let model = PostgresReadModel::over(config(), handler).await.unwrap();
            let builder = Subscription::builder(store.clone(), "totals", model).retry(twice());
            builder.lease(Duration::from_secs(1)).start().unwrap()
        };
        assert_eq!(retry_parked(config(), "totals", Some(Position(9))).await.unwrap(), 0);
        assert_eq!(retry_parked(config(), "totals", Some(Position(8))).await.unwrap(), 1);
        let again = start(Totals { dislikes: Some((8, dislike)), ..Totals::of(&schema) }).await;
        let parked = soon("in vain", parked_where(config, |parked| !parked[0].retry_requested)).await;
        assert_eq!(parked[0].attempts, 4);
        again.stop().await.unwrap();
        assert_eq!(retry_parked(config(), "totals", None).await.unwrap(), 1);
        let again = start(Totals::of(&schema)).await;
        soon("handled", parked_where(config, <[Parked]>::is_empty)).await;
        again.stop().await.unwrap();
        assert_eq!(totals(&url, &schema).await, (20, 10 * 21, 20));
        assert_eq!(drop_parked(config(), "totals", None).await.unwrap(), 0);
    }
}

/// Two repetitions, with pauses that a test can wait for.
pub(crate) fn twice() -> Retry {
    Retry { limit: 2, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(10) }
}

/// What is parked, as soon as it is so.
pub(crate) async fn parked_where(
    config: impl Fn() -> PostgresConfig,
    is_so: impl Fn(&[Parked]) -> bool,
) -> Vec<Parked> {
    loop {
        let parked = parked_events(config(), "totals").await.unwrap();
        if is_so(&parked) {
            return parked;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_of_an_erased_stream_goes() {
    let url = shared_server().await;
    let (schema, store) = (tables(&url).await, MemoryStore::new());
    deposit(&store, 1..=20).await;
    let handler = Totals { dislikes: Some((8, Dislike::Tells)), ..Totals::of(&schema) };
    let model = model(&url, &schema, handler).await;
    let subscription = Subscription::builder(store.clone(), "totals", model).retry(twice()).start().unwrap();
    soon("the rest", subscription.wait_until_current()).await.unwrap_err();
    for (erased, left) in [("account/1", 1), ("account/3", 0)] {
        let removed = store.remove(&stream(erased), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
        soon("the tombstone", subscription.wait_for(removed.tombstone.unwrap())).await.unwrap();
        let parked = parked_events(config(&url).schema(&schema), "totals").await.unwrap();
        assert_eq!(parked.len(), left, "{erased}: {parked:?}");
    }
    subscription.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_stream_is_told_so_that_its_rows_can_go() {
    let url = shared_server().await;
    let (store, _) = fresh_store().await;
    let schema = tables(&url).await;
    deposit(&store, 1..=10).await;
    let model = model(&url, &schema, Totals::of(&schema)).await;
    let subscription = Subscription::builder(store.clone(), "totals", model).start().unwrap();
    soon("the events", subscription.wait_until_current()).await.unwrap();
    let removed =
        store.remove(&stream("account/3"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    soon("the tombstone", subscription.wait_for(removed.tombstone.unwrap())).await.unwrap();
    subscription.stop().await.unwrap();
    assert_eq!(totals(&url, &schema).await, (10, 55, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_is_refused() {
    let url = shared_server().await;
    let (store, of_store) = fresh_store().await;
    let schema = tables(&url).await;
    deposit(&store, 1..=10).await;
    let start = async |store: PostgresStore| {
        let model = model(&url, &schema, Totals::of(&schema)).await;
        Subscription::builder(store, "totals", model).start().unwrap()
    };
    let subscription = start(store.clone()).await;
    soon("the events", subscription.wait_until_current()).await.unwrap();
    subscription.stop().await.unwrap();
    store.renew_id().await.unwrap();
    let restored = config(&url).schema(&of_store).connect().await.unwrap();
    let subscription = start(restored).await;
    let error = soon("the refusal", subscription.failed()).await;
    assert!(error.to_string().contains("it must be built anew"), "{error}");
    assert_eq!(totals(&url, &schema).await, (10, 55, 10));
}
