//! What is left of one product: a projection over deliveries and orders, and the rule that no more is sold than is there.

use serde::{Deserialize, Serialize};
use tailfold::{EventMeta, Events, Filter, Fold, Projection, State, Tag};

use crate::{OrderEvent, ProductEvent, Refusal};

/// The events of two categories. The query takes those with a product's tag.
#[derive(Clone, Debug, Events)]
pub enum StockEvent {
    /// Of products.
    Product(ProductEvent),
    /// Of orders.
    Order(OrderEvent),
}

/// The stock of one product; its key is the sku.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "stock", projection)]
pub struct Stock {
    /// Price of one; `None`: there is no such product.
    pub cents: Option<u64>,
    /// Below zero would be oversold.
    pub left: i64,
}

impl Fold for Stock {
    type Event = StockEvent;

    fn apply(&mut self, event: StockEvent, _meta: &EventMeta<'_>) {
        match event {
            StockEvent::Product(ProductEvent::Listed { cents, .. }) => self.cents = Some(cents),
            StockEvent::Product(ProductEvent::Received { quantity, .. })
            | StockEvent::Order(OrderEvent::Cancelled { quantity, .. }) => self.left += i64::from(quantity),
            StockEvent::Order(OrderEvent::Placed { quantity, .. }) => self.left -= i64::from(quantity),
            StockEvent::Order(OrderEvent::Paid { .. }) => {}
        }
    }
}

impl Projection for Stock {
    type Key = String;

    fn query(sku: &String) -> tailfold::Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("sku:{sku}"))?))
    }
}

impl Stock {
    /// Sets goods aside for a customer.
    ///
    /// # Errors
    /// `NotListed`, `NoQuantity`, `OutOfStock`.
    pub fn sell(&self, sku: &str, quantity: u32, customer: &str) -> Result<OrderEvent, Refusal> {
        let price = self.cents.ok_or(Refusal::NotListed)?;
        if quantity == 0 {
            return Err(Refusal::NoQuantity);
        }
        if i64::from(quantity) > self.left {
            return Err(Refusal::OutOfStock { left: self.left });
        }
        let cents = price.saturating_mul(u64::from(quantity));
        Ok(OrderEvent::Placed { customer: customer.to_owned(), sku: sku.to_owned(), quantity, cents })
    }
}
