//! Projections: what they fold, what serves them, and that no snapshot changes an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tailfold::{
    Commit, EventData, EventMeta, EventStore as _, EventStoreExt as _, EventType, Expected, Filter, Fold,
    Keep, MemoryStore, NewEvent, Policy, Position, Projection, Rejection, Removal, Repository, Result, Rule,
    Save, SlotFilter, SnapshotConfig, SnapshotStore as _, SnapshotStoreExt as _, Source, State, Store,
    Timestamp,
};

use super::sales::{ItemStock, SaleEvent, SalesByStream, Shop, Stock, StockEvent};
use super::tiers::near;
use crate::Fault;

fn every<P: Projection>(store: &Arc<dyn Store>, n: u64) -> Repository<P> {
    Repository::builder(store.clone()).snapshots(Policy::every(n)).build().expect("the store can do that")
}

/// The state as a replay has it that takes no part in snapshots.
async fn truth<P: Projection<Key = ()>>(store: &Arc<dyn Store>) -> P {
    let plain = Repository::<P>::builder(store.clone()).build().expect("nothing can be wrong");
    plain.load(()).await.expect("plain replay").state().clone()
}

/// The state as a pass over the whole log has it, which knows nothing of filters and projections.
async fn pass(store: &Arc<dyn Store>) -> Stock {
    let mut stock = Stock::default();
    for event in store.read_all_to_vec(Position::ZERO, Filter::all()).await.expect("read the log") {
        let (category, data) = (event.stream.category(), &event.data);
        let typed = <StockEvent as tailfold::Events>::decode_from(
            category,
            data.event_type.as_str(),
            data.schema_version,
            &data.payload,
        );
        if let Ok(typed) = typed {
            stock.apply(typed, &event.meta());
        }
    }
    stock
}

/// A union of the events of several aggregates is folded in the order of the log, by key or all; what a type does not know is
/// never read.
pub async fn a_query_over_many_streams_is_folded_in_order(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let stock = every::<Stock>(&store, 10);
    let empty = stock.load(()).await.expect("load");
    assert_eq!((empty.state(), empty.last_event()), (&Stock::default(), None));
    shop.record_all(0..40).await;
    shop.remark(7).await;
    let loaded = stock.load(()).await.expect("load");
    assert_eq!(*loaded.state(), pass(&store).await);
    assert_eq!((loaded.state().count, loaded.report().replayed_events), (40, 40));
    let items = every::<ItemStock>(&store, 10);
    let mut sum = 0;
    for item in ["tea", "cup", "pot", "nothing"] {
        let one = items.load(item).await.expect("load");
        assert_eq!(one.state().quantity, loaded.state().items.get(item).copied().unwrap_or(0), "{item}");
        sum += one.report().replayed_events;
    }
    assert_eq!(sum, 40);
}

/// A load replays what is new since the snapshot, exactly.
pub async fn a_load_replays_what_is_new_and_nothing_else(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let stock = every::<Stock>(&store, 1);
    shop.record_all(0..30).await;
    assert_eq!(stock.load(()).await.expect("load").report().source, Source::Replay);
    let mut recorded = 30;
    for new in [1, 10, 100] {
        stock.flush().await;
        shop.record_all(recorded..recorded + new).await;
        recorded += new;
        let loaded = stock.load(()).await.expect("load");
        assert!(matches!(loaded.report().source, Source::Snapshot(_)), "{:?}", loaded.report());
        assert_eq!(loaded.report().replayed_events, new);
        assert_eq!(*loaded.state(), pass(&store).await);
    }
    // Nothing new: nothing replayed, nothing written.
    stock.flush().await;
    let before = store.list_to_vec(SlotFilter::fold("stock")).await.expect("list");
    let loaded = stock.load(()).await.expect("load");
    assert_eq!((loaded.report().replayed_events, loaded.state().count), (0, 141));
    stock.flush().await;
    assert_eq!(store.list_to_vec(SlotFilter::fold("stock")).await.expect("list"), before);
}

