//! The live read model: over restarts, beside a new one, with an event that it cannot handle.

use shop::{Audit, OrdersByCustomer, Release};

use crate::{buy, open, stocked};

#[tokio::test(flavor = "multi_thread")]
async fn the_read_model_equals_a_pass_over_the_log_after_a_restart_in_the_middle() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut shop = stocked(path).await;
    let ada = shop.register("ada").await.unwrap();
    let mut orders = OrdersByCustomer::follow(shop.store(), path, Release::Second).unwrap();
    for round in 0..4 {
        let customer = shop.register(&format!("customer-{round}")).await.unwrap();
        buy(&shop, &customer, 12).await;
        // Not waited for: it stops in the middle of what there is.
        if round % 2 == 0 {
            orders.stop().await.unwrap();
        } else {
            drop(orders);
        }
        shop.close().await.unwrap();
        shop = open(path).await;
        buy(&shop, &ada, 5).await;
        orders = OrdersByCustomer::follow(shop.store(), path, Release::Second).unwrap();
    }
    let audit = Audit::of(shop.store()).await.unwrap();
    assert!(audit.orders.len() > 40);
    audit.compare(&shop, &orders).await.unwrap();
    assert!(orders.parked().unwrap().is_empty());
    assert_eq!(orders.lag().await.unwrap().events, 0);
    orders.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_position_reads_their_own_write() {
    let directory = tempfile::tempdir().unwrap();
    let shop = stocked(directory.path()).await;
    let orders = OrdersByCustomer::follow(shop.store(), directory.path(), Release::First).unwrap();
    let ada = shop.register("ada").await.unwrap();
    for number in 1..20 {
        let (order, position) = shop.place(&ada, "tea", 1).await.unwrap();
        orders.wait_for(position).await.unwrap();
        let known = orders.of(&ada).unwrap();
        assert_eq!((known.len(), &known.last().unwrap().order), (number, &order));
    }
    assert!(orders.of("nobody").unwrap().is_empty());
    orders.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_read_model_is_built_beside_the_running_one_and_knows_what_that_had_parked() {
    let directory = tempfile::tempdir().unwrap();
    let shop = stocked(directory.path()).await;
    let old = OrdersByCustomer::follow(shop.store(), directory.path(), Release::First).unwrap();
    let (ada, long) =
        (shop.register("ada").await.unwrap(), shop.register("margaret-heafield").await.unwrap());
    buy(&shop, &ada, 10).await;
    shop.place(&long, "tea", 3).await.unwrap();
    let (new, ()) = futures_util::future::join(
        async {
            let new = OrdersByCustomer::follow(shop.store(), directory.path(), Release::Second).unwrap();
            new.wait_until_current().await.unwrap();
            new
        },
        buy(&shop, &ada, 10),
    )
    .await;
    // The old one lacks an event.
    old.wait_until_current().await.unwrap_err();
    let parked = old.parked().unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].stream.id(), long);
    assert!(parked[0].error.contains("CHECK constraint failed"), "{:?}", parked[0]);
    assert!(old.of(&long).unwrap().is_empty());
    let audit = Audit::of(shop.store()).await.unwrap();
    assert!(audit.compare(&shop, &old).await.is_err(), "an order is missing");
    audit.compare(&shop, &new).await.unwrap();
    assert_eq!(new.of(&long).unwrap().len(), 1);
    old.stop().await.unwrap();
    new.stop().await.unwrap();
}
