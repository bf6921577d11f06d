//! What workloads of projections record and fold: trades of accounts and payments of customers, in turn, over many streams.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailfold::{
    Commit, Event, EventData, EventMeta, EventStore, EventType, Events, Expected, Filter, Fold, Head,
    NewEvent, Projection, State, StreamId,
};

use crate::appending;
use crate::harness::Result;
use crate::trade::{AccountEvent, LINES_OF_1_KIB, Settlement, Trade};

#[derive(Clone, Event)]
#[event(category = "customer")]
pub(crate) enum CustomerEvent {
    Paid(Payment),
}

/// About 160 bytes as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) payment: u64,
    pub(crate) payer: String,
    pub(crate) cents: i64,
    pub(crate) currency: String,
    pub(crate) method: String,
    pub(crate) paid_at: String,
    pub(crate) note: Option<String>,
}

impl CustomerEvent {
    pub(crate) const PAID: &'static str = "customer.paid";

    fn paid(number: u64) -> Self {
        Self::Paid(Payment {
            payment: 9_000_000_000 + number,
            payer: format!("cust-{:06}", number % 100_000),
            cents: 100 + (number % 9_001) as i64,
            currency: "EUR".to_owned(),
            method: if number.is_multiple_of(5) { "card" } else { "transfer" }.to_owned(),
            paid_at: format!("2026-11-21T{:02}:{:02}:00Z", number / 60 % 24, number % 60),
            note: None,
        })
    }
}

#[derive(Clone, Events)]
pub(crate) enum MarketEvent {
    Account(AccountEvent),
    Customer(CustomerEvent),
}

/// What is traded and paid, over all accounts and customers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, State)]
#[state(name = "market", projection)]
pub(crate) struct Market {
    pub(crate) events: u64,
    pub(crate) turnover_cents: BTreeMap<String, i64>,
    pub(crate) paid_cents: BTreeMap<String, i64>,
}

impl Fold for Market {
    type Event = MarketEvent;

    fn apply(&mut self, event: MarketEvent, _meta: &EventMeta<'_>) {
        match event {
            MarketEvent::Account(AccountEvent::Traded(trade)) => self.trade(trade),
            MarketEvent::Account(AccountEvent::Settled(Settlement { item, cents })) => {
                self.events += 1;
                *self.turnover_cents.entry(item).or_default() += cents;
            }
            MarketEvent::Customer(CustomerEvent::Paid(payment)) => self.pay(payment),
        }
    }
}

impl Projection for Market {
    type Key = ();

    fn query((): &()) -> tailfold::Result<Filter> {
        Ok(Filter::all())
    }
}

impl Market {
    /// The fold without tailfold.
    pub(crate) fn trade(&mut self, trade: Trade) {
        self.events += 1;
        *self.turnover_cents.entry(trade.item).or_default() += trade.quantity * trade.price_cents;
    }

    pub(crate) fn pay(&mut self, payment: Payment) {
        self.events += 1;
        *self.paid_cents.entry(payment.method).or_default() += payment.cents;
    }
}

const EVENTS_OF_A_COMMIT: u64 = 1000;
/// Of one stream in a commit.
const IN_A_ROW: u64 = 2;

/// Records so many events, in turn of so many streams, half of them accounts and half customers.
pub(crate) async fn record(store: &impl EventStore, events: u64, streams: u64) -> Result<()> {
    let (traded, paid) = (EventType::new(AccountEvent::TRADED)?, EventType::new(CustomerEvent::PAID)?);
    let metadata = appending::metadata()?;
    let mut heads: Vec<Option<Head>> = Vec::new();
    heads.resize(usize::try_from(streams)?, None);
    for first in (0..events).step_by(EVENTS_OF_A_COMMIT as usize) {
        let mut commit: Option<Commit> = None;
        for run in (first..events.min(first + EVENTS_OF_A_COMMIT)).step_by(IN_A_ROW as usize) {
            let stream = run / IN_A_ROW % streams;
            let of_account = stream.is_multiple_of(2);
            let mut batch = Vec::new();
            for number in run..events.min(run + IN_A_ROW) {
                let (event_type, payload) = match of_account {
                    true => (&traded, AccountEvent::traded(number, LINES_OF_1_KIB).encode()?),
                    false => (&paid, CustomerEvent::paid(number).encode()?),
                };
                let mut data = EventData::new(event_type.clone(), payload);
                data.metadata = metadata.clone();
                batch.push(NewEvent::new(data)?);
            }
            let category = if of_account { AccountEvent::CATEGORY } else { CustomerEvent::CATEGORY };
            let head = heads.get(stream as usize).copied().flatten();
            let stream = StreamId::new(category, &stream.to_string())?;
            let expected = Expected::from_head(head);
            commit = Some(match commit {
                None => Commit::new(stream, expected, batch),
                Some(commit) => commit.and(stream, expected, batch),
            });
        }
        let committed = store.append(commit.ok_or("a commit without events")?).await?;
        for written in committed.writes {
            let number: usize = written.stream.id().parse()?;
            if let Some(head) = heads.get_mut(number) {
                *head = Some(written.head);
            }
        }
    }
    Ok(())
}