/// Events that do not match cause no snapshot, and are looked at once: how far that went is kept beside the state.
pub async fn a_quiet_projection_neither_rescans_the_log_nor_rewrites_its_state(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let stock = every::<Stock>(&store, 1);
    shop.record_all(0..20).await;
    stock.load(()).await.expect("load");
    stock.flush().await;
    let snapshots = async || {
        let listed = store.list_to_vec(SlotFilter::fold("stock")).await.expect("list");
        let mut heads: Vec<_> =
            listed.iter().filter(|info| info.slot.key() == "*").map(|info| (info.head, info.bytes)).collect();
        heads.dedup();
        heads
    };
    let before = snapshots().await;
    assert_eq!(before.len(), 1);
    shop.remark(3_000).await;
    let loaded = stock.load(()).await.expect("load");
    assert_eq!((loaded.report().replayed_events, loaded.state().count), (0, 20));
    stock.flush().await;
    let again = stock.load(()).await.expect("load");
    assert_eq!((again.report().replayed_events, again.state()), (0, loaded.state()));
    assert!(again.report().visited_events < 1_000, "{:?}", again.report());
    stock.flush().await;
    assert_eq!(snapshots().await, before, "the state was written again");
    // What matches afterwards is found from there.
    shop.record_all(20..23).await;
    let loaded = stock.load(()).await.expect("load");
    assert_eq!((loaded.report().replayed_events, loaded.state()), (3, &pass(&store).await));
    assert!(loaded.report().visited_events < 1_000, "{:?}", loaded.report());
    // A projection that nothing matches does not look through the log again either.
    let nothing = every::<ItemStock>(&store, 1);
    for _ in 0..3 {
        assert_eq!(nothing.load("nothing").await.expect("load").state().quantity, 0);
        nothing.flush().await;
    }
    assert!(nothing.load("nothing").await.expect("load").report().visited_events < 1_000);
}

/// A cursor stands after the last event that matches, whether a snapshot holds that event or not.
pub async fn a_cursor_leaves_out_no_event_that_no_snapshot_holds(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let stock = every::<Stock>(&store, 1_000_000);
    shop.record_all(0..20).await;
    shop.remark(3_000).await;
    for _ in 0..3 {
        let loaded = stock.load(()).await.expect("load");
        assert_eq!((loaded.report().replayed_events, loaded.state()), (20, &pass(&store).await));
        stock.flush().await;
    }
    assert!(stock.load(()).await.expect("load").report().visited_events < 1_100);
    // With a snapshot in the middle of what the cursor stands behind.
    every::<Stock>(&store, 1).load(()).prewarm().await.expect("prewarm");
    shop.record_all(20..25).await;
    shop.remark(2_000).await;
    for _ in 0..2 {
        let loaded = stock.load(()).await.expect("load");
        assert_eq!((loaded.report().replayed_events, loaded.state()), (5, &pass(&store).await));
        stock.flush().await;
    }
}

/// A cursor of another store, which says that nothing matches, leaves nothing out here.
pub async fn a_cursor_of_another_store_is_not_believed(store: Arc<dyn Store>) {
    let other: Arc<dyn Store> = Arc::new(MemoryStore::new());
    Shop::over(&other).remark(3_000).await;
    let elsewhere = every::<ItemStock>(&other, 1);
    elsewhere.load("tea").await.expect("load");
    elsewhere.flush().await;
    let [kept] =
        other.list_to_vec(SlotFilter::fold("item-stock")).await.expect("list").try_into().expect("one");
    assert_eq!(kept.slot.key(), "^tea");
    let cursor = other.newest(&kept.slot, None).await.expect("read").expect("it was listed");
    let save = Save { head: cursor.head, bytes: cursor.bytes, keep: Keep::Newest, day: cursor.used };
    store.save(&kept.slot, save).await.expect("save");
    let shop = Shop::over(&store);
    shop.record_all(0..31).await;
    shop.remark(3_000).await;
    let items = every::<ItemStock>(&store, 1);
    let right = pass(&store).await.items.get("tea").copied();
    assert_eq!(Some(items.load("tea").await.expect("load").state().quantity), right);
}

