//! An independent pass over the log: plain JSON, event by event, without folds, filters, snapshots or read models. What they say
//! must be what it finds.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use tailfold::{EventStoreExt as _, Filter, Position};
use tailfold_sqlite::SqliteStore;

use crate::{Dashboard, OrderRow, OrdersByCustomer, Shop};

/// What the log says.
#[derive(Debug, Default)]
pub struct Audit {
    /// As the dashboard should have it.
    pub dashboard: Dashboard,
    /// Units left, by sku.
    pub stock: BTreeMap<String, i64>,
    /// By order id; those of customers who are registered.
    pub orders: BTreeMap<String, OrderRow>,
}

/// Something says otherwise than the log.
#[derive(Debug)]
pub struct Difference {
    what: &'static str,
    said: String,
    log: String,
}

/// Any payload of the shop.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Payload {
    username: String,
    customer: String,
    sku: String,
    quantity: u32,
    cents: u64,
}

impl Audit {
    /// Reads the whole log.
    ///
    /// # Errors
    /// What meets the store, or a payload that is no JSON.
    pub async fn of(store: &SqliteStore) -> Result<Self, Box<dyn std::error::Error>> {
        let mut audit = Self::default();
        let mut usernames = BTreeMap::new();
        for event in store.read_all_to_vec(Position::ZERO, Filter::all()).await? {
            let (id, kind) = (event.stream.id().to_owned(), event.data.event_type.as_str());
            if event.data.event_type.tells_of_removal() {
                continue;
            }
            let payload: Payload = serde_json::from_slice(&event.data.payload)?;
            audit.count(&mut usernames, id, kind, payload);
        }
        Ok(audit)
    }

    fn count(
        &mut self,
        usernames: &mut BTreeMap<String, String>,
        id: String,
        kind: &str,
        Payload { username, customer, sku, quantity, cents }: Payload,
    ) {
        let figures = &mut self.dashboard;
        let units = i64::from(quantity);
        match kind {
            "customer.registered" => {
                figures.customers.insert(id.clone());
                usernames.insert(id, username);
            }
            "product.listed" => {
                figures.products += 1;
                self.stock.insert(sku, 0);
            }
            "product.received" => {
                figures.units_received += u64::from(quantity);
                *self.stock.entry(sku).or_default() += units;
            }
            "order.placed" => {
                figures.placed += 1;
                *self.stock.entry(sku.clone()).or_default() -= units;
                if let Some(username) = usernames.get(&customer).cloned() {
                    let state = "open".to_owned();
                    let row = OrderRow { order: id.clone(), username, sku, quantity, cents, state };
                    self.orders.insert(id, row);
                }
            }
            "order.paid" => {
                figures.paid += 1;
                figures.revenue_cents += cents;
                self.settle(&id, "paid");
            }
            "order.cancelled" => {
                figures.cancelled += 1;
                *self.stock.entry(sku).or_default() += units;
                self.settle(&id, "cancelled");
            }
            _ => {}
        }
    }

    fn settle(&mut self, order: &str, state: &str) {
        if let Some(row) = self.orders.get_mut(order) {
            row.state = state.to_owned();
        }
    }

    /// Compares the shop's projections and a read model with the log; waits until the latter is current.
    ///
    /// # Errors
    /// The first [`Difference`], or what meets the store.
    pub async fn compare(
        &self,
        shop: &Shop,
        orders: &OrdersByCustomer,
    ) -> Result<(), Box<dyn std::error::Error>> {
        same("the dashboard", shop.dashboard().await?.state(), &self.dashboard)?;
        for (sku, left) in &self.stock {
            same("the stock", &shop.stock(sku).await?.state().left, left)?;
            if *left < 0 {
                return Err(Difference::between("the stock", &"never below zero", left).into());
            }
        }
        orders.wait_until_current().await?;
        let expected: Vec<_> = self.orders.values().cloned().collect();
        same("the read model", &orders.all()?, &expected)?;
        Ok(())
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &'static str, said: &T, log: &T) -> Result<(), Difference> {
    if said == log { Ok(()) } else { Err(Difference::between(what, said, log)) }
}

impl Difference {
    fn between(what: &'static str, said: &impl fmt::Debug, log: &impl fmt::Debug) -> Self {
        Self { what, said: format!("{said:?}"), log: format!("{log:?}") }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} says {}, the log {}", self.what, self.said, self.log)
    }
}

impl std::error::Error for Difference {}
