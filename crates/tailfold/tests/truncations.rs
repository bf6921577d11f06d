//! Cutting off the beginning of a stream: what is compared before, and what is said after.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde::{Deserialize, Serialize};
use tailfold::{ErrorKind, Event, EventMeta, Fold, MemoryStore, Repository, State, Timestamp};

#[derive(Clone, Debug, PartialEq, Event)]
#[event(category = "till")]
enum TillEvent {
    Opened {
        name: String,
    },
    Taken {
        cents: i64,
    },
    #[event(origin)]
    Counted {
        cents: i64,
    },
    Renamed {
        name: String,
    },
}

/// What `Counted` does not set is what an origin should.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "till")]
struct Till {
    name: String,
    cents: i64,
}

impl Fold for Till {
    type Event = TillEvent;

    fn apply(&mut self, event: TillEvent, _: &EventMeta<'_>) {
        match event {
            TillEvent::Opened { name } | TillEvent::Renamed { name } => self.name = name,
            TillEvent::Taken { cents } => self.cents += cents,
            TillEvent::Counted { cents } => self.cents = cents,
        }
    }
}

async fn till(events: Vec<TillEvent>) -> Repository<Till> {
    let tills = Repository::<Till>::builder(MemoryStore::new()).build().unwrap();
    tills.execute("1", |_| Ok::<_, String>(events.clone())).await.unwrap().unwrap();
    tills
}

#[tokio::test]
async fn an_origin_that_a_later_event_repairs_is_refused() {
    let tills = till(vec![
        TillEvent::Opened { name: "a".to_owned() },
        TillEvent::Taken { cents: 5 },
        TillEvent::Counted { cents: 5 },
        TillEvent::Renamed { name: "b".to_owned() },
    ])
    .await;
    let refused = tills.truncate("1", 3).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("at version 3, `name` is another"), "{refused}");
    assert_eq!(tills.load("1").at(3).await.unwrap().state().name, "a", "nothing was removed");
}

#[tokio::test]
async fn a_version_that_was_cut_off_is_told_also_where_a_moment_is_asked_for() {
    let tills = till(vec![
        TillEvent::Taken { cents: 5 },
        TillEvent::Taken { cents: 5 },
        TillEvent::Taken { cents: 5 },
        TillEvent::Counted { cents: 15 },
    ])
    .await;
    tills.truncate("1", 4).await.unwrap();
    let future = Timestamp::from_micros(i64::MAX / 2);
    let refused = tills.load("1").at(2).as_of(future).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("the stream starts at 4"), "{refused}");
    assert_eq!(tills.load("1").at(4).as_of(future).await.unwrap().state().cents, 15);
}
