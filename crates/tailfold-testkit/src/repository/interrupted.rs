//! Streams that are erased or cut off between two reads of one load or command: the answer is of before or of after, and
//! nothing that went stays in a snapshot.

use std::sync::Arc;

use tailfold::{
    Event as _, EventStore as _, EventStoreExt as _, Filter, Fold, Policy, Position, Receipt, RecordedEvent,
    Removal, Repository, SlotFilter, SnapshotStore as _, SnapshotStoreExt as _, Store, StreamId, Timestamp,
    Version, VersionRange,
};

use super::folds::{Ledger, LedgerEvent, Overdrawn, actor, events};
use super::sales::Shop;
use super::support::{every, feed, plain, stream, truth};
use super::truncations::{Takings, Till, TillEvent, took};
use crate::InterruptedReads;

/// Reads of one operation that are tried at most: more than any has.
const MOST_READS: u64 = 40;

fn over<F: Fold>(store: &InterruptedReads, n: u64) -> Repository<F> {
    Repository::builder(store.clone()).snapshots(Policy::every(n)).build().expect("the store can do that")
}

fn erase() -> Removal {
    Removal::erase(Timestamp::from_micros(0))
}

fn before_origin(version: u64) -> Removal {
    Removal::before_origin(version, Timestamp::from_micros(0))
}

async fn deposit(repository: &Repository<Ledger>, id: &str, key: &str) -> Receipt<Ledger> {
    let command = repository.execute(id, |_: &Ledger| {
        Ok::<_, Overdrawn>([LedgerEvent::Credited { cents: 100 }, LedgerEvent::Debited { cents: 1 }])
    });
    command.idempotency_key(key).await.expect("execute").expect("no refusal")
}

/// What somebody else does in the stream's next life.
#[derive(Clone, Copy, Debug)]
enum NextLife {
    Nothing,
    Others,
    TheSameCommand,
}

/// A command with a key whose stream is erased between any two of its reads: the receipt of the life that was there, or a
/// decision on the next. Never an error, and never two times in one life.
pub async fn a_command_beside_an_erase_is_answered_of_one_life(store: Arc<dyn Store>) {
    if !store.capabilities().erase {
        return;
    }
    let interrupted = InterruptedReads::new(store.clone());
    for next in [NextLife::Nothing, NextLife::Others, NextLife::TheSameCommand] {
        for read in 0..MOST_READS {
            let (commands, id, key) = (over::<Ledger>(&interrupted, 3), actor(), actor());
            feed(&plain(&store), &id, events(3), 3).await;
            let first = deposit(&commands, &id, &key).await;
            feed(&commands, &id, events(8), 4).await;
            let step = {
                let (store, id, key) = (store.clone(), id.clone(), key.clone());
                async move {
                    store.remove(&stream(&id), erase()).await.expect("erase");
                    match next {
                        NextLife::Nothing => {}
                        NextLife::Others => drop(feed(&plain(&store), &id, events(7), 7).await),
                        NextLife::TheSameCommand => drop(deposit(&plain(&store), &id, &key).await),
                    }
                }
            };
            interrupted.before(read, step);
            let again = deposit(&commands, &id, &key).await;
            let happened = interrupted.finish();
            let context = format!("{next:?}, before read {read}: {again:?}");
            assert_eq!(again.events(), 2, "{context}");
            if again.head() == first.head() {
                assert!(again.is_repeated(), "{context}");
                assert_eq!((again.position(), again.state()), (first.position(), first.state()), "{context}");
            } else {
                let version = again.head().expect("events").version;
                let now = plain(&store).load(&id).at(version).await.expect("load");
                assert_eq!((again.head(), again.state()), (now.head(), now.state()), "{context}");
                let living = store.read_to_vec(&stream(&id), VersionRange::ALL).await.expect("read");
                let tag = format!("tailfold.key:{key}");
                let bears_key =
                    |event: &&RecordedEvent| event.data.tags.iter().any(|own| own.as_str() == tag);
                let commands = living.iter().filter(bears_key).count();
                assert_eq!(commands, 1, "{context}");
            }
            if !happened {
                assert!(read >= 3, "a command with a key reads more often than {read} times");
                break;
            }
        }
    }
}

