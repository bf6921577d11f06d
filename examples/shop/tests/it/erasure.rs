//! A customer who is erased is gone: from the log, the projections, the read models, and the bytes of the files.

use std::fs;

use shop::{Audit, OrdersByCustomer, Refusal, Release};

use crate::{buy, open, refusal, stocked};

const NAME: &str = "rumpelstilz";

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_customer_is_gone_from_projection_and_read_model() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let shop = stocked(path).await;
    let orders = OrdersByCustomer::follow(shop.store(), path, Release::First).unwrap();
    let (ada, erased) = (shop.register("ada").await.unwrap(), shop.register(NAME).await.unwrap());
    buy(&shop, &ada, 10).await;
    buy(&shop, &erased, 10).await;
    let (open_order, position) = shop.place(&erased, "tea", 1).await.unwrap();
    orders.wait_for(position).await.unwrap();
    assert!(!orders.of(&erased).unwrap().is_empty());
    assert!(shop.dashboard().await.unwrap().state().customers.contains(&erased));
    let left = shop.stock("tea").await.unwrap().state().left;
    shop.flush().await;

    orders.wait_for(shop.erase_customer(&erased).await.unwrap()).await.unwrap();
    assert!(orders.of(&erased).unwrap().is_empty());
    assert!(orders.all().unwrap().iter().all(|row| row.username == "ada"));
    assert!(!shop.dashboard().await.unwrap().state().customers.contains(&erased));
    // What was sold stays sold, and an order that is open can still be settled.
    assert_eq!(shop.stock("tea").await.unwrap().state().left, left);
    orders.wait_for(shop.pay(&open_order).await.unwrap()).await.unwrap();
    assert_eq!(refusal(shop.place(&erased, "tea", 1).await), Some(Refusal::UnknownCustomer));
    assert_eq!(refusal(shop.erase_customer(&erased).await), Some(Refusal::UnknownCustomer));
    Audit::of(shop.store()).await.unwrap().compare(&shop, &orders).await.unwrap();

    // A read model that is built anew does not bring the customer back.
    let rebuilt = OrdersByCustomer::follow(shop.store(), path, Release::Second).unwrap();
    rebuilt.wait_until_current().await.unwrap();
    assert_eq!(rebuilt.all().unwrap(), orders.all().unwrap());
    orders.stop().await.unwrap();
    rebuilt.stop().await.unwrap();
    shop.close().await.unwrap();

    let shop = open(path).await;
    assert_eq!(refusal(shop.register(NAME).await), None, "the name is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_holds_the_name_of_an_erased_customer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let shop = stocked(path).await;
    let orders = OrdersByCustomer::follow(shop.store(), path, Release::Second).unwrap();
    let erased = shop.register(NAME).await.unwrap();
    buy(&shop, &erased, 10).await;
    shop.dashboard().await.unwrap();
    orders.wait_until_current().await.unwrap();
    orders.wait_for(shop.erase_customer(&erased).await.unwrap()).await.unwrap();
    orders.stop().await.unwrap();
    shop.close().await.unwrap();
    let mut files = 0;
    for entry in fs::read_dir(path).unwrap() {
        let file = entry.unwrap().path();
        let bytes = fs::read(&file).unwrap();
        let holds = bytes.windows(NAME.len()).any(|window| window == NAME.as_bytes());
        assert!(!holds, "{}", file.display());
        files += 1;
    }
    assert!(files >= 2);
}
