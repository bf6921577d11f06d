//! What a codec or a `Serialize` would lose: no snapshot keeps it, no event is recorded without it, and neither ends a
//! command that can go on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fmt::Debug;

use serde::{Deserialize, Serialize, Serializer};
use tailfold::{
    Aggregate, ErrorKind, Event, EventMeta, Fold, MemoryStore, Policy, Repository, Rule, SnapshotConfig,
    SnapshotMode, State,
};

#[derive(Clone, Debug, PartialEq, Event)]
#[event(category = "step")]
enum Step {
    Taken,
}

const MODES: [SnapshotMode; 2] = [SnapshotMode::Background, SnapshotMode::Inline];

fn every_event<F: Aggregate>(store: &MemoryStore, mode: SnapshotMode) -> Repository<F> {
    let config = SnapshotConfig { policy: Rule::Every(1), mode, ..Default::default() };
    Repository::<F>::builder(store.clone()).snapshots(config).build().unwrap()
}

/// Whatever the snapshots did, a load answers as a replay does; and how many were refused as unfaithful.
async fn unfaithful_after_one_event<F: Aggregate<Event = Step> + Debug>(mode: SnapshotMode) -> u64 {
    let store = MemoryStore::new();
    let repository = every_event::<F>(&store, mode);
    repository.execute("1", |_| Ok::<_, String>(Step::Taken)).await.unwrap().unwrap();
    repository.flush().await;
    let stats = repository.stats().await.unwrap();
    let fresh = every_event::<F>(&store, mode);
    let loaded = fresh.load("1").await.unwrap();
    let replayed = fresh.load("1").without_snapshots().await.unwrap();
    assert_eq!(format!("{:?}", loaded.state()), format!("{:?}", replayed.state()), "{mode:?}");
    stats.written.get("unfaithful").copied().unwrap_or(0)
}

macro_rules! becomes_on_step {
    ($state:ty: $field:ident = $value:expr) => {
        impl Fold for $state {
            type Event = Step;

            fn apply(&mut self, Step::Taken: Step, _: &EventMeta<'_>) {
                self.$field = $value;
            }
        }
    };
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
struct Address {
    street: Option<String>,
    town: Option<String>,
}

/// A contract without an end has been agreed on (`Some(None)`), which is not the same as "nothing agreed".
#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "contract")]
struct Contract {
    ends: Option<Option<u32>>,
    #[serde(flatten)]
    address: Address,
}
becomes_on_step!(Contract: ends = Some(None));

#[derive(Clone, Debug, Serialize, Deserialize, State)]
#[state(name = "home")]
struct Home {
    #[serde(flatten)]
    address: Option<Address>,
}
becomes_on_step!(Home: address = None);

impl Default for Home {
    fn default() -> Self {
        Self { address: Some(Address { street: Some("Elm".to_owned()), town: None }) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, State)]
#[serde(untagged)]
enum Contact {
    Email(String),
    Phone(String),
}

impl Default for Contact {
    fn default() -> Self {
        Self::Email(String::new())
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "person")]
struct Person {
    contact: Contact,
}
becomes_on_step!(Person: contact = Contact::Phone("123".to_owned()));

/// As `chrono::serde::ts_seconds` does: a part is not written.
mod whole_seconds {
    use super::*;

    pub(super) fn serialize<S: Serializer>(millis: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        (millis / 1000).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        u64::deserialize(deserializer).map(|seconds| seconds * 1000)
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "clock")]
struct Watch {
    #[serde(with = "whole_seconds")]
    millis: u64,
}
becomes_on_step!(Watch: millis = 5_900);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "u8", from = "u8")]
struct Nibble(u16);

impl From<Nibble> for u8 {
    fn from(nibble: Nibble) -> Self {
        nibble.0.to_le_bytes()[0]
    }
}

impl From<u8> for Nibble {
    fn from(byte: u8) -> Self {
        Self(byte.into())
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "opaque")]
struct Foreign {
    #[state(opaque = "v1")]
    nibble: Nibble,
}
becomes_on_step!(Foreign: nibble = Nibble(300));

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "converted")]
#[serde(into = "u8", from = "u8")]
struct Converted {
    wide: u16,
}
becomes_on_step!(Converted: wide = 300);

impl From<Converted> for u8 {
    fn from(converted: Converted) -> Self {
        converted.wide.to_le_bytes()[0]
    }
}