/// A command with a key whose events are cut off between any two of its reads, all of them or the first: the original
/// receipt, always.
pub async fn a_command_beside_a_truncation_happens_once(store: Arc<dyn Store>) {
    let interrupted = InterruptedReads::new(store.clone());
    for origin in [5, 7] {
        for read in 0..MOST_READS {
            let (commands, id, key) = (over::<Ledger>(&interrupted, 3), actor(), actor());
            let closed = LedgerEvent::Closed { balance: 7, count: 9, trace: 0 };
            feed(&plain(&store), &id, events(3), 3).await;
            let send = async |repository: &Repository<Ledger>| {
                let both = [LedgerEvent::Credited { cents: 100 }, closed.clone()];
                let command = repository.execute(&id, |_: &Ledger| Ok::<_, Overdrawn>(both.clone()));
                command.idempotency_key(&key).await.expect("execute").expect("no refusal")
            };
            let first = send(&commands).await;
            feed(&commands, &id, vec![LedgerEvent::Credited { cents: 1 }, closed.clone()], 2).await;
            feed(&commands, &id, events(2), 2).await;
            let step = {
                let (store, id) = (store.clone(), id.clone());
                async move {
                    store.remove(&stream(&id), before_origin(origin)).await.expect("truncate");
                }
            };
            interrupted.before(read, step);
            let again = send(&commands).await;
            let happened = interrupted.finish();
            let context = format!("truncated before {origin}, before read {read}: {again:?}");
            assert!(again.is_repeated(), "{context}");
            assert_eq!((again.events(), again.position()), (2, first.position()), "{context}");
            assert_eq!(truth(&store, &id).await, *every(&store, 3).load(&id).await.expect("load").state());
            if !happened {
                assert!(read >= 3, "a command with a key reads more often than {read} times");
                break;
            }
        }
    }
}

/// A load of a stream that is erased or cut off between any two of its reads is of before or of after.
pub async fn a_load_beside_a_removal_is_of_before_or_of_after(store: Arc<dyn Store>) {
    let interrupted = InterruptedReads::new(store.clone());
    for erases in [true, false] {
        if erases && !store.capabilities().erase {
            continue;
        }
        for read in 0..MOST_READS {
            let (ledgers, id) = (over::<Ledger>(&interrupted, 3), actor());
            let closed = LedgerEvent::Closed { balance: 7, count: 9, trace: 0 };
            feed(&ledgers, &id, events(4), 4).await;
            feed(&ledgers, &id, vec![closed, LedgerEvent::Credited { cents: 1 }], 1).await;
            let before = truth(&store, &id).await;
            let step = {
                let (store, id) = (store.clone(), id.clone());
                let removal = if erases { erase() } else { before_origin(5) };
                async move {
                    store.remove(&stream(&id), removal).await.expect("remove");
                }
            };
            interrupted.before(read, step);
            let loaded = ledgers.load(&id).await.expect("load").state().clone();
            let happened = interrupted.finish();
            ledgers.flush().await;
            let after = truth(&store, &id).await;
            assert!([&before, &after].contains(&&loaded), "erase {erases}, before read {read}: {loaded:?}");
            assert_eq!(
                *ledgers.load(&id).await.expect("load").state(),
                after,
                "erase {erases}, before read {read}"
            );
            if !happened {
                break;
            }
        }
    }
}

