//! The process-wide default codec. A binary of its own: it can be set once a process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde::{Deserialize, Serialize};
use tailfold::{
    Aggregate, Codec, Envelope, ErrorKind, Event, EventMeta, Fold, MemoryStore, Policy, Repository,
    SlotFilter, SnapshotStore as _, SnapshotStoreExt as _, Source, State,
};

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    Added { amount: u64 },
}

macro_rules! counter {
    ($name:ident $fold:literal $(, $codec:ident)?) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
        #[state(name = $fold $(, codec = $codec)?)]
        struct $name {
            total: u64,
        }

        impl Fold for $name {
            type Event = CounterEvent;

            fn apply(&mut self, CounterEvent::Added { amount }: CounterEvent, _: &EventMeta<'_>) {
                self.total += amount;
            }
        }
    };
}

counter!(Plain "plain");
counter!(Packed "packed", message_pack);

async fn codec_of<F: Aggregate<Event = CounterEvent>>() -> String {
    let store = MemoryStore::new();
    let repository = Repository::<F>::builder(store.clone()).snapshots(Policy::every(1)).build().unwrap();
    let loaded = repository.load("1").await.unwrap();
    repository.append(loaded, CounterEvent::Added { amount: 1 }).await.unwrap();
    repository.flush().await;
    assert!(matches!(repository.load("1").await.unwrap().report().source, Source::Snapshot(_)));
    let listed = store.list_to_vec(SlotFilter::all()).await.unwrap();
    let stored = store.newest(&listed[0].slot, None).await.unwrap().unwrap();
    Envelope::parse(&stored.bytes).unwrap().codec
}

#[tokio::test]
async fn the_process_wide_default_is_set_once_and_overridden_on_the_type() {
    assert_eq!(codec_of::<Plain>().await, "msgpack");
    Codec::set_process_default(Codec::JSON).unwrap();
    assert_eq!(codec_of::<Plain>().await, "json");
    assert_eq!(codec_of::<Packed>().await, "msgpack");
    assert_eq!(*Codec::set_process_default(Codec::POSTCARD).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(Codec::process_default(), Codec::JSON);
}
