//! An order: its events, and its state.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};
use url::Url;
use uuid::Uuid;

/// What happens to an order.
#[derive(Clone, Debug, Event)]
#[event(category = "order")]
pub(crate) enum OrderEvent {
    /// A customer wants something.
    #[event(tag = "customer:{customer}")]
    Placed {
        /// Who.
        customer: Uuid,
        /// When.
        at: DateTime<Utc>,
        /// By which day it must be there.
        needed_by: Option<NaiveDate>,
    },
    /// A product is to be in it.
    LineAdded {
        /// Id of the line.
        line: Uuid,
        /// What.
        product: Url,
        /// How many.
        quantity: u32,
        /// For how much each.
        price: Decimal,
    },
    /// It is not wanted any more.
    LineRemoved {
        /// Id of the line.
        line: Uuid,
    },
    /// Money came in.
    Paid {
        /// How much.
        amount: Decimal,
        /// When.
        at: Timestamp,
    },
}

/// What is known of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "order")]
pub(crate) struct Order {
    customer: Option<Uuid>,
    placed_at: Option<DateTime<Utc>>,
    needed_by: Option<NaiveDate>,
    lines: BTreeMap<Uuid, Line>,
    payments: Vec<(Timestamp, Decimal)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, State)]
struct Line {
    product: Url,
    quantity: u32,
    price: Decimal,
}

impl Fold for Order {
    type Event = OrderEvent;

    fn apply(&mut self, event: OrderEvent, _: &EventMeta<'_>) {
        match event {
            OrderEvent::Placed { customer, at, needed_by } => {
                *self = Self { customer: Some(customer), placed_at: Some(at), needed_by, ..Self::default() };
            }
            OrderEvent::LineAdded { line, product, quantity, price } => {
                self.lines.insert(line, Line { product, quantity, price });
            }
            OrderEvent::LineRemoved { line } => {
                self.lines.remove(&line);
            }
            OrderEvent::Paid { amount, at } => self.payments.push((at, amount)),
        }
    }
}

impl Order {
    /// The sum of the lines, less what is paid.
    pub(crate) fn due(&self) -> Decimal {
        let lines: Decimal = self.lines.values().map(|line| line.price * Decimal::from(line.quantity)).sum();
        let paid: Decimal = self.payments.iter().map(|(_, amount)| amount).sum();
        lines - paid
    }
}
