//! A decision may run several times, so it cannot change what it captures.

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, MemoryStore, Repository, State};

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    Added { amount: u64 },
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "counter")]
struct Counter {
    total: u64,
}

impl Fold for Counter {
    type Event = CounterEvent;

    fn apply(&mut self, CounterEvent::Added { amount }: CounterEvent, _: &EventMeta<'_>) {
        self.total += amount;
    }
}

fn main() {
    let counters = Repository::<Counter>::builder(MemoryStore::new()).build().unwrap();
    let mut runs = 0;
    let _ = counters.execute("1", |_| {
        runs += 1;
        Ok::<_, ()>(CounterEvent::Added { amount: runs })
    });
}
