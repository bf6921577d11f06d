//! Live projections: no gap, no duplicate, restarts, poison, waiting for one's own writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tailfold::{
    BoxError, ByPosition, Checkpoint, Delivery, EventStore as _, Filter, Position, Removal, Retry, Store,
    StoreId, Subscription, Timestamp,
};

use super::sales::{SaleEvent, Shop, StockEvent};

/// What a handler has seen.
#[derive(Default)]
pub(super) struct Seen {
    positions: Vec<Position>,
    erased: Vec<String>,
}

pub(super) type Handler = Box<dyn FnMut(&Delivery<StockEvent>) -> Result<(), BoxError> + Send>;
pub(super) type Shared = Arc<Mutex<Seen>>;

pub(super) fn model(
    store: &Arc<dyn Store>,
    name: &str,
    seen: &Shared,
    mut fails: impl FnMut(&Delivery<StockEvent>) -> bool + Send + 'static,
) -> ByPosition<StockEvent, Handler> {
    let seen = seen.clone();
    let handler: Handler = Box::new(move |delivery: &Delivery<StockEvent>| {
        if fails(delivery) {
            return Err("the handler cannot do that".into());
        }
        let mut seen = seen.lock().expect("no handler panics");
        seen.positions.push(delivery.position());
        seen.erased.extend(delivery.erased().map(ToString::to_string));
        Ok(())
    });
    ByPosition::new(store.clone(), name, handler).expect("a good name")
}

pub(super) fn handled(seen: &Shared) -> Vec<Position> {
    seen.lock().expect("no handler panics").positions.clone()
}

/// The positions of what matches, as the log has them.
pub(super) async fn recorded(store: &Arc<dyn Store>) -> Vec<Position> {
    let mut found = Vec::new();
    for event in
        tailfold::EventStoreExt::read_all_to_vec(store, Position::ZERO, Filter::all()).await.expect("read")
    {
        let name = event.data.event_type.as_str();
        if <StockEvent as tailfold::Events>::knows(event.stream.category(), name)
            || event.data.event_type.is_tombstone()
        {
            found.push(event.position);
        }
    }
    found
}

/// What was there before and what comes while it works: everything once, in order; whoever waits for the position of a write
/// finds it handled.
pub async fn everything_is_handled_once_and_in_order(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    shop.record_all(0..50).await;
    let seen = Shared::default();
    let subscription =
        Subscription::builder(store.clone(), "stock", model(&store, "stock", &seen, |_| false))
            .batch(7)
            .start();
    let subscription = subscription.expect("start");
    let racing = (0..4).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let shop = Shop::over(&store);
            for n in 0..20 {
                let sold = SaleEvent::Sold { item: "tea".to_owned(), quantity: n };
                shop.sell(&format!("of-{task}"), sold).await;
            }
        })
    });
    for task in futures_util::future::join_all(racing).await {
        task.expect("no task fails");
    }
    let sold = SaleEvent::Sold { item: "pot".to_owned(), quantity: 1 };
    let receipt = shop.sales.execute("mine", |_| Ok::<_, ()>(sold.clone())).await.expect("execute");
    let position = receipt.expect("no refusal").position().expect("it was appended");
    subscription.wait_for(position).await.expect("wait");
    assert_eq!(handled(&seen).last(), Some(&position));
    assert_eq!(handled(&seen), recorded(&store).await);
    // What does not match is waited for as well.
    let remark = SaleEvent::Remarked { remark: "nothing".to_owned() };
    let receipt = shop.sales.execute("mine", |_| Ok::<_, ()>(remark.clone())).await.expect("execute");
    let position = receipt.expect("no refusal").position().expect("it was appended");
    subscription.wait_for(position).await.expect("wait");
    let nothing = shop.sales.execute("mine", |_| Ok::<_, ()>(Vec::new())).await.expect("execute");
    subscription.wait_for(nothing.expect("no refusal").position()).await.expect("wait");
    subscription.wait_until_current().await.expect("wait");
    assert_eq!(subscription.lag().await.expect("lag").events, 0);
    assert!(subscription.is_working());
    subscription.stop().await.expect("stop");
}

/// A subscription that was stopped goes on where it was.
pub async fn a_restarted_subscription_goes_on_where_it_was(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let seen = Shared::default();
    for round in 0..3 {
        shop.record_all(round * 10..round * 10 + 10).await;
        let model = model(&store, "stock", &seen, |_| false);
        let subscription = Subscription::builder(store.clone(), "stock", model).start().expect("start");
        subscription.wait_until_current().await.expect("wait");
        subscription.stop().await.expect("stop");
    }
    assert_eq!(handled(&seen), recorded(&store).await);
}

