//! A product: what it costs and what has arrived. The stream's id is the product's number, its sku.

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};

use crate::Refusal;

/// What happens to a product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "product")]
pub enum ProductEvent {
    /// It is in the shop now.
    #[event(tag = "sku:{sku}")]
    Listed {
        /// Which; the tag is made of it.
        sku: String,
        /// Price of one.
        cents: u64,
    },
    /// Goods came in.
    #[event(tag = "sku:{sku}")]
    Received {
        /// Which.
        sku: String,
        /// How many.
        quantity: u32,
    },
}

/// A product as its commands need it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "product")]
pub struct Product {
    listed: bool,
}

impl Fold for Product {
    type Event = ProductEvent;

    fn apply(&mut self, event: ProductEvent, _meta: &EventMeta<'_>) {
        if let ProductEvent::Listed { .. } = event {
            self.listed = true;
        }
    }
}

impl Product {
    /// Takes it into the shop, once.
    ///
    /// # Errors
    /// `AlreadyListed`.
    pub fn list(&self, sku: &str, cents: u64) -> Result<ProductEvent, Refusal> {
        match self.listed {
            true => Err(Refusal::AlreadyListed),
            false => Ok(ProductEvent::Listed { sku: sku.to_owned(), cents }),
        }
    }

    /// Takes goods in.
    ///
    /// # Errors
    /// `NotListed`, `NoQuantity`.
    pub fn receive(&self, sku: &str, quantity: u32) -> Result<ProductEvent, Refusal> {
        match (self.listed, quantity) {
            (false, _) => Err(Refusal::NotListed),
            (true, 0) => Err(Refusal::NoQuantity),
            (true, _) => Ok(ProductEvent::Received { sku: sku.to_owned(), quantity }),
        }
    }
}
