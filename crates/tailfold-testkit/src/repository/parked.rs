//! Events that a read model cannot handle: how long they are tried, what a panic costs, and how they are tried again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tailfold::{
    Batch, Checkpoint, Claim, Claimed, Delivery, EventId, HandleError, Parked, Position, ReadModel, Result,
    Store, Subscription,
};

use super::sales::{SaleEvent, Shop, StockEvent};
use super::subscriptions::{Shared, handled, model, recorded, soon};

const PAUSE: Duration = Duration::from_millis(20);

/// Short, so that what somebody asks for is seen soon.
const LEASE: Duration = Duration::from_millis(300);

async fn parked(store: &Arc<dyn Store>, name: &str) -> Vec<Parked> {
    Subscription::parked(&**store, name).await.expect("list")
}

async fn eventually(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(PAUSE).await;
    }
}

/// What fails is tried for longer than it takes to restart what the handler needs, by default; what stands before it need not
/// wait for it.
pub async fn an_event_that_fails_for_a_while_is_not_parked(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    shop.record_all(0..20).await;
    let positions = recorded(&store).await;
    let (shy, before) = (positions[7], positions[6]);
    let (seen, mended) = (Shared::default(), Arc::new(AtomicBool::new(false)));
    let attempts = Arc::new(AtomicU64::new(0));
    let fails = {
        let (mended, attempts) = (mended.clone(), attempts.clone());
        move |delivery: &Delivery<StockEvent>| {
            let is_shy = delivery.position() == shy;
            attempts.fetch_add(u64::from(is_shy), Ordering::Relaxed);
            is_shy && !mended.load(Ordering::Relaxed)
        }
    };
    let builder = Subscription::builder(store.clone(), "stock", model(&store, "stock", &seen, fails));
    let subscription = builder.start().expect("start");
    subscription.wait_for(before).await.expect("it is handled");
    // Six attempts take three seconds at most.
    eventually(|| attempts.load(Ordering::Relaxed) >= 6).await;
    assert_eq!(subscription.position(), before);
    assert!(parked(&store, "stock").await.is_empty());
    mended.store(true, Ordering::Relaxed);
    subscription.wait_until_current().await.expect("wait");
    assert_eq!(handled(&seen), positions);
    subscription.stop().await.expect("stop");
}

/// Who asks for it has a parked event tried again, or dropped: while the subscription works, or when it works again.
pub async fn a_parked_event_is_tried_again_or_dropped(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    shop.record_all(0..20).await;
    let positions = recorded(&store).await;
    let (first, second, third) = (positions[3], positions[7], positions[12]);
    let (seen, mended) = (Shared::default(), Arc::new(AtomicBool::new(false)));
    let start = || {
        let mended = mended.clone();
        let fails = move |delivery: &Delivery<StockEvent>| {
            [first, second, third].contains(&delivery.position()) && !mended.load(Ordering::Relaxed)
        };
        let builder = Subscription::builder(store.clone(), "stock", model(&store, "stock", &seen, fails));
        builder.retry(soon(0)).lease(LEASE).start().expect("start")
    };
    let retry = async |position| Subscription::retry_parked(&*store, "stock", position).await.expect("ask");
    let subscription = start();
    assert!(subscription.wait_for(third).await.is_err());
    let all: Vec<_> = parked(&store, "stock").await.iter().map(|one| one.position).collect();
    assert_eq!(all, [first, second, third]);
    let of_first = parked(&store, "stock").await.swap_remove(0);
    // In vain.
    assert_eq!(retry(Some(second)).await, 1);
    while parked(&store, "stock").await[1].attempts < 2 {
        tokio::time::sleep(PAUSE).await;
    }
    assert!(parked(&store, "stock").await.iter().all(|one| !one.retry_requested));
    // While it works.
    mended.store(true, Ordering::Relaxed);
    assert_eq!(retry(Some(second)).await, 1);
    while subscription.wait_for(second).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    assert!(handled(&seen).contains(&second));
    assert!(subscription.wait_for(first).await.is_err());
    subscription.stop().await.expect("stop");
    // When it works again, and not what was dropped.
    assert_eq!(retry(None).await, 2);
    for dropped in [1, 0] {
        let now = Subscription::drop_parked(&*store, "stock", Some(first)).await.expect("drop");
        assert_eq!(now, dropped);
    }
    let subscription = start();
    while !parked(&store, "stock").await.is_empty() {
        tokio::time::sleep(PAUSE).await;
    }
    // It goes on where it was.
    shop.record_all(20..23).await;
    subscription.wait_until_current().await.expect("wait");
    subscription.stop().await.expect("stop");
    let mut all = handled(&seen);
    all.sort_unstable();
    let without: Vec<_> = recorded(&store).await.into_iter().filter(|position| *position != first).collect();
    assert_eq!(all, without);
    // What was dropped does not come back when an attempt fails that was under way.
    let mut model = model(&store, "stock", &seen, |_| true);
    let claim = Claim { name: "stock".into(), owner: EventId::fresh(), lease: LEASE };
    let Claimed::Granted(Some(at)) = model.claim(&claim).await.expect("claim") else {
        panic!("it stands nowhere")
    };
    let batch =
        Batch { before: Some(&at), deliveries: &[], parked: Some(&of_first), unparked: None, after: &at };
    model.handle(&claim, batch).await.expect("handle");
    assert_eq!(parked(&store, "stock").await, [], "what was dropped");
}

