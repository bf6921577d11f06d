use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Money {
    cents: i64,
}

#[derive(tailfold::Event)]
#[event(category = "account")]
enum AccountEvent {
    Paid { money: Vec<Money> },
}

#[derive(Clone, Default, Serialize, Deserialize, tailfold::State)]
#[state(name = "account")]
struct Account {
    // It would change under whoever holds the state.
    #[state(opaque = "v1")]
    hits: Arc<AtomicU64>,
}

fn main() {}
