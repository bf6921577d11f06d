//! What the workloads record and fold: trades, twelve fields each, about 340 bytes as stored; and accounts whose state has
//! as many lines as trades name different items.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};

#[derive(Clone, Event)]
#[event(category = "account")]
pub(crate) enum AccountEvent {
    Traded(Trade),
    Settled(Settlement),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trade {
    pub(crate) order: u64,
    pub(crate) customer: String,
    pub(crate) item: String,
    pub(crate) side: Side,
    pub(crate) quantity: i64,
    pub(crate) price_cents: i64,
    pub(crate) fee: f64,
    pub(crate) currency: String,
    pub(crate) venue: String,
    pub(crate) placed_at: String,
    pub(crate) partial: bool,
    pub(crate) note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Side {
    Buy,
    Sell,
}

/// A small event, for workloads in which the state is what matters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub(crate) item: String,
    pub(crate) cents: i64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "account")]
pub(crate) struct Account {
    pub(crate) cents: i64,
    pub(crate) trades: u64,
    pub(crate) lines: BTreeMap<String, Line>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
pub(crate) struct Line {
    pub(crate) quantity: i64,
    pub(crate) turnover_cents: i64,
    pub(crate) trades: u32,
    pub(crate) last_order: u64,
}

/// Lines of a state of about 1 KiB and of about 100 KiB, encoded.
pub(crate) const LINES_OF_1_KIB: u64 = 14;
pub(crate) const LINES_OF_100_KIB: u64 = 1400;

impl AccountEvent {
    pub(crate) const TRADED: &'static str = "account.traded";
    pub(crate) const SETTLED: &'static str = "account.settled";

    /// The trade with that number, in one of so many items.
    pub(crate) fn traded(number: u64, items: u64) -> Self {
        Self::Traded(Trade {
            order: 7_000_000_000 + number,
            customer: format!("cust-{:06}", number % 100_000),
            item: item(number % items),
            side: if number.is_multiple_of(3) { Side::Sell } else { Side::Buy },
            quantity: 1 + (number % 900) as i64,
            price_cents: 12_345 + (number % 7_001) as i64,
            fee: 0.25 + (number % 1000) as f64 / 1000.0,
            currency: "EUR".to_owned(),
            venue: "XETRA".to_owned(),
            placed_at: format!(
                "2026-11-21T{:02}:{:02}:{:02}Z",
                number / 3600 % 24,
                number / 60 % 60,
                number % 60
            ),
            partial: number.is_multiple_of(7),
            note: None,
        })
    }

    pub(crate) fn settled(number: u64, items: u64) -> Self {
        Self::Settled(Settlement { item: item(number % items), cents: (number % 1000) as i64 })
    }
}

fn item(number: u64) -> String {
    format!("item-{number:08}")
}

impl Fold for Account {
    type Event = AccountEvent;

    fn apply(&mut self, event: AccountEvent, _meta: &EventMeta<'_>) {
        match event {
            AccountEvent::Traded(trade) => self.trade(trade),
            AccountEvent::Settled(Settlement { item, cents }) => {
                self.cents += cents;
                let line = self.lines.entry(item).or_default();
                line.turnover_cents += cents;
                line.trades += 1;
            }
        }
    }
}

impl Account {
    /// The fold without tailfold.
    pub(crate) fn trade(&mut self, trade: Trade) {
        let cents = trade.quantity * trade.price_cents;
        self.cents += match trade.side {
            Side::Buy => -cents,
            Side::Sell => cents,
        };
        self.trades += 1;
        let line = self.lines.entry(trade.item).or_default();
        line.quantity += trade.quantity;
        line.turnover_cents += cents;
        line.trades += 1;
        line.last_order = trade.order;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_sizes_that_the_workloads_name() {
        for (lines, wanted) in [(LINES_OF_1_KIB, 1 << 10), (LINES_OF_100_KIB, 100 << 10)] {
            let mut account = Account::default();
            for number in 0..lines * 3 {
                let AccountEvent::Traded(trade) = AccountEvent::traded(number, lines) else { continue };
                account.trade(trade);
            }
            let size = rmp_serde::to_vec_named(&account).expect("it encodes").len();
            assert!(size.abs_diff(wanted) * 10 < wanted, "{lines} lines: {size} bytes instead of {wanted}");
        }
    }
}
