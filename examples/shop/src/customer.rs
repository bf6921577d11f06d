//! A customer: the only stream with personal data, so that erasing it is enough.

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};

/// What happens to a customer. Orders name customers by id alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "customer")]
pub enum CustomerEvent {
    /// Somebody took a username; the tag is what the rule about usernames asks for.
    #[event(tag = "username:{username}")]
    Registered {
        /// Unique; see [`Username`](crate::Username).
        username: String,
    },
}

/// A customer, folded from a stream of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "customer")]
pub struct Customer {
    /// `None`: nobody, or erased.
    pub username: Option<String>,
}

impl Fold for Customer {
    type Event = CustomerEvent;

    fn apply(&mut self, CustomerEvent::Registered { username }: CustomerEvent, _meta: &EventMeta<'_>) {
        self.username = Some(username);
    }
}
