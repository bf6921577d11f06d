use serde::{Deserialize, Serialize};

// As if it came from another crate.
#[derive(Clone, Serialize, Deserialize)]
struct Money {
    cents: i64,
}

#[derive(Clone, Serialize, Deserialize, tailfold::State)]
#[state(name = "account")]
enum Account {
    Open(Money),
    Closed { last: Option<Vec<Money>> },
}

fn main() {}