/// An event that always fails is parked by name, with its position, after the retries; one that fails for a while is not, and
/// what stands around both is handled.
pub async fn an_event_that_cannot_be_handled_is_parked_and_the_rest_goes_on(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    shop.record_all(0..20).await;
    let positions = recorded(&store).await;
    let (poison, shy) = (positions[7], positions[12]);
    let (attempts, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let seen = Shared::default();
    let fails = {
        let (attempts, mut shyness) = (attempts.clone(), 2);
        let open = gate.clone();
        move |delivery: &Delivery<StockEvent>| {
            wait_at(&open);
            if delivery.position() == shy && shyness > 0 {
                shyness -= 1;
                return true;
            }
            let is_poison = delivery.position() == poison;
            attempts.fetch_add(u64::from(is_poison), Ordering::Relaxed);
            is_poison
        }
    };
    let model = model(&store, "stock", &seen, fails);
    let builder = Subscription::builder(store.clone(), "stock", model).retry(soon(2)).batch(50);
    let subscription = builder.start().expect("start");
    // Whoever waits for everything is told, now and later; whoever waits for an event, of that and its stream.
    let (told, ()) =
        tokio::join!(subscription.wait_until_current(), async { gate.store(true, Ordering::Relaxed) });
    let error = told.expect_err("one is parked").to_string();
    assert!(error.contains(&format!("position {poison}")) && error.contains("is parked"), "{error}");
    subscription.wait_until_current().await.expect_err("one is parked");
    subscription.wait_for(shy).await.expect("it was handled");
    assert!(subscription.wait_for(poison).await.is_err());
    assert_eq!(attempts.load(Ordering::Relaxed), 3);
    let without: Vec<_> = positions.iter().copied().filter(|position| *position != poison).collect();
    assert_eq!(handled(&seen), without);
    let parked = Subscription::parked(&*store, "stock").await.expect("list");
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].position, parked[0].attempts), (poison, 3));
    assert_eq!(parked[0].error, "the handler cannot do that");
    let kept = Subscription::checkpoints(&*store).await.expect("list");
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].name.as_str(), kept[0].parked, kept[0].leased_until), ("stock", 1, None));
    let checkpoint = kept[0].checkpoint.as_ref().expect("events were handled");
    assert!(Some(&checkpoint.position) >= positions.last(), "{checkpoint:?}");
    subscription.stop().await.expect("stop");
    // After a restart, too.
    let again = Subscription::builder(store.clone(), "stock", self::model(&store, "stock", &seen, |_| false));
    let again = again.start().expect("start");
    again.wait_until_current().await.expect_err("one is parked");
    assert!(again.wait_for(poison).await.is_err());
    again.stop().await.expect("stop");
}

