use serde::{Deserialize, Serialize};

#[derive(tailfold::Event)]
#[event(category = "account")]
enum AccountEvent {
    Opened,
}

#[derive(Clone, Default, Serialize, Deserialize, tailfold::State)]
struct Account {
    cents: i64,
}

impl tailfold::Fold for Account {
    type Event = AccountEvent;

    fn apply(&mut self, _event: AccountEvent, _meta: &tailfold::EventMeta<'_>) {}
}

fn main() {}