impl From<u8> for Converted {
    fn from(byte: u8) -> Self {
        Self { wide: byte.into() }
    }
}

#[tokio::test]
async fn what_serialize_loses_never_becomes_a_snapshot() {
    for mode in MODES {
        assert_eq!(unfaithful_after_one_event::<Contract>(mode).await, 1, "{mode:?}");
        assert_eq!(unfaithful_after_one_event::<Home>(mode).await, 1, "{mode:?}");
        assert_eq!(unfaithful_after_one_event::<Person>(mode).await, 1, "{mode:?}");
        assert_eq!(unfaithful_after_one_event::<Watch>(mode).await, 1, "{mode:?}");
        assert_eq!(unfaithful_after_one_event::<Foreign>(mode).await, 1, "{mode:?}");
        assert_eq!(unfaithful_after_one_event::<Converted>(mode).await, 1, "{mode:?}");
    }
}

/// `PartialEq` would say that they differ, and would keep a state with a NaN from ever being kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "measured")]
struct Measured {
    last: f64,
    all: Vec<Option<f64>>,
    #[state(opaque = "v1")]
    foreign: Reading,
}
becomes_on_step!(Measured: last = {
    // Also in what is compared by `PartialEq`.
    f64::NAN
});

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    celsius: f64,
}

impl Default for Reading {
    fn default() -> Self {
        Self { celsius: f64::NAN }
    }
}

#[tokio::test]
async fn a_state_with_a_nan_is_kept() {
    for mode in MODES {
        assert_eq!(unfaithful_after_one_event::<Measured>(mode).await, 0, "{mode:?}");
    }
}

#[tokio::test]
async fn a_refused_snapshot_says_which_field_it_would_lose() {
    let repository = every_event::<Contract>(&MemoryStore::new(), SnapshotMode::Background);
    let receipt = repository.execute("1", |_| Ok::<_, String>(Step::Taken)).await.unwrap().unwrap();
    let refused = repository.save_snapshot(&receipt.into_loaded()).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Codec);
    assert!(refused.to_string().contains("`ends` would be read back as another value"), "{refused}");
}

#[derive(Clone, Debug, PartialEq, Event)]
#[event(category = "fact")]
enum Fact {
    Measured { value: Option<f64> },
    Listed { values: Vec<Option<f64>> },
    Agreed { ends: Option<Option<u32>> },
    Acknowledged { done: Option<()> },
    Noted { note: Option<serde_json::Value> },
    Reached { contact: Contact, at: u8 },
    Nested { people: Vec<Reached> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, State)]
struct Reached {
    contact: Contact,
}

