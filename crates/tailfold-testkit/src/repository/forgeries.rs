//! What somebody has altered on purpose, with every checksum made anew: events in the store, snapshots in a
//! cache.

use std::sync::Arc;

use tailfold::{
    ErrorKind, EventStore as _, MemoryStore, Policy, Position, Rejection, Removal, Repository, SlotFilter,
    SnapshotStoreExt as _, Source, Store, Timestamp, Version,
};

use super::edited::Edited;
use super::folds::{Ledger, LedgerEvent, actor, events};
use super::sales::{ItemStock, SaleEvent, Shop, Stock};
use super::support::{every, feed, load_right, plain, replace, stored, stream};
use super::tiers::patient;

const EDITED: &str = r#"{"cents":1000000}"#;

fn credits(n: usize) -> Vec<LedgerEvent> {
    vec![LedgerEvent::Credited { cents: 1 }; n]
}

async fn assert_altered<T: std::fmt::Debug>(
    load: impl IntoFuture<Output = tailfold::Result<T>>,
    place: &str,
) {
    let error = load.await.expect_err("an event that was edited");
    assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    for part in [place, "altered", "tailfold verify", "backup"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// Each load checks one event in 64, drawn anew. Loads until one is refused; that 3,000 loads miss an event happens once in
/// 10^10 times.
async fn assert_altered_in_the_end<T: std::fmt::Debug, L: IntoFuture<Output = tailfold::Result<T>>>(
    load: impl Fn() -> L,
    place: &str,
) {
    for _ in 0..3_000 {
        match load().await {
            Ok(_) => {}
            Err(error) => return assert_altered(async { Err::<T, _>(error) }, place).await,
        }
    }
    panic!("no load noticed the event that was edited: {place}");
}

/// An event that was edited in the store is refused by loads that fold it: the first, the last, one in
/// the middle, one after a snapshot; in a stream's first life, its second, and after its beginning was cut
/// off. A load that does not fold it is right.
pub async fn an_event_that_was_edited_in_the_store_is_refused(store: Arc<dyn Store>) {
    let id = actor();
    feed(&every(&store, 20), &id, credits(30), 1).await;
    let edited = Edited::new(&store);
    let beneath: Arc<dyn Store> = Arc::new(edited.clone());
    let (with, without) = (every(&beneath, 1_000), plain(&beneath));
    assert_eq!(with.load(&id).await.expect("load").report().source, Source::Snapshot(Version(20)));
    for version in [1, 2, 15, 30] {
        edited.edit(&stream(&id), version, EDITED);
        let place = format!("stream `ledger/{id}`: version {version} (position ");
        assert_altered(without.capture(&id, ..), &place).await;
        assert_altered_in_the_end(|| without.load(&id), &place).await;
        if version > 20 {
            assert_altered_in_the_end(|| with.load(&id), &place).await;
            assert_altered_in_the_end(|| with.load(&id).skip_malformed(), &place).await;
        } else {
            let loaded = with.load(&id).await.expect("it folds none that was edited");
            assert_eq!((loaded.report().source, loaded.state().balance), (Source::Snapshot(Version(20)), 30));
        }
    }

    // Cut off before an origin: the origin is taken as it is, what follows it is checked.
    let id = actor();
    let loaded = feed(&plain(&store), &id, credits(5), 5).await;
    let close = loaded.state().close();
    let loaded = plain(&store).append(loaded, close).await.expect("append").into_loaded();
    plain(&store).append(loaded, credits(5)).await.expect("append");
    store.remove(&stream(&id), Removal::before_origin(6, Timestamp::from_micros(0))).await.expect("truncate");
    assert_eq!(without.load(&id).await.expect("load").state().balance, 10);
    edited.edit(&stream(&id), 7, EDITED);
    assert_altered(without.capture(&id, 6..), "version 7 ").await;
    assert_altered_in_the_end(|| without.load(&id), "version 7 ").await;

    if store.capabilities().erase {
        let id = actor();
        for life in 0..3 {
            feed(&plain(&store), &id, credits(5), 2).await;
            let loaded = without.load(&id).await.expect("nothing of it was edited");
            assert_eq!(loaded.state().balance, 5, "life {life}");
            edited.edit(&stream(&id), 1, EDITED);
            assert_altered(without.capture(&id, ..), "version 1 ").await;
            edited.edit(&stream(&id), 9, EDITED);
            store.remove(&stream(&id), Removal::erase(Timestamp::from_micros(0))).await.expect("erase");
        }
    }
}

/// A projection refuses an event that was edited where it reads the one before it in its stream, too.
pub async fn an_event_that_was_edited_in_the_store_is_refused_by_projections(store: Arc<dyn Store>) {
    let shop = Shop::over(&store);
    let id = actor();
    for n in 0..6 {
        shop.sell(&id, SaleEvent::Sold { item: "tea".to_owned(), quantity: n }).await;
        shop.sell("another", SaleEvent::Sold { item: "tea".to_owned(), quantity: 1 }).await;
    }
    let edited = Edited::new(&store);
    let beneath: Arc<dyn Store> = Arc::new(edited.clone());
    let stock: Repository<Stock> = Repository::builder(beneath.clone()).build().expect("build");
    let tea: Repository<ItemStock> =
        Repository::builder(beneath).snapshots(Policy::every(1)).build().expect("build");
    assert_eq!(tea.load("tea").await.expect("load").state().quantity, -(15 + 6));
    tea.flush().await;
    let sale = format!("sale/{id}").parse().expect("a stream");
    edited.edit(&sale, 4, r#"{"item":"tea","quantity":-1000000}"#);
    let place = format!("stream `sale/{id}`: version 4 (position ");
    assert_altered_in_the_end(|| stock.load(()), &place).await;
    assert_altered_in_the_end(|| tea.load("tea").without_snapshots(), &place).await;
    let loaded = tea.load("tea").await.expect("it folds none that was edited");
    assert_eq!(loaded.state().quantity, -(15 + 6));
}

/// The bytes of a snapshot with one byte of its state altered and the checksum made anew, as whoever can
/// write to a cache can make them.
fn forged(bytes: &[u8]) -> Vec<u8> {
    let (body, _) = bytes.split_at(bytes.len() - 16);
    let mut body = body.to_vec();
    let name = b"balance";
    let at = body.windows(name.len()).position(|window| window == name).expect("MessagePack with names")
        + name.len();
    body[at] ^= 1;
    let hash = blake3_of(&body);
    body.extend_from_slice(&hash);
    body
}

fn blake3_of(body: &[u8]) -> [u8; 16] {
    let mut sum = [0; 16];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
    sum
}

fn keyed(store: &Arc<dyn Store>, keys: &[[u8; 32]]) -> Repository<Ledger> {
    let builder = Repository::builder(store.clone()).snapshots(Policy::every(10));
    let builder = if keys.is_empty() { builder } else { builder.snapshot_keys(keys.iter().copied()) };
    builder.build().expect("the store can do that")
}

/// With keys, a snapshot whose state was altered under a checksum made anew is rejected, removed and
/// replaced. Without keys it is served: that is what README says.
pub async fn a_forged_snapshot_is_rejected_where_checksums_have_a_key(store: Arc<dyn Store>) {
    let key = [7; 32];
    for keys in [&[][..], &[key][..]] {
        let (repository, id) = (keyed(&store, keys), actor());
        feed(&repository, &id, credits(10), 1).await;
        let right = load_right(&repository, &store, &id).await;
        assert_eq!(right.report().source, Source::Snapshot(Version(10)));
        let (slot, good) = stored(&store, &id).await;
        replace(&store, &slot, &good, forged(&good.bytes).into()).await;
        let loaded = repository.load(&id).await.expect("load");
        if keys.is_empty() {
            assert_eq!(loaded.report().source, Source::Snapshot(Version(10)));
            assert_ne!(loaded.state(), right.state(), "a checksum without a key does not find that out");
            continue;
        }
        assert_eq!((loaded.report().source, loaded.state()), (Source::Replay, right.state()));
        assert_eq!(loaded.report().rejected.first().map(|one| one.reason), Some(Rejection::Corrupt));
        repository.flush().await;
        let again = load_right(&repository, &store, &id).await;
        assert_eq!(again.report().source, Source::Snapshot(Version(10)), "it was repaired");
    }
}

/// Releases with another key, or none, do not use each other's snapshots and do not remove them; keys are
/// rotated without a replay.
pub async fn keys_of_checksums_are_introduced_and_rotated(store: Arc<dyn Store>) {
    let (none, old, both, new) = (
        keyed(&store, &[]),
        keyed(&store, &[[1; 32]]),
        keyed(&store, &[[2; 32], [1; 32]]),
        keyed(&store, &[[2; 32]]),
    );
    for (writer, readers, others) in [
        (&none, vec![&none], vec![&old, &both, &new]),
        (&old, vec![&old, &both], vec![&none, &new]),
        (&both, vec![&both, &new], vec![&none, &old]),
    ] {
        let id = actor();
        feed(writer, &id, events(10), 1).await;
        let (_, kept) = stored(&store, &id).await;
        for other in others {
            // Looks only: a load of the present would write a snapshot of its own in its place.
            let loaded = other.load(&id).at(Version(10)).await.expect("load");
            assert_eq!(loaded.report().source, Source::Replay);
            assert_eq!(loaded.report().rejected.first().map(|one| one.reason), Some(Rejection::OtherKey));
            assert_eq!(stored(&store, &id).await.1.bytes, kept.bytes, "another release can use it");
        }
        for reader in readers {
            let loaded = load_right(reader, &store, &id).await;
            assert_eq!(loaded.report().source, Source::Snapshot(Version(10)));
        }
    }
    // What is of no use to anybody makes room, whoever has written it.
    if store.capabilities().erase {
        let id = actor();
        feed(&none, &id, events(10), 1).await;
        super::support::rewrite(&store, &id, events(5)).await;
        let loaded = load_right(&new, &store, &id).await;
        assert_eq!(loaded.report().rejected.first().map(|one| one.reason), Some(Rejection::Ahead));
        let filter = SlotFilter::key(stream(&id).as_str());
        assert!(store.list_to_vec(filter).await.expect("list").is_empty());
    }
    // A projection's cursor is signed too: a quiet log is not looked through twice.
    let shop = Shop::over(&store);
    shop.record_all(0..5).await;
    shop.remark(3_000).await;
    let near = MemoryStore::new();
    let over = |keys: &[[u8; 32]]| {
        let builder = Repository::<Stock>::builder(store.clone()).snapshots(Policy::every(1));
        let builder = builder.snapshots_in([patient("near", near.clone())]);
        builder.snapshot_keys(keys.iter().copied()).build().expect("build")
    };
    let (old, new) = (over(&[[1; 32]]), over(&[[2; 32]]));
    for _ in 0..2 {
        old.load(()).await.expect("load");
        old.flush().await;
    }
    let cursors = async || {
        let listed = near.list_to_vec(SlotFilter::fold("stock")).await.expect("list");
        listed.into_iter().filter(|info| info.slot.key() == "^").count()
    };
    if cursors().await == 0 {
        // The store finds what matches by an index, and looks at nothing in vain.
        return;
    }
    let known = old.load(()).await.expect("load").report().visited_events;
    let unknown = new.load(()).at(Position(u64::MAX)).await.expect("load");
    assert_eq!(unknown.state().count, 5);
    assert_eq!(cursors().await, 1, "it is another release's");
    assert!(known < 1_000, "{known}");
}