/// A cursor that is broken, of another log or contradicted by an event costs a longer look.
pub async fn a_wrong_cursor_changes_no_answer(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let stock = every::<Stock>(&store, 1);
    shop.record_all(0..5).await;
    shop.remark(1_500).await;
    stock.load(()).await.expect("load");
    stock.flush().await;
    shop.record_all(5..9).await;
    let listed = store.list_to_vec(SlotFilter::fold("stock")).await.expect("list");
    let Some(cursor) = listed.iter().find(|info| info.slot.key() == "^") else {
        // This store finds what matches without looking at the rest.
        assert!(stock.load(()).await.expect("load").report().visited_events < 1_000);
        return;
    };
    let kept = store.newest(&cursor.slot, None).await.expect("read").expect("it was listed");
    for index in 0..kept.bytes.len() {
        let mut bytes = kept.bytes.to_vec();
        bytes[index] ^= 0x40;
        let save = Save { head: kept.head, bytes: bytes.into(), keep: Keep::Newest, day: kept.used };
        store.save(&cursor.slot, save).await.expect("save");
        if index % 17 == 0 {
            assert_eq!(*stock.load(()).await.expect("load").state(), pass(&store).await, "byte {index}");
        }
    }
}

/// A snapshot of another store, even one with the same events, never serves: positions are those of one store.
pub async fn a_snapshot_of_another_store_never_serves(store: Arc<dyn Store>) {
    let other: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let shop = Shop::over(&other);
    shop.record_all(0..12).await;
    shop.sell("0", SaleEvent::Sold { item: "tea".to_owned(), quantity: 1_000 }).await;
    let elsewhere = every::<Stock>(&other, 1);
    elsewhere.load(()).await.expect("load");
    elsewhere.flush().await;
    let [kept] = other.list_to_vec(SlotFilter::fold("stock")).await.expect("list").try_into().expect("one");
    let bytes = other.newest(&kept.slot, None).await.expect("read").expect("it was listed");
    let save = Save { head: bytes.head, bytes: bytes.bytes, keep: Keep::Newest, day: bytes.used };
    store.save(&kept.slot, save).await.expect("save");
    Shop::over(&store).record_all(0..13).await;
    let stock = every::<Stock>(&store, 1);
    let loaded = stock.load(()).await.expect("load");
    assert_eq!(*loaded.state(), pass(&store).await);
    assert_eq!(loaded.report().source, Source::Replay);
    let reason = loaded.report().rejected[0].reason;
    assert!(
        [Rejection::Diverged, Rejection::Ahead, Rejection::Truncated].contains(&reason),
        "{:?}",
        loaded.report()
    );
    // It made room.
    stock.flush().await;
    assert!(matches!(stock.load(()).await.expect("load").report().source, Source::Snapshot(_)));
}

/// A snapshot with flipped bits is rejected, and the answer right.
pub async fn a_damaged_snapshot_of_a_projection_is_rejected(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let stock = every::<Stock>(&store, 1);
    shop.record_all(0..10).await;
    stock.load(()).await.expect("load");
    stock.flush().await;
    let [kept] = store.list_to_vec(SlotFilter::fold("stock")).await.expect("list").try_into().expect("one");
    let right = store.newest(&kept.slot, None).await.expect("read").expect("it was listed");
    for index in (0..right.bytes.len()).step_by(5) {
        let mut bytes = right.bytes.to_vec();
        bytes[index] ^= 1;
        let save = Save { head: right.head, bytes: bytes.into(), keep: Keep::Newest, day: right.used };
        store.save(&kept.slot, save).await.expect("save");
        let loaded = stock.load(()).await.expect("load");
        assert_eq!((loaded.state().count, loaded.report().source), (10, Source::Replay), "byte {index}");
        stock.flush().await;
    }
}