#[derive(Clone, Debug, PartialEq, Event)]
#[event(category = "packed", codec = message_pack)]
enum Packed {
    Counted { wide: Wide },
    Agreed { ends: Option<Option<u32>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Wide {
    Number(u128),
    Text(String),
}

macro_rules! nothing {
    ($name:literal, $state:ident, $event:ty) => {
        #[derive(Clone, Default, Serialize, Deserialize, State)]
        #[state(name = $name)]
        struct $state {}

        impl Fold for $state {
            type Event = $event;

            fn apply(&mut self, _: $event, _: &EventMeta<'_>) {}
        }
    };
}
nothing!("facts", Facts, Fact);
nothing!("packs", Packs, Packed);

/// The error says `text`, and nothing was recorded.
async fn assert_refused<F: Aggregate>(event: F::Event, text: &str)
where
    F::Event: Clone + Debug + Sync,
{
    let repository = Repository::<F>::builder(MemoryStore::new()).build().unwrap();
    let answer = repository.execute("1", |_| Ok::<_, String>(vec![event.clone()])).await;
    let error = match answer {
        Err(error) => error,
        Ok(granted) => panic!("{event:?} was recorded: {}", granted.unwrap().events()),
    };
    assert_eq!(*error.kind(), ErrorKind::Codec, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(repository.load("1").await.unwrap().version().0, 0, "{event:?}");
}

#[tokio::test]
async fn an_event_that_would_be_read_back_as_another_is_refused_with_the_path_of_its_field() {
    assert_refused::<Facts>(Fact::Measured { value: Some(f64::NAN) }, "`value` would be read back").await;
    assert_refused::<Facts>(Fact::Measured { value: Some(f64::INFINITY) }, "`value` would be read back")
        .await;
    assert_refused::<Facts>(
        Fact::Listed { values: vec![Some(1.0), Some(f64::INFINITY)] },
        "`values[1]` would be read back",
    )
    .await;
    assert_refused::<Facts>(Fact::Agreed { ends: Some(None) }, "`ends` would be read back").await;
    assert_refused::<Facts>(Fact::Acknowledged { done: Some(()) }, "`done` would be read back").await;
    assert_refused::<Facts>(Fact::Noted { note: Some(serde_json::Value::Null) }, "`note` would be read back")
        .await;
    let phone = Contact::Phone("123".to_owned());
    assert_refused::<Facts>(Fact::Reached { contact: phone.clone(), at: 1 }, "`contact` would be read back")
        .await;
    assert_refused::<Facts>(
        Fact::Nested { people: vec![Reached { contact: phone }] },
        "`people[0].contact` would be read back",
    )
    .await;
    assert_refused::<Packs>(Packed::Counted { wide: Wide::Number(u128::MAX) }, "does not survive").await;
    assert_refused::<Packs>(Packed::Agreed { ends: Some(None) }, "`ends` would be read back").await;
}

#[tokio::test]
async fn events_that_come_back_are_recorded() {
    let repository = Repository::<Facts>::builder(MemoryStore::new()).build().unwrap();
    let facts = vec![
        Fact::Measured { value: Some(-0.0) },
        Fact::Measured { value: None },
        Fact::Listed { values: vec![None, Some(1.5)] },
        Fact::Agreed { ends: Some(Some(7)) },
        Fact::Acknowledged { done: None },
        Fact::Noted { note: Some(serde_json::json!({ "a": null })) },
        Fact::Reached { contact: Contact::Email("a@b".to_owned()), at: 1 },
    ];
    let receipt = repository.execute("1", |_| Ok::<_, String>(facts.clone())).await.unwrap().unwrap();
    assert_eq!(receipt.events(), facts.len() as u64);
}

/// Its code for serde panics, from the second event on.
#[derive(Clone, Debug, Default, Deserialize, State)]
#[state(name = "panics")]
struct Panics {
    count: u32,
}

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.count < 2, "cannot be written");
        [self.count].serialize(serializer)
    }
}

impl Fold for Panics {
    type Event = Step;

    fn apply(&mut self, Step::Taken: Step, _: &EventMeta<'_>) {
        self.count += 1;
    }
}

#[tokio::test]
async fn a_panic_in_serialize_drops_the_snapshot_and_not_the_command() {
    for mode in MODES {
        let store = MemoryStore::new();
        let repository = every_event::<Panics>(&store, mode);
        let mut loaded = repository.load("1").await.unwrap();
        // Each goes on from the state before, which may still wait to be written.
        for _ in 0..5 {
            loaded = repository.append(loaded, Step::Taken).await.unwrap().into_loaded();
        }
        assert_eq!(loaded.state().count, 5, "{mode:?}");
        repository.flush().await;
        assert!(repository.stats().await.unwrap().written["unencodable"] > 0, "{mode:?}");
        assert_eq!(repository.load("1").await.unwrap().state().count, 5, "{mode:?}");
        let refused = repository.save_snapshot(&loaded).await.unwrap_err();
        assert!(refused.to_string().contains("cannot be written"), "{refused}");
    }
}

#[tokio::test]
async fn a_state_that_could_never_have_a_snapshot_is_refused_at_build() {
    #[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
    #[state(name = "agreed", codec = json)]
    struct Agreed {
        ends: Ends,
    }
    becomes_on_step!(Agreed: ends = Ends(None));

    #[derive(Clone, Debug, Serialize, Deserialize, State)]
    struct Ends(Option<Option<u32>>);

    impl Default for Ends {
        fn default() -> Self {
            Self(Some(None))
        }
    }

    let refused = Repository::<Agreed>::builder(MemoryStore::new()).snapshots(Policy::every(1)).build();
    let error = refused.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("default state"), "{error}");
    let cause = error.cause().unwrap().to_string();
    assert!(cause.contains("`ends.0` would be read back as another value"), "{cause}");
    // Without snapshots nothing is lost.
    Repository::<Agreed>::builder(MemoryStore::new()).build().unwrap();
}
