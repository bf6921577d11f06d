use serde::{Deserialize, Serialize};

#[derive(tailfold::Event)]
#[event(category = "account", codec = ron)]
enum AccountEvent {
    Opened,
}

#[derive(Clone, Serialize, Deserialize, tailfold::State)]
#[state(name = "account", codec = not_a_codec)]
struct Account {
    cents: i64,
}

fn not_a_codec() -> u8 {
    0
}

fn main() {}
