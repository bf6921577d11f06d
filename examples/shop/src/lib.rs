//! A small shop over tailfold: aggregates, projections over several kinds of streams, a live read model in SQL, and rules that
//! hold over many streams. The README says where to look.

mod audit;
mod customer;
mod dashboard;
mod next_release;
mod order;
mod orders_by_customer;
mod product;
mod refusal;
mod shop;
mod stock;
mod username;

pub use audit::{Audit, Difference};
pub use customer::{Customer, CustomerEvent};
pub use dashboard::{Dashboard, ShopEvent};
pub use order::{Order, OrderEvent};
pub use orders_by_customer::{OrderRow, OrdersByCustomer, Release};
pub use product::{Product, ProductEvent};
pub use refusal::{Error, Refusal, Result};
pub use shop::{Shop, explained};
pub use stock::{Stock, StockEvent};
pub use username::Username;

/// The dashboard as the next release of the program has it.
pub mod next {
    pub use crate::next_release::Dashboard;
}