/// Whoever waits for what was written is told where an event before it in its stream is parked, though it was before the call;
/// whoever waits for everything, where any is. Whoever waits for another stream's is not.
pub async fn who_waits_is_told_of_what_a_stream_lacks(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let sold = |quantity| SaleEvent::Sold { item: "tea".to_owned(), quantity };
    let both = shop.sales.execute("1", |_| Ok::<_, ()>(vec![sold(1), sold(2)])).await.expect("execute");
    let last = both.expect("no refusal").position().expect("it was appended");
    let poison = recorded(&store).await[0];
    let seen = Shared::default();
    let model = model(&store, "stock", &seen, move |delivery| delivery.position() == poison);
    let builder = Subscription::builder(store.clone(), "stock", model).retry(soon(0)).lease(LEASE);
    let subscription = builder.start().expect("start");
    eventually(|| subscription.position() >= last).await;
    assert_eq!(handled(&seen), [last]);
    let error = subscription.wait_for(last).await.expect_err("half of it is parked").to_string();
    assert!(error.contains(&format!("position {poison}")) && error.contains("is parked"), "{error}");
    shop.sell("2", sold(3)).await;
    let other = recorded(&store).await.last().copied();
    subscription.wait_for(other).await.expect("its stream is whole");
    let error = subscription.wait_until_current().await.expect_err("one is parked").to_string();
    assert!(error.contains(&format!("position {poison}")), "{error}");
    // As soon as the process has heard that nothing is parked any more.
    Subscription::drop_parked(&*store, "stock", None).await.expect("drop");
    while subscription.wait_for(last).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    subscription.wait_until_current().await.expect("nothing is parked");
    subscription.stop().await.expect("stop");
}

/// Many that are tried again take turns with what comes meanwhile, and wait for the next start when the subscription is stopped.
pub async fn many_that_are_tried_again_hold_nothing_up(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    shop.record_all(0..20).await;
    let positions = recorded(&store).await;
    let last = positions[19];
    let (seen, tried) = (Shared::default(), Arc::new(AtomicU64::new(0)));
    let mended = Arc::new(AtomicBool::new(false));
    // How many had been tried when the first came that was recorded meanwhile.
    let before = Arc::new(AtomicU64::new(u64::MAX));
    let fails = {
        let (tried, mended, before) = (tried.clone(), mended.clone(), before.clone());
        move |delivery: &Delivery<StockEvent>| {
            if delivery.position() > last {
                before.fetch_min(tried.load(Ordering::Relaxed), Ordering::Relaxed);
                return false;
            }
            let is_mended = mended.load(Ordering::Relaxed);
            if is_mended {
                // Longer than its turn, as long as nothing has come: that takes its time where a server is slow.
                let pause =
                    if before.load(Ordering::Relaxed) == u64::MAX { LEASE * 2 / 3 } else { LEASE / 10 };
                tokio::task::block_in_place(|| std::thread::sleep(pause));
                tried.fetch_add(1, Ordering::Relaxed);
            }
            !is_mended
        }
    };
    let model = model(&store, "stock", &seen, fails);
    let builder = Subscription::builder(store.clone(), "stock", model).retry(soon(0)).lease(LEASE);
    let subscription = builder.start().expect("start");
    eventually(|| subscription.position() >= last).await;
    mended.store(true, Ordering::Relaxed);
    assert_eq!(Subscription::retry_parked(&*store, "stock", None).await.expect("ask"), 20);
    eventually(|| tried.load(Ordering::Relaxed) > 0).await;
    shop.record(20).await;
    let live = recorded(&store).await.last().copied().expect("it was recorded");
    eventually(|| handled(&seen).contains(&live)).await;
    subscription.stop().await.expect("stop");
    assert!(before.load(Ordering::Relaxed) < 20, "what came meanwhile has waited for all of them");
    let tried = tried.load(Ordering::Relaxed) as usize;
    let left: Vec<_> = parked(&store, "stock").await.iter().map(|one| one.position).collect();
    assert_eq!(left, positions[tried..20]);
}

