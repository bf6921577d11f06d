//! What `serde_json/arbitrary_precision` does, which any dependency of a program can switch on. `cargo xtask
//! test` runs this with the feature too: `cargo test --workspace --features serde_json/arbitrary_precision
//! --test arbitrary_precision`.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tailfold::{
    BoxError, ByPosition, Codec, Delivery, ErrorKind, Event, EventMeta, Events, Fold, MemoryStore, Policy,
    Repository, RepositoryBuilder, State, Subscription,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Reading {
    Celsius { degrees: f64 },
}

#[derive(Clone, Event)]
#[event(category = "sensor")]
enum Read {
    Read { reading: Reading },
}

#[derive(Clone, Event)]
#[event(category = "sensor", codec = message_pack)]
enum Packed {
    Read { reading: Reading },
}

#[derive(Clone, Events)]
enum Either {
    Text(Read),
    Packed(Packed),
}

macro_rules! fold {
    ($state:ident over $event:ty, $codec:ident $($scope:ident)?) => {
        #[derive(Clone, Default, Serialize, Deserialize, State)]
        #[state(name = "sensor", codec = $codec $(, $scope)?)]
        struct $state {
            count: u64,
        }

        impl Fold for $state {
            type Event = $event;

            fn apply(&mut self, _: $event, _: &EventMeta<'_>) {
                self.count += 1;
            }
        }
    };
}

fold!(OfJson over Read, message_pack);
fold!(InJson over Packed, json);
fold!(OfBoth over Either, message_pack projection);
fold!(WithoutJson over Packed, message_pack);

/// Whether the feature is on: only then is there a number that no `f64` holds.
fn is_on() -> bool {
    serde_json::from_str::<serde_json::Number>("1e999").is_ok()
}

#[test]
fn with_the_feature_json_cannot_read_what_it_wrote() {
    let event = Read::Read { reading: Reading::Celsius { degrees: 21.5 } };
    let read = Read::decode("sensor.read", tailfold::SchemaVersion(1), &event.encode().unwrap());
    assert_eq!(read.is_err(), is_on());
}

fn build<F: Fold>(builder: RepositoryBuilder<F>) -> tailfold::Result<Repository<F>> {
    builder.build()
}

#[track_caller]
fn refused_with_the_feature<T>(built: tailfold::Result<T>) {
    match built {
        Ok(_) => assert!(!is_on()),
        Err(error) => {
            assert!(is_on(), "{error}");
            assert_eq!(*error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("`arbitrary_precision`"), "{error}");
        }
    }
}

#[tokio::test]
async fn where_json_is_used_nothing_is_built_with_the_feature() {
    let on = Policy::every(1);
    refused_with_the_feature(build(Repository::<OfJson>::builder(MemoryStore::new())));
    refused_with_the_feature(build(Repository::<OfBoth>::builder(MemoryStore::new())));
    refused_with_the_feature(build(Repository::<InJson>::builder(MemoryStore::new()).snapshots(on)));
    let seen = Arc::new(Mutex::new(0));
    let model = ByPosition::new(MemoryStore::new(), "readings", move |_: &Delivery<Read>| {
        *seen.lock().unwrap() += 1;
        Ok::<_, BoxError>(())
    });
    let model = model.unwrap();
    refused_with_the_feature(Subscription::builder(MemoryStore::new(), "readings", model).start());
}

#[test]
fn where_json_is_not_used_the_feature_does_no_harm() {
    assert_eq!(OfJson::codec(), Some(Codec::MESSAGE_PACK));
    build(Repository::<WithoutJson>::builder(MemoryStore::new()).snapshots(Policy::every(1))).unwrap();
    build(Repository::<InJson>::builder(MemoryStore::new())).unwrap();
}
