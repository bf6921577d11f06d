//! The dashboard of the next release. Its shape is another, so its serial is another too: snapshots of both releases stand side
//! by side under one name, and neither serves or evicts the other's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailfold::{EventMeta, Filter, Fold, Projection, State};

use crate::{OrderEvent, StockEvent};

/// Units sold of each product, cancelled ones not counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "dashboard", projection)]
pub struct Dashboard {
    /// By sku.
    pub sold: BTreeMap<String, i64>,
}

impl Fold for Dashboard {
    type Event = StockEvent;

    fn apply(&mut self, event: StockEvent, _meta: &EventMeta<'_>) {
        match event {
            StockEvent::Order(OrderEvent::Placed { sku, quantity, .. }) => {
                *self.sold.entry(sku).or_default() += i64::from(quantity);
            }
            StockEvent::Order(OrderEvent::Cancelled { sku, quantity }) => {
                *self.sold.entry(sku).or_default() -= i64::from(quantity);
            }
            StockEvent::Order(OrderEvent::Paid { .. }) | StockEvent::Product(_) => {}
        }
    }
}

impl Projection for Dashboard {
    type Key = ();

    fn query((): &()) -> tailfold::Result<Filter> {
        Ok(Filter::all())
    }
}
