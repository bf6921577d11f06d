//! What harms an event, or the keeping of it, harms nothing else of a subscription, and is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Deserializer, Serialize};
use tailfold::{
    Batch, BoxError, ByPosition, Chain, Claim, Claimed, Commit, Day, Delivery, Error, ErrorKind, Event,
    EventData, EventMeta, EventStore as _, EventType, Expected, Fold, HandleError, Head, Keep, MemoryStore,
    NewEvent, Parked, Policy, Position, ReadModel, Repository, Result, Retry, Save, Slot, SnapshotStore as _,
    State, Subscription, Version,
};

/// Amounts that cannot be decoded without a panic: never, and at first.
const NEVER: u64 = 13;
const AT_FIRST: u64 = 7;

static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Amount(u64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = u64::deserialize(deserializer)?;
        assert_ne!(amount, NEVER, "nobody counts to that");
        assert!(amount != AT_FIRST || ATTEMPTS.fetch_add(1, Ordering::Relaxed) >= 2, "not yet");
        Ok(Self(amount))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    Added { amount: Amount },
}

/// As they are stored: whoever records typed events decodes them first.
async fn record(store: &MemoryStore, amounts: impl IntoIterator<Item = u64>) -> Position {
    let event = |amount| {
        let data = EventData::new(
            EventType::new("counter.added").unwrap(),
            format!(r#"{{"amount":{amount}}}"#).into_bytes(),
        );
        NewEvent::new(data).unwrap()
    };
    let events = amounts.into_iter().map(event).collect();
    let commit = Commit::new("counter/1".parse().unwrap(), Expected::Any, events);
    store.append(commit).await.unwrap().position
}

type Seen = Arc<Mutex<Vec<u64>>>;
type Handler = Box<dyn FnMut(&Delivery<CounterEvent>) -> Result<(), BoxError> + Send>;

fn model(
    store: &MemoryStore,
    seen: &Seen,
    fails: impl Fn(u64) -> Option<String> + Send + 'static,
) -> ByPosition<CounterEvent, Handler> {
    let seen = seen.clone();
    let handler: Handler = Box::new(move |delivery| {
        if let Some(CounterEvent::Added { amount: Amount(amount) }) = delivery.event() {
            if let Some(error) = fails(*amount) {
                return Err(error.into());
            }
            seen.lock().unwrap().push(*amount);
        }
        Ok(())
    });
    ByPosition::new(store.clone(), "seen", handler).unwrap()
}

fn soon(limit: u32) -> Retry {
    Retry { limit, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(10) }
}

#[tokio::test]
async fn an_event_whose_decoding_panics_is_tried_again_and_parked_alone() {
    let (store, seen) = (MemoryStore::new(), Seen::default());
    let last = record(&store, [1, NEVER, 2]).await;
    let builder = Subscription::builder(store.clone(), "seen", model(&store, &seen, |_| None));
    let subscription = builder.retry(soon(2)).start().unwrap();
    let told = subscription.wait_for(last).await.unwrap_err().to_string();
    assert!(told.contains("position 2") && told.contains("nobody counts to that"), "{told}");
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    assert!(subscription.is_working());
    let parked = Subscription::parked(&store, "seen").await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].position, parked[0].attempts), (Position(2), 3), "{parked:?}");
    subscription.wait_for(record(&store, [3]).await).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
    subscription.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_whose_decoding_panics_for_a_while_is_handled_in_its_turn() {
    let (store, seen) = (MemoryStore::new(), Seen::default());
    let last = record(&store, [1, AT_FIRST, 2]).await;
    let builder = Subscription::builder(store.clone(), "seen", model(&store, &seen, |_| None));
    let subscription = builder.retry(soon(5)).start().unwrap();
    subscription.wait_for(last).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, AT_FIRST, 2]);
    subscription.stop().await.unwrap();
}

#[tokio::test]
async fn an_error_of_any_length_is_parked_and_can_be_listed() {
    let (store, seen) = (MemoryStore::new(), Seen::default());
    record(&store, [1, 2]).await;
    let fails = |amount| (amount == 1).then(|| "ä".repeat(1 << 20));
    let start = || {
        let builder = Subscription::builder(store.clone(), "seen", model(&store, &seen, fails));
        builder.retry(soon(0)).start().unwrap()
    };
    let subscription = start();
    subscription.wait_for(Position(1)).await.unwrap_err();
    subscription.stop().await.unwrap();
    let subscription = start();
    subscription.wait_for(record(&store, [3]).await).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [2, 3]);
    subscription.stop().await.unwrap();
    let parked = Subscription::parked(&store, "seen").await.unwrap();
    assert_eq!(parked.len(), 1);
    let error = &parked[0].error;
    assert!(error.len() < 9_000 && error.ends_with("ä.. (2097152 bytes)"), "{} bytes", error.len());
}