/// Another selection of events makes another serial; two releases do not evict each other.
pub async fn other_event_types_make_another_serial(store: Arc<dyn Store>) {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
    #[state(name = "item-stock", projection)]
    struct SoldOnly {
        quantity: i64,
    }
    impl Fold for SoldOnly {
        type Event = super::sales::Departure;
        fn apply(&mut self, _: super::sales::Departure, _: &EventMeta<'_>) {
            self.quantity += 1;
        }
    }
    impl Projection for SoldOnly {
        type Key = String;
        fn query(item: &String) -> Result<Filter> {
            ItemStock::query(item)
        }
    }
    let shop = Shop::over(&store);
    shop.record_all(0..30).await;
    let (old, new) = (every::<ItemStock>(&store, 1), every::<SoldOnly>(&store, 1));
    assert_ne!(old.serial(), new.serial());
    for _ in 0..2 {
        old.load("cup").await.expect("load");
        new.load("cup").await.expect("load");
        old.flush().await;
        new.flush().await;
    }
    assert!(matches!(old.load("cup").await.expect("load").report().source, Source::Snapshot(_)));
    let loaded = new.load("cup").await.expect("load");
    assert!(matches!(loaded.report().source, Source::Snapshot(_)));
    assert!(loaded.report().rejected.is_empty());
}

/// Another query finds no snapshot of this one.
pub async fn another_query_rejects_the_snapshot_of_this_one(store: Arc<dyn Store>) {
    static ITEM: AtomicU64 = AtomicU64::new(0);
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
    #[state(name = "changing", projection)]
    struct Changing {
        count: u64,
    }
    impl Fold for Changing {
        type Event = StockEvent;
        fn apply(&mut self, _: StockEvent, _: &EventMeta<'_>) {
            self.count += 1;
        }
    }
    impl Projection for Changing {
        type Key = ();
        fn query((): &()) -> Result<Filter> {
            match ITEM.load(Ordering::Relaxed) {
                0 => ItemStock::query(&"tea".to_owned()),
                // Selects the snapshot's event as well.
                _ => Ok(Filter::all()),
            }
        }
    }
    let shop = Shop::over(&store);
    shop.record_all(0..31).await;
    let changing = every::<Changing>(&store, 1);
    let tea = changing.load(()).await.expect("load").state().count;
    changing.flush().await;
    ITEM.fetch_add(1, Ordering::Relaxed);
    let loaded = changing.load(()).await.expect("load");
    assert_eq!(loaded.report().source, Source::Replay, "{:?}", loaded.report());
    assert_eq!((tea, loaded.state().count), (11, 31));
    assert_eq!(loaded.report().rejected[0].reason, Rejection::Diverged);
    ITEM.fetch_sub(1, Ordering::Relaxed);
}

