//! Counts up in a repository whose events are in memory and whose snapshots are on memcached: `memcached-tier HOST:PORT`.

use std::convert::Infallible;

use memcached_tier::MemcachedTier;
use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, MemoryStore, Policy, Repository, State};

#[derive(Clone, Copy, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    Counted { by: u64 },
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "counter")]
struct Counter {
    total: u64,
}

impl Fold for Counter {
    type Event = CounterEvent;

    fn apply(&mut self, CounterEvent::Counted { by }: CounterEvent, _: &EventMeta) {
        self.total += by;
    }
}

#[tokio::main]
async fn main() -> tailfold::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:11211".to_owned());
    let counters = Repository::<Counter>::builder(MemoryStore::new())
        .snapshots(Policy::every(100))
        .snapshots_in(MemcachedTier::new(&address, "example"))
        .build()?;
    for _ in 0..25 {
        let count = |_: &Counter| Ok::<_, Infallible>([CounterEvent::Counted { by: 1 }; 10]);
        counters.execute("a", count).await?.unwrap_or_else(|never| match never {});
    }
    counters.flush().await;
    let loaded = counters.load("a").await?;
    let report = loaded.report();
    println!("{} from a {}, {} events replayed", loaded.state().total, report.source, report.replayed_events);
    for rejected in &report.rejected {
        println!("memcached did not serve: {}", rejected.reason);
    }
    counters.close().await
}
