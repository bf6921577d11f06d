//! A rule over many streams: a username is given to one customer.

use serde::{Deserialize, Serialize};
use tailfold::{EventMeta, Filter, Fold, Projection, State, Tag};

use crate::{CustomerEvent, Refusal};

/// Whether a username is taken: a projection of the events that carry its tag, in whatever stream they stand.
///
/// When the customer is erased their event is gone, and the name is free.
#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "username", projection)]
pub struct Username {
    taken: bool,
}

impl Fold for Username {
    type Event = CustomerEvent;

    fn apply(&mut self, CustomerEvent::Registered { .. }: CustomerEvent, _meta: &EventMeta<'_>) {
        self.taken = true;
    }
}

impl Projection for Username {
    type Key = String;

    fn query(username: &String) -> tailfold::Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("username:{username}"))?))
    }
}

impl Username {
    /// Gives the name to somebody.
    ///
    /// # Errors
    /// `NameTaken`.
    pub fn register(&self, username: &str) -> Result<CustomerEvent, Refusal> {
        match self.taken {
            true => Err(Refusal::NameTaken(username.to_owned())),
            false => Ok(CustomerEvent::Registered { username: username.to_owned() }),
        }
    }
}

/// Whether it can be a username at all, which needs no look at the store.
pub(crate) fn checked(username: &str) -> Result<&str, Refusal> {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    match (1..=30).contains(&username.len()) && username.bytes().all(good) {
        true => Ok(username),
        false => Err(Refusal::BadName(username.to_owned())),
    }
}
