//! What projections say is what an independent pass over the log finds.

use shop::Audit;
use tailfold::Source;

use crate::{buy, open, stocked};

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_stock_equal_a_pass_over_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut shop = stocked(directory.path()).await;
    for round in 0..6 {
        let customer = shop.register(&format!("customer-{round}")).await.unwrap();
        buy(&shop, &customer, 15).await;
        if round == 2 {
            shop.close().await.unwrap();
            shop = open(directory.path()).await;
        }
        let audit = Audit::of(shop.store()).await.unwrap();
        assert_eq!(*shop.dashboard().await.unwrap().state(), audit.dashboard);
        for (sku, left) in &audit.stock {
            assert_eq!(shop.stock(sku).await.unwrap().state().left, *left);
        }
        shop.flush().await;
    }
    let loaded = shop.dashboard().await.unwrap();
    assert!(matches!(loaded.report().source, Source::Snapshot(_)), "{:?}", loaded.report());
    assert!(loaded.report().replayed_events < 10, "{:?}", loaded.report());
}

#[tokio::test]
async fn the_next_releases_dashboard_is_warm_and_leaves_todays_alone() {
    let directory = tempfile::tempdir().unwrap();
    let shop = stocked(directory.path()).await;
    let ada = shop.register("ada").await.unwrap();
    buy(&shop, &ada, 20).await;
    shop.dashboard().await.unwrap();
    shop.flush().await;
    let next = shop.next_dashboard().unwrap();
    let warmed = next.load(()).prewarm().await.unwrap();
    assert_eq!(warmed.report().source, Source::Replay);
    let served = shop.next_dashboard().unwrap().load(()).await.unwrap();
    assert!(matches!(served.report().source, Source::Snapshot(_)));
    assert_eq!(served.report().replayed_events, 0);
    assert_eq!(served.state(), warmed.state());
    assert!(served.report().rejected.is_empty());
    let sold = 1_000 - Audit::of(shop.store()).await.unwrap().stock["tea"];
    assert_eq!(served.state().sold["tea"], sold);
    let todays = shop.dashboard().await.unwrap();
    assert!(matches!(todays.report().source, Source::Snapshot(_)));
    assert!(todays.report().rejected.is_empty());
}
