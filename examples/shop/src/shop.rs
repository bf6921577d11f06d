//! The shop: its repositories over one store, and its commands.

use tailfold::{EventId, Policy, Position, Projected, Repository, Source};
use tailfold_sqlite::SqliteStore;

use crate::{
    Customer, Dashboard, Order, OrderEvent, Product, Refusal, Result, Stock, Username, next, username,
};

/// A shop over one store. Cheap to clone.
#[derive(Clone)]
pub struct Shop {
    store: SqliteStore,
    customers: Repository<Customer>,
    products: Repository<Product>,
    orders: Repository<Order>,
    usernames: Repository<Username>,
    stock: Repository<Stock>,
    dashboard: Repository<Dashboard>,
}

impl Shop {
    /// Over a store, with snapshots of what gathers many events.
    ///
    /// # Errors
    /// If the store cannot do what is asked of it.
    pub fn over(store: SqliteStore) -> Result<Self> {
        Ok(Self {
            customers: Repository::builder(store.clone()).build()?,
            products: Repository::builder(store.clone()).build()?,
            orders: Repository::builder(store.clone()).build()?,
            // One event at most. A snapshot would gain nothing, and would keep the name after the customer is erased.
            usernames: Repository::builder(store.clone()).build()?,
            stock: Repository::builder(store.clone()).snapshots(Policy::every(20)).build()?,
            dashboard: Repository::builder(store.clone()).snapshots(Policy::every(10)).build()?,
            store,
        })
    }

    /// Where it is kept.
    pub fn store(&self) -> &SqliteStore {
        &self.store
    }

    /// Takes a product into the shop.
    ///
    /// # Errors
    /// Refusals of [`Product::list`].
    pub async fn list(&self, sku: &str, cents: u64) -> Result<Option<Position>> {
        Ok(self.products.execute(sku, |product| product.list(sku, cents)).await??.position())
    }

    /// Takes goods in.
    ///
    /// # Errors
    /// Refusals of [`Product::receive`].
    pub async fn receive(&self, sku: &str, quantity: u32) -> Result<Option<Position>> {
        Ok(self.products.execute(sku, |product| product.receive(sku, quantity)).await??.position())
    }

    /// Registers a customer under a name that nobody else has, however many try at the same time. Answers the id.
    ///
    /// # Errors
    /// `BadName`, and refusals of [`Username::register`].
    pub async fn register(&self, username: &str) -> Result<String> {
        let username = username::checked(username)?;
        let id = EventId::fresh().to_string();
        self.usernames
            .decide(username, |name| Ok::<_, Refusal>((id.as_str(), name.register(username)?)))
            .await??;
        Ok(id)
    }

    /// Places an order, never for more than is there, however many do at the same time. Answers the order's id, and where in the
    /// log it stands.
    ///
    /// # Errors
    /// `UnknownCustomer`, and refusals of [`Stock::sell`].
    pub async fn place(
        &self,
        customer: &str,
        sku: &str,
        quantity: u32,
    ) -> Result<(String, Option<Position>)> {
        if self.customers.load(customer).await?.state().username.is_none() {
            return Err(Refusal::UnknownCustomer.into());
        }
        // Ids are the shop's own, so that no two orders share a stream: a decision on the stock does not look at it.
        let order = EventId::fresh().to_string();
        let sell = |stock: &Stock| Ok::<_, Refusal>((order.as_str(), stock.sell(sku, quantity, customer)?));
        let position = self.stock.decide(sku, sell).await??.position();
        Ok((order, position))
    }

    /// Takes the money for an order.
    ///
    /// # Errors
    /// Refusals of [`Order::pay`].
    pub async fn pay(&self, order: &str) -> Result<Option<Position>> {
        self.change(order, Order::pay).await
    }

    /// Gives up an order.
    ///
    /// # Errors
    /// Refusals of [`Order::cancel`].
    pub async fn cancel(&self, order: &str) -> Result<Option<Position>> {
        self.change(order, Order::cancel).await
    }

    async fn change(
        &self,
        order: &str,
        decide: fn(&Order) -> std::result::Result<OrderEvent, Refusal>,
    ) -> Result<Option<Position>> {
        Ok(self.orders.execute(order, decide).await??.position())
    }

    /// Erases a customer: events, and whatever was folded from them. What they ordered stays, under an id that nobody can tell.
    ///
    /// # Errors
    /// `UnknownCustomer`.
    pub async fn erase_customer(&self, customer: &str) -> Result<Option<Position>> {
        if self.customers.load(customer).await?.state().username.is_none() {
            return Err(Refusal::UnknownCustomer.into());
        }
        Ok(self.customers.erase(customer).await?.tombstone)
    }

    /// What is left of a product.
    ///
    /// # Errors
    /// What meets the store.
    pub async fn stock(&self, sku: &str) -> Result<Projected<Stock>> {
        Ok(self.stock.load(sku).await?)
    }

    /// The figures of the day.
    ///
    /// # Errors
    /// What meets the store.
    pub async fn dashboard(&self) -> Result<Projected<Dashboard>> {
        Ok(self.dashboard.load(()).await?)
    }

    /// The next release's dashboard, as a repository: to be warmed before that release takes over.
    ///
    /// # Errors
    /// If the store cannot do what is asked of it.
    pub fn next_dashboard(&self) -> Result<Repository<next::Dashboard>> {
        Ok(Repository::builder(self.store.clone()).snapshots(Policy::every(10)).build()?)
    }

    /// Waits until the snapshots that are due are written.
    pub async fn flush(&self) {
        self.stock.flush().await;
        self.dashboard.flush().await;
    }

    /// Writes the snapshots that are due, and closes the store.
    ///
    /// # Errors
    /// If something could not be written.
    pub async fn close(self) -> Result<()> {
        self.stock.close().await?;
        self.dashboard.close().await?;
        Ok(self.store.close().await?)
    }
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shop").field("store", &self.store.path()).finish_non_exhaustive()
    }
}

/// How a load was served, in words.
pub fn explained<P>(loaded: &Projected<P>) -> String {
    let report = loaded.report();
    let mut words = match report.source {
        Source::Snapshot(at) => {
            format!("the snapshot at position {at} and {} events after it", report.replayed_events)
        }
        _ => format!("{} events, without a snapshot", report.replayed_events),
    };
    for rejected in &report.rejected {
        words += &format!("; a snapshot was rejected: {}", rejected.reason);
    }
    words
}