/// What was folded of a stream that is erased goes: by a rebuild, or by what the projection takes out itself. No snapshot that
/// holds it stays.
pub async fn an_erased_stream_leaves_every_projection(store: Arc<dyn Store>) {
    if !store.capabilities().erase {
        return;
    }
    let shop = Shop::over(&store);
    let (stock, by_stream) = (every::<Stock>(&store, 1), every::<SalesByStream>(&store, 1_000));
    shop.record_all(0..30).await;
    let before = stock.load(()).await.expect("load").state().clone();
    by_stream.load(()).prewarm().await.expect("prewarm");
    stock.flush().await;
    let removed = shop.sales.erase("1").await.expect("erase");
    assert!(removed.events > 0);
    let loaded = stock.load(()).await.expect("load");
    assert_ne!(*loaded.state(), before);
    assert_eq!(*loaded.state(), pass(&store).await);
    assert_eq!(loaded.report().source, Source::Replay);
    assert_eq!(loaded.report().rejected[0].reason, Rejection::Erased, "{:?}", loaded.report());
    // From then on the tombstone is old.
    stock.flush().await;
    let again = stock.load(()).await.expect("load");
    assert!(matches!(again.report().source, Source::Snapshot(_)), "{:?}", again.report());
    assert!(again.report().rejected.is_empty());
    // The other one goes on from its snapshot, and the snapshot that held the stream is replaced at once.
    let old = store.list_to_vec(SlotFilter::fold("sales-by-stream")).await.expect("list");
    let forgotten = by_stream.load(()).await.expect("load");
    assert!(matches!(forgotten.report().source, Source::Snapshot(_)));
    assert_eq!(*forgotten.state(), truth::<SalesByStream>(&store).await);
    assert!(!forgotten.state().taken.contains_key("sale/1"));
    by_stream.flush().await;
    let new = store.list_to_vec(SlotFilter::fold("sales-by-stream")).await.expect("list");
    assert!(new.iter().all(|info| old.iter().all(|old| old.head != info.head)), "{new:?}");
    // The next life counts.
    shop.sell("1", SaleEvent::Sold { item: "tea".to_owned(), quantity: 3 }).await;
    assert_eq!(*stock.load(()).await.expect("load").state(), pass(&store).await);
    assert_eq!(by_stream.load(()).await.expect("load").state().taken.get("sale/1"), Some(&3));
    // No older snapshot stays where all are kept.
    let config = SnapshotConfig { keep: Keep::All, policy: Rule::Every(1), ..SnapshotConfig::default() };
    let builder = Repository::<ItemStock>::builder(store.clone()).snapshots(config);
    let items = builder.build().expect("build");
    for n in 30..33 {
        shop.record(n).await;
        items.load("tea").await.expect("load");
        items.flush().await;
    }
    let tombstone = shop.sales.erase("2").await.expect("erase").tombstone.expect("there was one");
    items.load("tea").await.expect("load");
    items.flush().await;
    let kept = store.list_to_vec(SlotFilter::fold("item-stock")).await.expect("list");
    assert!(kept.iter().all(|info| info.head.version.0 >= tombstone.0), "{kept:?}");
}

/// The state at a position, from snapshots before it.
pub async fn a_projection_at_a_position(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let builder = Repository::<Stock>::builder(store.clone());
    let config = SnapshotConfig { keep: Keep::All, policy: Rule::Every(5), ..SnapshotConfig::default() };
    let stock = builder.snapshots(config).build().expect("build");
    let mut seen = Vec::new();
    for n in 0..20 {
        shop.record(n).await;
        seen.push(stock.load(()).await.expect("load"));
        stock.flush().await;
    }
    for then in &seen {
        let at = stock.load(()).at(then.position()).await.expect("load");
        assert_eq!((at.state(), at.position()), (then.state(), then.position()));
        assert!(at.report().replayed_events < 5 || then.state().count < 5, "{:?}", at.report());
    }
    assert_eq!(stock.load(()).at(Position::ZERO).await.expect("load").state().count, 0);
}

/// An event that cannot be read fails the load with its position; who asks for it goes without, and keeps no snapshot.
pub async fn a_malformed_event_fails_a_projection_with_its_position(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    shop.record_all(0..5).await;
    let broken = EventData::new(EventType::new("sale.sold").expect("a name"), "{\"item\": 7}");
    let event = NewEvent::new(broken).expect("small");
    let commit = Commit::new("sale/broken".parse().expect("an id"), Expected::Any, vec![event]);
    let position = store.append(commit).await.expect("append").position;
    shop.record_all(5..8).await;
    let stock = every::<Stock>(&store, 1);
    let error = stock.load(()).await.expect_err("malformed").to_string();
    assert!(error.contains("load projection `stock`") && error.contains("sale/broken"), "{error}");
    assert!(error.contains(&format!("position {position}")), "{error}");
    let loaded = stock.load(()).skip_malformed().await.expect("load");
    assert_eq!((loaded.state().count, loaded.report().skipped.len()), (8, 1));
    assert_eq!(loaded.report().skipped[0].position, position);
    stock.flush().await;
    assert!(store.list_to_vec(SlotFilter::fold("stock")).await.expect("list").is_empty());
}