#[tokio::test]
async fn a_parked_event_that_is_damaged_is_in_nobodys_way_and_can_be_dropped() {
    let (store, seen) = (MemoryStore::new(), Seen::default());
    record(&store, [1]).await;
    let slot = |position| {
        let key = format!("seen!{position:020}");
        Slot::new(Slot::LASTING, "0000000000000001".parse().unwrap(), &key).unwrap()
    };
    let fails = |amount| (amount == 1).then(|| "not that".to_owned());
    let start = || {
        let builder = Subscription::builder(store.clone(), "seen", model(&store, &seen, fails));
        builder.retry(soon(0)).lease(Duration::from_millis(60)).start().unwrap()
    };
    let subscription = start();
    subscription.wait_for(Position(1)).await.unwrap_err();
    subscription.stop().await.unwrap();
    let head = Head { version: Version(2), chain: Chain::from_bytes([0; 16]) };
    let save = Save { head, bytes: "?".into(), keep: Keep::Newest, day: Day(1) };
    store.save(&slot(2), save).await.unwrap();
    let subscription = start();
    let last = record(&store, [2]).await;
    assert!(tokio::time::timeout(Duration::from_secs(5), subscription.wait_for(last)).await.is_ok());
    assert_eq!(*seen.lock().unwrap(), [2]);
    let error = Subscription::parked(&store, "seen").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("parked at position 2"), "{error}");
    // The other one can be tried again, and this one dropped.
    assert_eq!(Subscription::retry_parked(&store, "seen", Some(Position(1))).await.unwrap(), 1);
    assert_eq!(Subscription::drop_parked(&store, "seen", Some(Position(2))).await.unwrap(), 1);
    assert_eq!(Subscription::parked(&store, "seen").await.unwrap().len(), 1);
    subscription.stop().await.unwrap();
}

/// A read model that fails for good, and panics when the lease is given back.
struct Stubborn;

#[async_trait]
impl ReadModel for Stubborn {
    type Event = CounterEvent;

    async fn claim(&mut self, _: &Claim) -> Result<Claimed> {
        Ok(Claimed::Granted(None))
    }

    async fn handle(&mut self, _: &Claim, _: Batch<'_, CounterEvent>) -> Result<(), HandleError> {
        Err(Error::invalid("no more room").into())
    }

    async fn parked(&mut self, _: &str) -> Result<Vec<Parked>> {
        Ok(Vec::new())
    }

    async fn release(&mut self, _: &Claim) -> Result<()> {
        panic!("the lease is mine")
    }
}

#[tokio::test]
async fn a_read_model_that_panics_in_the_end_has_ended_all_the_same() {
    let store = MemoryStore::new();
    record(&store, [1]).await;
    let subscription = Subscription::builder(store, "seen", Stubborn).start().unwrap();
    let error = subscription.failed().await.to_string();
    assert!(error.contains("no more room"), "{error}");
    assert!(!subscription.is_working());
}

/// Has the name of what is kept of subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "tailfold-subscription")]
struct Impostor {
    total: u64,
}

impl Fold for Impostor {
    type Event = CounterEvent;

    fn apply(&mut self, CounterEvent::Added { amount }: CounterEvent, _: &EventMeta<'_>) {
        self.total += amount.0;
    }
}

#[test]
fn no_state_is_kept_among_what_is_kept_of_subscriptions() {
    let builder = Repository::<Impostor>::builder(MemoryStore::new()).snapshots(Policy::every(1));
    let error = builder.build().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("never swept: take another"), "{error}");
}

#[test]
fn a_subscription_whose_runtime_is_gone_does_not_work() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (store, seen) = (MemoryStore::new(), Seen::default());
    let subscription = runtime.block_on(async {
        let last = record(&store, [1]).await;
        let builder = Subscription::builder(store.clone(), "seen", model(&store, &seen, |_| None));
        let subscription = builder.start().unwrap();
        subscription.wait_for(last).await.unwrap();
        subscription
    });
    assert!(subscription.is_working());
    drop(runtime);
    assert!(!subscription.is_working());
}