/// A load of a projection one of whose streams is erased or cut off between any two of its reads is of before or of after,
/// and so is one at a position; and the next load, from what that one has left behind, is of after. With a snapshot, and with
/// a cursor alone, by which a load jumps.
pub async fn a_projection_beside_a_removal_keeps_nothing_that_went(store: Arc<dyn Store>) {
    let interrupted = InterruptedReads::new(store.clone());
    let tills: Repository<Till> = every_till(&store);
    let (mut victims, mut next) = (Vec::new(), 0..);
    for _ in 0..4 * 12 {
        let (id, events) = (actor(), [took("tea", 10), took("cup", 10), TillEvent::Counted { cents: 20 }]);
        tills.execute(&id, |_| Ok::<_, ()>(events.clone())).await.expect("execute").expect("no refusal");
        victims.push(id);
    }
    // The last one that matches before much that does not: nobody removes it.
    tills.execute(actor(), |_| Ok::<_, ()>(took("pot", 1))).await.expect("execute").expect("no refusal");
    let then = store.read_all_to_vec(Position::ZERO, Filter::category(TillEvent::CATEGORY)).await;
    let then = then.expect("read").last().expect("tills").position;
    Shop::over(&store).remark(1_500).await;
    let takings = over::<Takings>(&interrupted, 1);
    takings.load(()).await.expect("load");
    takings.flush().await;
    for erases in [true, false] {
        if erases && !store.capabilities().erase {
            continue;
        }
        for with_snapshot in [true, false] {
            for at in [None, Some(then)] {
                for read in 0..MOST_READS {
                    if !with_snapshot {
                        evict(&store).await;
                    }
                    let victim: usize = next.next().expect("there is always a next number");
                    let id = victims.get(victim).cloned().unwrap_or_else(actor);
                    if victim >= victims.len() {
                        let sold = [took("tea", 10), TillEvent::Counted { cents: 10 }];
                        let done = tills.execute(&id, |_| Ok::<_, ()>(sold.clone())).await;
                        done.expect("execute").expect("no refusal");
                    }
                    let context =
                        format!("erase {erases}, snapshot {with_snapshot}, at {at:?}, before read {read}");
                    let before = replayed(&store, at).await;
                    let step = {
                        let store = store.clone();
                        async move { remove(&store, &id, erases).await }
                    };
                    interrupted.before(read, step);
                    let loaded = load(&takings, at).await;
                    let happened = interrupted.finish();
                    takings.flush().await;
                    let after = replayed(&store, at).await;
                    assert!(
                        [&before, &after].contains(&&loaded),
                        "{context}: {loaded:?}, {before:?}, {after:?}"
                    );
                    assert_eq!(load(&takings, at).await, after, "{context}");
                    takings.flush().await;
                    assert_eq!(load(&takings, None).await, replayed(&store, None).await, "{context}");
                    takings.flush().await;
                    if !happened {
                        break;
                    }
                }
            }
        }
    }
}

fn every_till(store: &Arc<dyn Store>) -> Repository<Till> {
    Repository::builder(store.clone()).build().expect("nothing can be wrong")
}

async fn remove(store: &Arc<dyn Store>, id: &str, erases: bool) {
    let till = StreamId::new(TillEvent::CATEGORY, id).expect("a good id");
    let head = store.head(&till).await.expect("head").map_or(Version::FIRST, |head| head.version);
    let removal = if erases { erase() } else { before_origin(head.0) };
    store.remove(&till, removal).await.expect("remove");
}

async fn load(takings: &Repository<Takings>, at: Option<Position>) -> Takings {
    let load = takings.load(());
    let load = match at {
        Some(at) => load.at(at),
        None => load,
    };
    load.await.expect("load").state().clone()
}

async fn replayed(store: &Arc<dyn Store>, at: Option<Position>) -> Takings {
    load(&Repository::builder(store.clone()).build().expect("nothing can be wrong"), at).await
}

/// Removes the projection's snapshots, and leaves its cursor.
async fn evict(store: &Arc<dyn Store>) {
    for info in store.list_to_vec(SlotFilter::fold(<Takings as tailfold::State>::NAME)).await.expect("list") {
        if info.slot.key() == "*"
            && let Some(stored) = store.newest(&info.slot, None).await.expect("read")
        {
            store.compare_and_remove(&info.slot, &stored).await.expect("remove");
        }
    }
}