/// A rebuild that is interrupted goes on where it was, and is there when it is needed.
pub async fn a_prewarmed_projection_is_there_and_an_interrupted_one_goes_on(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    for _ in 0..4 {
        let events: Vec<_> =
            (0..1_000).map(|n| SaleEvent::Sold { item: "tea".to_owned(), quantity: n % 3 }).collect();
        let done = shop.sales.execute("many", |_| Ok::<_, ()>(events.clone())).await;
        done.expect("execute").expect("no refusal");
    }
    let config = SnapshotConfig {
        checkpoint_events: 500,
        policy: Rule::Every(1_000_000),
        ..SnapshotConfig::default()
    };
    let repository =
        || Repository::<Stock>::builder(store.clone()).snapshots(config.clone()).build().expect("build");
    let first = repository();
    // Interrupted in the middle: by an end of the process, as far as the store can tell.
    let reached = Arc::new(AtomicU64::new(0));
    let seen = reached.clone();
    let load = first.load(()).on_progress(move |progress| seen.store(progress.events, Ordering::Relaxed));
    let interrupted = async {
        while reached.load(Ordering::Relaxed) < 1_500 {
            tokio::time::sleep(std::time::Duration::from_micros(50)).await;
        }
    };
    tokio::select! {
        _ = load.into_future() => {}
        () = interrupted => {}
    }
    first.flush().await;
    let second = repository();
    let loaded = second.load(()).prewarm().await.expect("prewarm");
    assert_eq!(loaded.state().count, 4_000);
    assert!(loaded.report().replayed_events < 4_000, "{:?}", loaded.report());
    assert_eq!(repository().load(()).await.expect("load").report().replayed_events, 0);
    let off = Repository::<Stock>::builder(store.clone()).build().expect("build");
    assert!(off.load(()).prewarm().await.is_err(), "there is nothing to warm");
}

/// Whatever a snapshot store does, a projection's state is that of the pass over the log: random histories with erased
/// streams, loads in between, and every fault.
pub async fn no_fault_of_a_snapshot_store_changes_a_projection(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let faulty = near();
    let builder = Repository::<Stock>::builder(store.clone()).snapshots(Policy::every(3));
    let stock = builder.snapshots_in(faulty.clone()).build().expect("build");
    let builder = Repository::<SalesByStream>::builder(store.clone()).snapshots(Policy::every(2));
    let by_stream = builder.snapshots_in(faulty.clone()).build().expect("build");
    faulty.at_random(fastrand::u64(..), 0.3);
    let mut n = 0;
    for round in 0..60 {
        for _ in 0..fastrand::u64(0..6) {
            shop.record(n).await;
            n += 1;
        }
        if store.capabilities().erase && round % 13 == 12 {
            let id = fastrand::u64(0..5).to_string();
            store
                .remove(
                    &format!("sale/{id}").parse().expect("an id"),
                    Removal::erase(Timestamp::from_micros(0)),
                )
                .await
                .expect("erase");
        }
        let loaded = stock.load(()).await.expect("load");
        assert_eq!(*loaded.state(), pass(&store).await, "round {round}: {:?}", loaded.report());
        let loaded = by_stream.load(()).await.expect("load");
        assert_eq!(
            *loaded.state(),
            truth::<SalesByStream>(&store).await,
            "round {round}: {:?}",
            loaded.report()
        );
        if round % 4 == 0 {
            stock.flush().await;
            by_stream.flush().await;
        }
    }
    assert!(faulty.counts().total() > 0, "nothing went wrong");
    faulty.always(Some(Fault::Hang(std::time::Duration::from_secs(1))));
    assert_eq!(*stock.load(()).await.expect("load").state(), pass(&store).await);
}
