use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize, tailfold::State)]
#[state(name = "account")]
struct Account {
    #[serde(skip)]
    cache: u64,
    #[serde(default, skip_serializing)]
    written: u64,
    #[serde(skip_deserializing)]
    read: u64,
    #[state(transient)]
    stored: u64,
    #[state(transient)]
    #[serde(default, skip_serializing)]
    half: u64,
    #[state(transient, opaque = "v1")]
    #[serde(skip)]
    both: u64,
}

fn main() {}
