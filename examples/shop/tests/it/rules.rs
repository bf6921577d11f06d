//! Rules over many streams, under races; commands and what they refuse.

use futures_util::future::join_all;
use shop::{Audit, Refusal, Shop};
use tailfold_sqlite::SqliteStore;

use crate::{open, refusal, stocked};

/// Two shops over one file, as two processes would have them.
async fn two_shops(directory: &std::path::Path) -> [Shop; 2] {
    [open(directory).await, open(directory).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn of_16_racing_registrations_one_gets_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let shops = two_shops(directory.path()).await;
    let tasks = (0..16).map(|task| {
        let shop = shops[task % 2].clone();
        tokio::spawn(async move { refusal(shop.register("ada").await) })
    });
    let outcomes: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|refusal| refusal.is_none()).count(), 1);
    assert!(outcomes.iter().flatten().all(|refusal| *refusal == Refusal::NameTaken("ada".to_owned())));
    assert_eq!(shops[0].dashboard().await.unwrap().state().customers.len(), 1);
    assert_eq!(refusal(shops[1].register("grace").await), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_orders_sell_all_that_is_there_and_never_more() {
    let directory = tempfile::tempdir().unwrap();
    drop(stocked(directory.path()).await);
    let shops = two_shops(directory.path()).await;
    let ada = shops[0].register("ada").await.unwrap();
    let tasks = (0..16).map(|task| {
        let (shop, ada) = (shops[task % 2].clone(), ada.clone());
        tokio::spawn(async move {
            let mut sold = 0;
            for quantity in [3, 2, 1, 1] {
                sold += match refusal(shop.place(&ada, "cup", quantity).await) {
                    None => quantity,
                    Some(Refusal::OutOfStock { left }) => {
                        assert!((0..i64::from(quantity)).contains(&left));
                        0
                    }
                    Some(other) => panic!("{other}"),
                };
            }
            sold
        })
    });
    let sold: u32 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(sold, 40);
    for shop in &shops {
        assert_eq!(shop.stock("cup").await.unwrap().state().left, 0);
    }
    assert_eq!(Audit::of(shops[0].store()).await.unwrap().stock["cup"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_payments_and_cancellations_one_settles_the_order() {
    let directory = tempfile::tempdir().unwrap();
    let shop = stocked(directory.path()).await;
    let ada = shop.register("ada").await.unwrap();
    let (order, _) = shop.place(&ada, "tea", 7).await.unwrap();
    let tasks = (0..16).map(|task| {
        let (shop, order) = (shop.clone(), order.clone());
        tokio::spawn(async move {
            refusal(if task % 2 == 0 { shop.pay(&order).await } else { shop.cancel(&order).await })
        })
    });
    let outcomes: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|refusal| refusal.is_none()).count(), 1);
    let audit = Audit::of(shop.store()).await.unwrap();
    assert_eq!(audit.dashboard.paid + audit.dashboard.cancelled, 1);
    let left = 1_000 - if audit.dashboard.paid == 1 { 7 } else { 0 };
    assert_eq!(shop.stock("tea").await.unwrap().state().left, left);
}

#[tokio::test]
async fn commands_are_refused_with_the_shops_own_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let shop = stocked(directory.path()).await;
    let ada = shop.register("ada").await.unwrap();
    let (order, _) = shop.place(&ada, "tea", 1).await.unwrap();
    shop.cancel(&order).await.unwrap();
    assert_eq!(refusal(shop.list("tea", 1).await), Some(Refusal::AlreadyListed));
    assert_eq!(refusal(shop.receive("pot", 1).await), Some(Refusal::NotListed));
    assert_eq!(refusal(shop.receive("tea", 0).await), Some(Refusal::NoQuantity));
    assert_eq!(refusal(shop.place(&ada, "pot", 1).await), Some(Refusal::NotListed));
    assert_eq!(refusal(shop.place(&ada, "tea", 0).await), Some(Refusal::NoQuantity));
    assert_eq!(refusal(shop.place(&ada, "tea", 1_001).await), Some(Refusal::OutOfStock { left: 1_000 }));
    assert_eq!(refusal(shop.place("nobody", "tea", 1).await), Some(Refusal::UnknownCustomer));
    assert_eq!(refusal(shop.pay("nothing").await), Some(Refusal::UnknownOrder));
    assert_eq!(refusal(shop.pay(&order).await), Some(Refusal::AlreadyCancelled));
    for name in ["", "Ada", "a b", "0123456789012345678901234567890"] {
        assert_eq!(refusal(shop.register(name).await), Some(Refusal::BadName(name.to_owned())));
    }
}

#[tokio::test]
async fn a_failing_store_is_no_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("shop.tailfold")).await.unwrap();
    let shop = Shop::over(store.clone()).unwrap();
    store.close().await.unwrap();
    let error = shop.register("ada").await.unwrap_err();
    assert!(matches!(error, shop::Error::Failed(_)));
    assert!(error.to_string().contains("the store is closed"), "{error}");
}
