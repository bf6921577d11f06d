//! The shop under races, restarts and erasures, and the program.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod erasure;
mod program;
mod projections;
mod read_model;
mod rules;

use std::path::Path;

use shop::{Error, Refusal, Shop};
use tailfold_sqlite::SqliteStore;

async fn open(directory: &Path) -> Shop {
    Shop::over(SqliteStore::open(directory.join("shop.tailfold")).await.unwrap()).unwrap()
}

/// A shop with tea and cups.
async fn stocked(directory: &Path) -> Shop {
    let shop = open(directory).await;
    for (sku, cents, quantity) in [("tea", 450, 1_000), ("cup", 1_200, 40)] {
        shop.list(sku, cents).await.unwrap();
        shop.receive(sku, quantity).await.unwrap();
    }
    shop
}

/// A customer orders, pays some, gives some up, and asks for too much now and then.
async fn buy(shop: &Shop, customer: &str, orders: u32) {
    for number in 0..orders {
        let (sku, quantity) = if number % 4 == 3 { ("cup", number % 9) } else { ("tea", number % 5 + 1) };
        let order = match shop.place(customer, sku, quantity).await {
            Ok((order, _)) => order,
            Err(Error::Refused(Refusal::OutOfStock { .. } | Refusal::NoQuantity)) => continue,
            Err(error) => panic!("{error}"),
        };
        match number % 3 {
            0 => drop(shop.pay(&order).await.unwrap()),
            1 => drop(shop.cancel(&order).await.unwrap()),
            _ => {}
        }
    }
}

fn refusal<T>(outcome: shop::Result<T>) -> Option<Refusal> {
    match outcome {
        Ok(_) => None,
        Err(Error::Refused(refusal)) => Some(refusal),
        Err(error) => panic!("{error}"),
    }
}
