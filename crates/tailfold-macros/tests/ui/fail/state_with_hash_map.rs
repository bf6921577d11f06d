use std::collections::HashMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize, tailfold::State)]
#[state(name = "account")]
struct Account {
    cents: i64,
    holds: HashMap<String, i64>,
}

fn main() {}
