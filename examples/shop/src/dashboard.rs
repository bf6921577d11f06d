//! The shop at a glance: a projection over everything, of which there is one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tailfold::{Erased, EventMeta, Events, Filter, Fold, Projection, State, StreamId};

use crate::{CustomerEvent, OrderEvent, ProductEvent};

/// Everything that happens in the shop.
#[derive(Clone, Debug, Events)]
pub enum ShopEvent {
    /// To customers.
    Customer(CustomerEvent),
    /// To products.
    Product(ProductEvent),
    /// To orders.
    Order(OrderEvent),
}

/// The figures of the day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
#[state(name = "dashboard", projection)]
pub struct Dashboard {
    /// Ids of who is registered.
    pub customers: BTreeSet<String>,
    /// Listed.
    pub products: u64,
    /// Received, all products together.
    pub units_received: u64,
    /// Orders placed, whatever became of them.
    pub placed: u64,
    /// Orders paid.
    pub paid: u64,
    /// Orders cancelled.
    pub cancelled: u64,
    /// What was paid.
    pub revenue_cents: u64,
}

impl Fold for Dashboard {
    type Event = ShopEvent;

    fn apply(&mut self, event: ShopEvent, meta: &EventMeta<'_>) {
        match event {
            ShopEvent::Customer(CustomerEvent::Registered { .. }) => {
                self.customers.insert(meta.stream().id().to_owned());
            }
            ShopEvent::Product(ProductEvent::Listed { .. }) => self.products += 1,
            ShopEvent::Product(ProductEvent::Received { quantity, .. }) => {
                self.units_received += u64::from(quantity);
            }
            ShopEvent::Order(OrderEvent::Placed { .. }) => self.placed += 1,
            ShopEvent::Order(OrderEvent::Paid { cents }) => {
                self.paid += 1;
                self.revenue_cents += cents;
            }
            ShopEvent::Order(OrderEvent::Cancelled { .. }) => self.cancelled += 1,
        }
    }
}

impl Projection for Dashboard {
    type Key = ();

    fn query((): &()) -> tailfold::Result<Filter> {
        Ok(Filter::all())
    }

    /// All that came from a customer's stream is the id, so it can be taken out; of anything else the figures are mixed.
    fn erased(&mut self, stream: &StreamId) -> Erased {
        if stream.category() != "customer" {
            return Erased::Rebuild;
        }
        self.customers.remove(stream.id());
        Erased::Forgotten
    }
}
