//! Tags that are made of data, which may be anything.

use serde::{Deserialize, Serialize};
use tailfold::{
    ErrorKind, Event, EventMeta, EventStoreExt as _, Filter, Fold, MemoryStore, Position, Repository, State,
    Tag,
};

#[derive(Clone, Event)]
#[event(category = "customer")]
enum CustomerEvent {
    #[event(tag = "all", tag = "email:{email}", long = hash)]
    Registered { email: String },
    #[event(tag = "all", tag = "name:{name}")]
    Renamed { name: String },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "customer")]
struct Customer {
    events: u64,
}

impl Fold for Customer {
    type Event = CustomerEvent;

    fn apply(&mut self, _: CustomerEvent, _: &EventMeta<'_>) {
        self.events += 1;
    }
}

#[tokio::test]
async fn an_event_is_found_by_the_tag_of_data_that_does_not_fit() {
    let store = MemoryStore::new();
    let customers = Repository::<Customer>::builder(store.clone()).build().unwrap();
    for (id, email) in [("1", "x".repeat(300)), ("2", "a\nb".to_owned()), ("3", "ann@example.com".to_owned())]
    {
        let event = CustomerEvent::Registered { email: email.clone() };
        customers.execute(id, |_| Ok::<_, String>(event.clone())).await.unwrap().unwrap();
        let filter = Filter::tag(Tag::fitted(&format!("email:{email}")));
        let found = store.read_all_to_vec(Position::ZERO, filter).await.unwrap();
        assert_eq!(found.iter().map(|event| event.stream.id()).collect::<Vec<_>>(), [id]);
    }
}

#[tokio::test]
async fn a_tag_that_does_not_fit_is_told_with_its_event_and_what_helps() {
    let customers = Repository::<Customer>::builder(MemoryStore::new()).build().unwrap();
    let event = CustomerEvent::Renamed { name: "x".repeat(1_000_000) };
    let error = customers.execute("1", |_| Ok::<_, String>(event.clone())).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        format!(
            "execute on `customer/1`: tag 2 of event `customer.renamed` does not fit; `#[event(tag = \"..\", long = hash)]` \
             records a hash of what does not: tag \"name:{}\".. (1000005 bytes): must be 1..=255 bytes without control \
             characters",
            "x".repeat(75)
        )
    );
}
