//! The folds that the cases use: one ledger, in the shapes that releases give it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};

/// What happens to a ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "ledger")]
pub enum LedgerEvent {
    /// Money came in.
    Credited {
        /// How much.
        cents: i64,
    },
    /// Money went out.
    Debited {
        /// How much.
        cents: i64,
    },
    /// The books were closed: carries all that is needed to go on.
    #[event(origin)]
    Closed {
        /// What was left.
        balance: i64,
        /// How many events there have been.
        count: u64,
        /// Digest of what happened.
        trace: u64,
    },
    /// Money came in, with a remark that a search finds.
    #[event(tag = "remark:{remark}")]
    Remarked {
        /// What was said.
        remark: String,
    },
}

/// A state that notices every event left out, repeated or swapped: `trace` depends on all of them, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "ledger", serial = 1)]
pub struct Ledger {
    /// Sum of what came in and went out.
    pub balance: i64,
    /// Number of events folded.
    pub count: u64,
    /// Digest of the events folded, in order.
    pub trace: u64,
    /// The last remarks.
    pub remarks: Vec<String>,
}

impl Fold for Ledger {
    type Event = LedgerEvent;

    fn apply(&mut self, event: LedgerEvent, meta: &EventMeta<'_>) {
        let number = match event {
            LedgerEvent::Closed { balance, count, trace } => {
                *self = Self { balance, count, trace, remarks: Vec::new() };
                return;
            }
            LedgerEvent::Credited { cents } => {
                self.balance += cents;
                cents
            }
            LedgerEvent::Debited { cents } => {
                self.balance -= cents;
                -cents
            }
            LedgerEvent::Remarked { remark } => {
                let length = remark.len() as i64;
                self.remarks.push(remark);
                if self.remarks.len() > 5 {
                    self.remarks.remove(0);
                }
                length
            }
        };
        self.count += 1;
        let place = meta.version().0;
        self.trace = (self.trace ^ number as u64 ^ place.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Ledger {
    /// Debits, if the balance allows.
    ///
    /// # Errors
    /// What is missing.
    pub fn debit(&self, cents: i64) -> Result<LedgerEvent, Overdrawn> {
        if cents > self.balance {
            return Err(Overdrawn { missing: cents - self.balance });
        }
        Ok(LedgerEvent::Debited { cents })
    }

    /// The event that closes the books.
    pub fn close(&self) -> LedgerEvent {
        LedgerEvent::Closed { balance: self.balance, count: self.count, trace: self.trace }
    }
}

/// The user's own error.
#[derive(Debug, PartialEq, Eq)]
pub struct Overdrawn {
    /// By how much.
    pub missing: i64,
}

/// The n-th of a fixed series of events.
pub fn event(n: u64) -> LedgerEvent {
    match n % 5 {
        0 | 3 => LedgerEvent::Debited { cents: (n % 7) as i64 },
        4 => LedgerEvent::Remarked { remark: format!("remark {n}") },
        _ => LedgerEvent::Credited { cents: (n % 11) as i64 },
    }
}

/// The first `n` events of the series.
pub fn events(n: u64) -> Vec<LedgerEvent> {
    (1..=n).map(event).collect()
}

/// A fresh id, so that cases can run side by side on one server.
pub fn actor() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:08x}-{}", fastrand::u32(..), NEXT.fetch_add(1, Ordering::Relaxed))
}
