use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize, tailfold::State)]
#[state(name = "account")]
struct Account {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holds: Vec<u64>,
    #[serde(rename(serialize = "a", deserialize = "b"))]
    owner: Option<String>,
}

#[derive(Clone, Default, Serialize, Deserialize, tailfold::State)]
#[state(name = "account", codec = postcard)]
#[serde(default)]
struct Positional {
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

fn main() {}