/// A parked event whose stream was erased since is gone when it is tried again.
pub async fn a_parked_event_of_an_erased_stream_is_gone_when_it_is_tried_again(store: Arc<dyn Store>) {
    if !store.capabilities().erase {
        return;
    }
    let shop = Shop::over(&store);
    shop.sell("gone", SaleEvent::Sold { item: "tea".to_owned(), quantity: 1 }).await;
    let poison = recorded(&store).await[0];
    let seen = Shared::default();
    let model = model(&store, "stock", &seen, move |delivery| delivery.position() == poison);
    let builder = Subscription::builder(store.clone(), "stock", model).retry(soon(0)).lease(LEASE);
    let subscription = builder.start().expect("start");
    assert!(subscription.wait_for(poison).await.is_err());
    let removed = shop.sales.erase("gone").await.expect("erase");
    subscription.wait_for(removed.tombstone).await.expect("told");
    Subscription::retry_parked(&*store, "stock", None).await.expect("ask");
    while !parked(&store, "stock").await.is_empty() {
        tokio::time::sleep(PAUSE).await;
    }
    subscription.stop().await.expect("stop");
    assert!(!handled(&seen).contains(&poison));
}

/// A handler that panics has failed at that event: it is parked, everything else is handled, the lease is kept and given back.
/// So it is with a read model that does not say which event it was.
pub async fn a_handler_that_panics_costs_its_event_and_nothing_else(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    shop.record_all(0..60).await;
    let positions = recorded(&store).await;
    let poison = [positions[0], positions[21], positions[22]];
    let without: Vec<_> = positions.iter().copied().filter(|at| !poison.contains(at)).collect();
    let twice_each = |parked: &[Parked]| {
        parked.iter().map(|one| (one.position, one.attempts)).eq(poison.map(|at| (at, 2)))
    };
    let seen = Shared::default();
    let told = model(&store, "told", &seen, move |delivery| {
        assert!(!poison.contains(&delivery.position()), "the handler does not expect that");
        false
    });
    let builder = Subscription::builder(store.clone(), "told", told).retry(soon(1));
    let subscription = builder.start().expect("start");
    assert!(subscription.wait_for(poison[2]).await.is_err());
    subscription.wait_until_current().await.expect_err("three are parked");
    assert!(subscription.is_working());
    assert_eq!(handled(&seen), without);
    let kept = parked(&store, "told").await;
    assert!(twice_each(&kept), "{kept:?}");
    assert_eq!(kept[0].error, "panicked: the handler does not expect that");
    subscription.stop().await.expect("stop");

    let mute = Mute(Arc::new(Mutex::new(Kept { poison: poison.to_vec(), ..Kept::default() })));
    let builder = Subscription::builder(store.clone(), "mute", mute.clone()).retry(soon(1));
    let subscription = builder.start().expect("start");
    assert!(subscription.wait_for(poison[2]).await.is_err());
    subscription.wait_until_current().await.expect_err("three are parked");
    subscription.stop().await.expect("stop");
    let kept = mute.kept();
    assert_eq!(kept.handled, without);
    assert!(twice_each(&kept.parked), "{:?}", kept.parked);
    assert!(kept.released);
}

/// A read model in memory that panics at some events, keeps all of a batch or nothing, and does not say which event it was.
#[derive(Clone)]
struct Mute(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    poison: Vec<Position>,
    checkpoint: Option<Checkpoint>,
    handled: Vec<Position>,
    parked: Vec<Parked>,
    released: bool,
}

impl Mute {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

#[async_trait::async_trait]
impl ReadModel for Mute {
    type Event = StockEvent;

    async fn claim(&mut self, _: &Claim) -> Result<Claimed> {
        Ok(Claimed::Granted(self.kept().checkpoint.clone()))
    }

    async fn handle(&mut self, _: &Claim, batch: Batch<'_, StockEvent>) -> Result<(), HandleError> {
        let positions: Vec<_> = batch.deliveries.iter().map(Delivery::position).collect();
        let is_poisoned = positions.iter().any(|position| self.kept().poison.contains(position));
        assert!(!is_poisoned, "one of them");
        let mut kept = self.kept();
        kept.handled.extend(positions);
        kept.parked.extend(batch.parked.cloned());
        kept.checkpoint = Some(batch.after.clone());
        Ok(())
    }

    async fn parked(&mut self, _: &str) -> Result<Vec<Parked>> {
        Ok(self.kept().parked.clone())
    }

    async fn release(&mut self, _: &Claim) -> Result<()> {
        self.kept().released = true;
        Ok(())
    }
}
