//! A union of unions, and a projection of it: by key, and the only one.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, tailfold::Event)]
#[event(category = "order")]
enum OrderEvent {
    Placed { quantity: u32 },
}

#[derive(Serialize, Deserialize, tailfold::Event)]
#[event(category = "product")]
enum ProductEvent {
    Received { quantity: u32 },
}

#[derive(tailfold::Events)]
enum StockEvent {
    Order(OrderEvent),
    Product(ProductEvent),
}

#[derive(tailfold::Events)]
enum Everything {
    Stock(StockEvent),
}

#[derive(Clone, Default, Serialize, Deserialize, tailfold::State)]
#[state(name = "stock", projection, serial = 2)]
struct Stock {
    quantity: i64,
}

impl tailfold::Fold for Stock {
    type Event = Everything;

    fn apply(&mut self, Everything::Stock(event): Everything, _: &tailfold::EventMeta<'_>) {
        self.quantity += match event {
            StockEvent::Order(OrderEvent::Placed { quantity }) => -i64::from(quantity),
            StockEvent::Product(ProductEvent::Received { quantity }) => i64::from(quantity),
        };
    }
}

impl tailfold::Projection for Stock {
    type Key = u64;

    fn query(_: &u64) -> tailfold::Result<tailfold::Filter> {
        Ok(tailfold::Filter::all())
    }
}

#[test]
fn a_projection_of_unions_is_loaded_by_its_key() {
    let store = tailfold::MemoryStore::new();
    let stock = tailfold::Repository::<Stock>::builder(store).build().expect("build");
    let _load: tailfold::LoadProjection<Stock> = stock.load(7u64);
    let event: Everything = StockEvent::from(OrderEvent::Placed { quantity: 1 }).into();
    assert!(matches!(event, Everything::Stock(StockEvent::Order(_))));
}
