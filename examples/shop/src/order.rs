//! An order, from placed to paid or cancelled.

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};

use crate::Refusal;

/// What happens to an order. Only what changes the stock carries the product's tag: a payment never stands in the way of a sale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "order")]
pub enum OrderEvent {
    /// Goods are set aside. Decided on [`Stock`](crate::Stock), not here.
    #[event(tag = "sku:{sku}")]
    Placed {
        /// For whom; an id says nothing about the person.
        customer: String,
        /// Which product.
        sku: String,
        /// How many.
        quantity: u32,
        /// For all of them.
        cents: u64,
    },
    /// It is paid.
    Paid {
        /// What came in.
        cents: u64,
    },
    /// The goods are free again.
    #[event(tag = "sku:{sku}")]
    Cancelled {
        /// Which product.
        sku: String,
        /// How many.
        quantity: u32,
    },
}

/// An order as its commands need it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "order")]
pub enum Order {
    /// There is none.
    #[default]
    None,
    /// It waits to be paid.
    Open {
        /// Which product.
        sku: String,
        /// How many.
        quantity: u32,
        /// For all of them.
        cents: u64,
    },
    /// It is paid.
    Paid,
    /// It was cancelled.
    Cancelled,
}

impl Fold for Order {
    type Event = OrderEvent;

    fn apply(&mut self, event: OrderEvent, _meta: &EventMeta<'_>) {
        *self = match event {
            OrderEvent::Placed { sku, quantity, cents, .. } => Self::Open { sku, quantity, cents },
            OrderEvent::Paid { .. } => Self::Paid,
            OrderEvent::Cancelled { .. } => Self::Cancelled,
        };
    }
}

impl Order {
    /// Takes the money.
    ///
    /// # Errors
    /// If the order is not open.
    pub fn pay(&self) -> Result<OrderEvent, Refusal> {
        let (_, _, cents) = self.open()?;
        Ok(OrderEvent::Paid { cents })
    }

    /// Gives the goods back.
    ///
    /// # Errors
    /// If the order is not open.
    pub fn cancel(&self) -> Result<OrderEvent, Refusal> {
        let (sku, quantity, _) = self.open()?;
        Ok(OrderEvent::Cancelled { sku: sku.to_owned(), quantity })
    }

    fn open(&self) -> Result<(&str, u32, u64), Refusal> {
        match self {
            Self::Open { sku, quantity, cents } => Ok((sku, *quantity, *cents)),
            Self::None => Err(Refusal::UnknownOrder),
            Self::Paid => Err(Refusal::AlreadyPaid),
            Self::Cancelled => Err(Refusal::AlreadyCancelled),
        }
    }
}