/// Blocks nobody else: connections have tasks of their own on these threads.
fn wait_at(gate: &AtomicBool) {
    tokio::task::block_in_place(|| {
        while !gate.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// So many repetitions, with pauses that a case can wait for.
pub(super) fn soon(limit: u32) -> Retry {
    Retry { limit, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(10) }
}

/// An erased stream is told, so that what came from it can go.
pub async fn an_erased_stream_is_told_to_a_read_model(store: Arc<dyn Store>) {
    if !store.capabilities().erase {
        return;
    }
    let shop = Shop::over(&store);
    shop.record_all(0..10).await;
    let seen = Shared::default();
    let subscription =
        Subscription::builder(store.clone(), "stock", model(&store, "stock", &seen, |_| false)).start();
    let subscription = subscription.expect("start");
    subscription.wait_until_current().await.expect("wait");
    let removed = shop.sales.erase("1").await.expect("erase");
    subscription.wait_for(removed.tombstone).await.expect("wait");
    assert_eq!(seen.lock().expect("no handler panics").erased, ["sale/1"]);
    // The last event handled was the tombstone, or is erased next: it goes on all the same.
    subscription.stop().await.expect("stop");
    store
        .remove(&"sale/2".parse().expect("an id"), Removal::erase(Timestamp::from_micros(0)))
        .await
        .expect("erase");
    let subscription =
        Subscription::builder(store.clone(), "stock", model(&store, "stock", &seen, |_| false)).start();
    let subscription = subscription.expect("start");
    subscription.wait_until_current().await.expect("wait");
    assert_eq!(seen.lock().expect("no handler panics").erased, ["sale/1", "sale/2"]);
    subscription.stop().await.expect("stop");
}

/// What was parked of a stream goes when that is erased, since the texts of errors may quote it; what was parked of others stays.
pub async fn what_was_parked_of_an_erased_stream_goes(store: Arc<dyn Store>) {
    if !store.capabilities().erase {
        return;
    }
    let shop = Shop::over(&store);
    for customer in ["1", "2"] {
        shop.sell(customer, SaleEvent::Sold { item: "tea".to_owned(), quantity: 1 }).await;
    }
    let seen = Shared::default();
    let fails = |delivery: &Delivery<StockEvent>| delivery.event().is_some();
    let model = model(&store, "stock", &seen, fails);
    let subscription =
        Subscription::builder(store.clone(), "stock", model).retry(soon(0)).start().expect("start");
    subscription.wait_until_current().await.expect_err("both are parked");
    let parked = async || {
        let parked = Subscription::parked(&*store, "stock").await.expect("list");
        parked.iter().map(|parked| parked.stream.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(parked().await, ["sale/1", "sale/2"]);
    let removed = shop.sales.erase("1").await.expect("erase");
    subscription.wait_for(removed.tombstone).await.expect("wait");
    assert_eq!(parked().await, ["sale/2"]);
    subscription.stop().await.expect("stop");
}

/// Shares split the streams: each stream's events are handled by one of them, in order, none by two.
pub async fn shares_split_the_streams_among_them(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    for n in 0..30 {
        shop.sell(&format!("{}", n % 10), SaleEvent::Sold { item: "tea".to_owned(), quantity: n }).await;
    }
    let by_share: Vec<Shared> = (0..3).map(|_| Shared::default()).collect();
    let mut subscriptions = Vec::new();
    for (share, seen) in by_share.iter().enumerate() {
        let model = model(&store, "stock", seen, |_| false);
        let builder = Subscription::builder(store.clone(), "stock", model).share(share as u32, 3);
        subscriptions.push(builder.start().expect("start"));
    }
    for subscription in subscriptions {
        subscription.wait_until_current().await.expect("wait");
        subscription.stop().await.expect("stop");
    }
    let mut all: Vec<_> = by_share.iter().flat_map(handled).collect();
    assert!(by_share.iter().filter(|seen| !handled(seen).is_empty()).count() > 1);
    all.sort_unstable();
    assert_eq!(all, recorded(&store).await);
}

/// A model that stands in another store, or behind an event that this log does not have, is told so and not fed.
pub async fn a_read_model_of_another_log_is_refused(store: Arc<dyn Store>) {
    struct Fixed(Checkpoint);
    #[async_trait::async_trait]
    impl tailfold::ReadModel for Fixed {
        type Event = StockEvent;
        async fn claim(&mut self, _: &tailfold::Claim) -> tailfold::Result<tailfold::Claimed> {
            Ok(tailfold::Claimed::Granted(Some(self.0.clone())))
        }
        async fn handle(
            &mut self,
            _: &tailfold::Claim,
            _: tailfold::Batch<'_, StockEvent>,
        ) -> Result<(), tailfold::HandleError> {
            panic!("nothing may be handed to it");
        }
        async fn parked(&mut self, _: &str) -> tailfold::Result<Vec<tailfold::Parked>> {
            Ok(Vec::new())
        }
        async fn release(&mut self, _: &tailfold::Claim) -> tailfold::Result<()> {
            Ok(())
        }
    }
    let shop = Shop::over(&store);
    shop.record_all(0..5).await;
    let id = store.store_id().await.expect("id");
    let all =
        tailfold::EventStoreExt::read_all_to_vec(&store, Position::ZERO, Filter::all()).await.expect("read");
    let event = &all[2];
    let mut head = event.head();
    head.chain = all[3].chain;
    let last = tailfold::HandledEvent { position: event.position, stream: event.stream.clone(), head };
    for checkpoint in [
        Checkpoint { store: StoreId::fresh(), position: event.position, last: None },
        Checkpoint { store: id, position: event.position, last: Some(last) },
    ] {
        let subscription =
            Subscription::builder(store.clone(), "stock", Fixed(checkpoint)).start().expect("start");
        let error = subscription.failed().await.to_string();
        assert!(error.contains("subscription `stock`") && error.contains("built anew"), "{error}");
        assert!(subscription.wait_for(all[4].position).await.is_err());
        assert!(subscription.stop().await.is_err());
    }
}

/// A slow handler holds the log back, not memory: while it works, no more than one batch of the store and the next are read.
pub async fn a_slow_handler_is_waited_for(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    shop.record_all(0..30).await;
    let gate = Arc::new(AtomicBool::new(false));
    let counts: Arc<Mutex<BTreeMap<Position, u64>>> = Arc::default();
    let (open, seen) = (gate.clone(), counts.clone());
    let handler = move |delivery: &Delivery<StockEvent>| {
        wait_at(&open);
        *seen.lock().expect("no handler panics").entry(delivery.position()).or_default() += 1;
        Ok(())
    };
    let model = ByPosition::new(store.clone(), "slow", handler).expect("a good name");
    let subscription = Subscription::builder(store.clone(), "slow", model).start().expect("start");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(subscription.position(), Position::ZERO);
    let lag = subscription.lag().await.expect("lag");
    assert_eq!(lag.events, 30);
    gate.store(true, Ordering::Relaxed);
    subscription.wait_until_current().await.expect("wait");
    assert!(counts.lock().expect("no handler panics").values().all(|count| *count == 1));
    assert_eq!(counts.lock().expect("no handler panics").len(), 30);
    subscription.stop().await.expect("stop");
}
