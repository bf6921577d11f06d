//! A live read model in SQL: each customer's orders, in an SQLite file beside the store.

use std::path::{Path, PathBuf};

use tailfold::{BoxError, Delivery, Events, Lag, Parked, Position, Retry, Subscription};
use tailfold_sqlite::rusqlite::{self, Connection, OpenFlags, Transaction};
use tailfold_sqlite::{SqliteReadModel, SqliteStore};

use crate::{CustomerEvent, OrderEvent};

/// What the read model follows.
#[derive(Clone, Debug, Events)]
pub(crate) enum CustomerOrOrder {
    /// Who is there.
    Customer(CustomerEvent),
    /// What they ordered.
    Order(OrderEvent),
}

/// Which layout of the tables. Each has a file and a subscription of its own, so that a new one is built beside the running one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Takes no username longer than 12.
    First,
    /// Takes them all, and finds a customer's orders by index.
    Second,
}

/// The read model, following the log while this exists.
#[derive(Debug)]
pub struct OrdersByCustomer {
    path: PathBuf,
    release: Release,
    subscription: Subscription,
}

/// An order as the read model has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderRow {
    /// Its id.
    pub order: String,
    /// Name of the customer, who is never told by the order itself.
    pub username: String,
    /// Which product.
    pub sku: String,
    /// How many.
    pub quantity: u32,
    /// For all of them.
    pub cents: u64,
    /// `open`, `paid` or `cancelled`.
    pub state: String,
}

impl Release {
    fn name(self) -> &'static str {
        match self {
            Self::First => "orders-v1",
            Self::Second => "orders-v2",
        }
    }

    fn tables(self) -> &'static str {
        match self {
            Self::First => include_str!("orders_v1.sql"),
            Self::Second => include_str!("orders_v2.sql"),
        }
    }
}

impl OrdersByCustomer {
    /// Begins to follow a store, from where the file in the directory stands; from the first event on, if there is none.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn follow(store: &SqliteStore, directory: &Path, release: Release) -> tailfold::Result<Self> {
        let path = directory.join(format!("{}.sqlite", release.name()));
        let model = SqliteReadModel::open(&path, handle)?;
        model.prepare(release.tables())?;
        // By default an event is tried for minutes before it is parked, so that what the handler needs may come back. A day in
        // this shop is short, and what its tables refuse once they refuse again.
        let retry = Retry { limit: 3, ..Retry::default() };
        let subscription =
            Subscription::builder(store.clone(), release.name(), model).retry(retry).start()?;
        Ok(Self { path, release, subscription })
    }

    /// Returns once what a command recorded is in the tables; the position comes from its receipt.
    ///
    /// # Errors
    /// What ended the subscription.
    pub async fn wait_for(&self, position: Option<Position>) -> tailfold::Result<()> {
        self.subscription.wait_for(position).await
    }

    /// Returns once everything recorded so far is in the tables.
    ///
    /// # Errors
    /// What ended the subscription, or meets the log.
    pub async fn wait_until_current(&self) -> tailfold::Result<()> {
        self.subscription.wait_until_current().await
    }

    /// How far it is behind.
    ///
    /// # Errors
    /// What meets the log.
    pub async fn lag(&self) -> tailfold::Result<Lag> {
        self.subscription.lag().await
    }

    /// The events that it could not handle.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn parked(&self) -> tailfold::Result<Vec<Parked>> {
        tailfold_sqlite::parked_events(&self.path, self.release.name())
    }

    /// A customer's orders, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn of(&self, customer: &str) -> rusqlite::Result<Vec<OrderRow>> {
        self.select("WHERE customer = ?1", [customer])
    }

    /// All orders, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn all(&self) -> rusqlite::Result<Vec<OrderRow>> {
        self.select("", [])
    }

    fn select(&self, which: &str, parameters: impl rusqlite::Params) -> rusqlite::Result<Vec<OrderRow>> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = connection.prepare(&format!(
            "SELECT orders.id, username, sku, quantity, cents, state
             FROM orders JOIN customers ON customers.id = customer {which} ORDER BY orders.id"
        ))?;
        let rows = statement.query_map(parameters, |row| {
            Ok(OrderRow {
                order: row.get(0)?,
                username: row.get(1)?,
                sku: row.get(2)?,
                quantity: row.get(3)?,
                cents: row.get::<_, i64>(4)?.cast_unsigned(),
                state: row.get(5)?,
            })
        })?;
        rows.collect()
    }

    /// Stops following; the file stays, and the next `follow` goes on from there.
    ///
    /// # Errors
    /// What had ended the subscription before.
    pub async fn stop(self) -> tailfold::Result<()> {
        self.subscription.stop().await
    }
}

/// Writes one event into the tables, in the transaction that moves the checkpoint: nothing is counted twice.
fn handle(
    transaction: &Transaction<'_>,
    delivery: &Delivery<CustomerOrOrder>,
) -> std::result::Result<(), BoxError> {
    let id = delivery.recorded().stream.id();
    match delivery.event() {
        Some(CustomerOrOrder::Customer(CustomerEvent::Registered { username })) => {
            transaction.execute("INSERT INTO customers VALUES (?1, ?2)", (id, username))?;
        }
        Some(CustomerOrOrder::Order(OrderEvent::Placed { customer, sku, quantity, cents })) => {
            // Of a customer who was erased, orders stay in the log; a model that is built anew must not bring them back.
            transaction.execute(
                "INSERT INTO orders SELECT ?1, id, ?3, ?4, ?5, 'open' FROM customers WHERE id = ?2",
                (id, customer, sku, quantity, cents.cast_signed()),
            )?;
        }
        Some(CustomerOrOrder::Order(OrderEvent::Paid { .. })) => {
            transaction.execute("UPDATE orders SET state = 'paid' WHERE id = ?1", [id])?;
        }
        Some(CustomerOrOrder::Order(OrderEvent::Cancelled { .. })) => {
            transaction.execute("UPDATE orders SET state = 'cancelled' WHERE id = ?1", [id])?;
        }
        None => {
            // The stream was erased. Ids are unique among customers and orders.
            transaction.execute("DELETE FROM orders WHERE ?1 IN (id, customer)", [id])?;
            transaction.execute("DELETE FROM customers WHERE id = ?1", [id])?;
        }
    }
    Ok(())
}
