//! The facts and projections that the cases about many streams use: a shop's sales and deliveries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailfold::{
    Erased, Event, EventMeta, Events, Filter, Fold, Projection, Repository, Result, State, Store, StreamId,
    Tag,
};

/// What happens in one sale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "sale")]
pub enum SaleEvent {
    /// Something was sold.
    #[event(tag = "item:{item}")]
    Sold {
        /// What.
        item: String,
        /// How many.
        quantity: i64,
    },
    /// Something came back.
    #[event(tag = "item:{item}")]
    Returned {
        /// What.
        item: String,
        /// How many.
        quantity: i64,
    },
    /// A remark that no projection is about.
    Remarked {
        /// What was said.
        remark: String,
    },
}

/// Of a delivery, what the projections are about: its other events are never read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "delivery")]
pub enum Arrival {
    /// Goods came in.
    #[event(name = "delivery.arrived", tag = "item:{item}")]
    Arrived {
        /// What.
        item: String,
        /// How many.
        quantity: i64,
    },
}

/// Of a sale, what changes the stock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "sale")]
pub enum Departure {
    /// Something was sold.
    #[event(name = "sale.sold", tag = "item:{item}")]
    Sold {
        /// What.
        item: String,
        /// How many.
        quantity: i64,
    },
    /// Something came back.
    #[event(name = "sale.returned", tag = "item:{item}")]
    Returned {
        /// What.
        item: String,
        /// How many.
        quantity: i64,
    },
}

/// What changes a stock.
#[derive(Clone, Debug, PartialEq, Events)]
pub enum StockEvent {
    /// Goods came in.
    Arrival(Arrival),
    /// Goods went out, or back.
    Departure(Departure),
}

/// What is there, of everything. Notices every event left out, repeated or swapped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "stock", projection)]
pub struct Stock {
    /// By item.
    pub items: BTreeMap<String, i64>,
    /// Number of events folded.
    pub count: u64,
    /// Digest of the events folded, in order.
    pub trace: u64,
}

impl Fold for Stock {
    type Event = StockEvent;

    fn apply(&mut self, event: StockEvent, meta: &EventMeta<'_>) {
        let (item, change) = change(event);
        *self.items.entry(item).or_default() += change;
        self.count += 1;
        let number = change as u64 ^ meta.version().0.rotate_left(32) ^ (meta.stream().as_str().len() as u64);
        self.trace = (self.trace ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Projection for Stock {
    type Key = ();

    fn query((): &()) -> Result<Filter> {
        Ok(Filter::all())
    }
}

/// What is there of one item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "item-stock", projection)]
pub struct ItemStock {
    /// How many.
    pub quantity: i64,
}

impl Fold for ItemStock {
    type Event = StockEvent;

    fn apply(&mut self, event: StockEvent, _meta: &EventMeta<'_>) {
        self.quantity += change(event).1;
    }
}

impl Projection for ItemStock {
    type Key = String;

    fn query(item: &String) -> Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("item:{item}"))?))
    }
}

/// What each sale has taken; takes out what was erased.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "sales-by-stream", projection)]
pub struct SalesByStream {
    /// By stream.
    pub taken: BTreeMap<String, i64>,
}

impl Fold for SalesByStream {
    type Event = Departure;

    fn apply(&mut self, event: Departure, meta: &EventMeta<'_>) {
        let (_, change) = change(StockEvent::Departure(event));
        *self.taken.entry(meta.stream().to_string()).or_default() -= change;
    }
}

impl Projection for SalesByStream {
    type Key = ();

    fn query((): &()) -> Result<Filter> {
        Ok(Filter::all())
    }

    fn erased(&mut self, stream: &StreamId) -> Erased {
        self.taken.remove(stream.as_str());
        Erased::Forgotten
    }
}

fn change(event: StockEvent) -> (String, i64) {
    match event {
        StockEvent::Arrival(Arrival::Arrived { item, quantity })
        | StockEvent::Departure(Departure::Returned { item, quantity }) => (item, quantity),
        StockEvent::Departure(Departure::Sold { item, quantity }) => (item, -quantity),
    }
}

/// The aggregates whose events these are: they only record.
macro_rules! recorders {
    ($($name:ident $label:literal $event:ty),*) => {$(
        /// Records.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
        #[state(name = $label)]
        pub struct $name {
            count: u64,
        }

        impl Fold for $name {
            type Event = $event;

            fn apply(&mut self, _: $event, _: &EventMeta<'_>) {
                self.count += 1;
            }
        }
    )*};
}

recorders!(Sale "sale" SaleEvent, Delivery "delivery" Arrival);

/// Records events of both kinds.
pub(super) struct Shop {
    pub(super) sales: Repository<Sale>,
    deliveries: Repository<Delivery>,
}

impl Shop {
    pub(super) fn over(store: &std::sync::Arc<dyn Store>) -> Self {
        Self {
            sales: Repository::builder(store.clone()).build().expect("nothing can be wrong"),
            deliveries: Repository::builder(store.clone()).build().expect("nothing can be wrong"),
        }
    }

    /// The n-th of a fixed series: every third a delivery, the others sales, spread over a few streams of both.
    pub(super) async fn record(&self, n: u64) {
        let item = ["tea", "cup", "pot"].get((n % 3) as usize).copied().unwrap_or("tea").to_owned();
        let quantity = (n % 7) as i64 + 1;
        let id = format!("{}", n % 5);
        match n % 3 {
            0 => self.deliver(&id, Arrival::Arrived { item, quantity }).await,
            1 => self.sell(&id, SaleEvent::Sold { item, quantity }).await,
            _ => self.sell(&id, SaleEvent::Returned { item, quantity }).await,
        }
    }

    pub(super) async fn record_all(&self, numbers: std::ops::Range<u64>) {
        for n in numbers {
            self.record(n).await;
        }
    }

    /// Something that no projection is about.
    pub(super) async fn remark(&self, times: u64) {
        let remark = SaleEvent::Remarked { remark: "as always".to_owned() };
        for _ in 0..times.div_ceil(100) {
            let events = vec![remark.clone(); times.min(100) as usize];
            let done = self.sales.execute("remarks", |_| Ok::<_, ()>(events.clone())).await;
            done.expect("execute").expect("no refusal");
        }
    }

    pub(super) async fn sell(&self, id: &str, event: SaleEvent) {
        let done = self.sales.execute(id, |_| Ok::<_, ()>(event.clone())).await;
        done.expect("execute").expect("no refusal");
    }

    pub(super) async fn deliver(&self, id: &str, event: Arrival) {
        let done = self.deliveries.execute(id, |_| Ok::<_, ()>(event.clone())).await;
        done.expect("execute").expect("no refusal");
    }
}
