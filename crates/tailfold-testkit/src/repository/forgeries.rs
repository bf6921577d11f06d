//! What somebody has altered on purpose, with every checksum made anew: events in the store, snapshots in a
//! cache.

use std::sync::Arc;

use tailfold::{
    ErrorKind, EventStore as _, Policy, Removal, Repository, Source, Store, Timestamp, Version,
};

use super::edited::Edited;
use super::folds::{LedgerEvent, actor};
use super::sales::{ItemStock, SaleEvent, Shop, Stock};
use super::support::{every, feed, plain, stream};

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

/// An event that was edited in the store is refused by every load that folds it: the first, the last, one in
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
        assert_altered(without.load(&id), &place).await;
        assert_altered(without.capture(&id, ..), &place).await;
        assert_altered(without.load(&id).skip_malformed(), &place).await;
        if version > 20 {
            assert_altered(with.load(&id), &place).await;
            assert_altered(with.execute(&id, |_| Ok::<_, ()>(LedgerEvent::Credited { cents: 1 })), &place)
                .await;
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
    store.remove(&stream(&id), Removal::BeforeOrigin(Version(6))).await.expect("truncate");
    assert_eq!(without.load(&id).await.expect("load").state().balance, 10);
    edited.edit(&stream(&id), 7, EDITED);
    assert_altered(without.load(&id), "version 7 ").await;

    if store.capabilities().erase {
        let id = actor();
        for life in 0..3 {
            feed(&plain(&store), &id, credits(5), 2).await;
            let loaded = without.load(&id).await.expect("nothing of it was edited");
            assert_eq!(loaded.state().balance, 5, "life {life}");
            edited.edit(&stream(&id), 1, EDITED);
            assert_altered(without.load(&id), "version 1 ").await;
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
    assert_altered(stock.load(()), &format!("stream `sale/{id}`: version 4 (position ")).await;
    assert_altered(tea.load("tea").without_snapshots(), "version 4 ").await;
    let loaded = tea.load("tea").await.expect("it folds none that was edited");
    assert_eq!(loaded.state().quantity, -(15 + 6));
}
