//! Every shape that serde can give a value, as a field of an event and of a state, in every codec: the value comes back, or it
//! is refused; never another value. What becomes of each value is written down in `survival.txt`, so that a change is seen.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(non_camel_case_types, reason = "one list of names, for variants and for the table")]
#![allow(private_interfaces, reason = "types of the lists stay in their files")]
#![allow(dead_code, reason = "fields are read by serde and `Debug` alone")]
#![allow(clippy::duplicate_mod, reason = "the same types, with and without fingerprints")]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{Debug, Write as _};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use indexmap::IndexMap;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
// What the derives expand to names the crate.
extern crate self as tailfold;

use crate::chain::Chain;
use crate::clock::SystemClock;
use crate::codec::Codec;
use crate::event::EventMeta;
use crate::fold::Fold;
use crate::loaded::Trail;
use crate::schema::{Events, Fact};
use crate::snapshot::{Sealer, SnapshotConfig, StoredSnapshot};
use crate::stream::{Head, Version};
use crate::{Day, Event, State};

const CODECS: [Codec; 3] = [Codec::MESSAGE_PACK, Codec::JSON, Codec::POSTCARD];

/// Every awkward value of a list of shapes, each as a variant of one enum: one state stands for all.
trait Shapes: Clone + Debug + DeserializeOwned {
    /// By the names of the shapes.
    fn all() -> Vec<(&'static str, Vec<Self>)>;

    /// What becomes of an event with the value.
    fn event_comes_back(self, codec: &Codec) -> Outcome;

    /// What becomes of a state with the value; `None` where the shapes are tried as events alone.
    fn snapshot_comes_back(&self, codec: &Codec) -> Option<Outcome>;
}

/// What became of a value: [`KEPT`], [`REFUSED`] or [`ANOTHER`].
type Outcome = char;

const KEPT: Outcome = '+';
const REFUSED: Outcome = '-';
/// Came back as another value: never right.
const ANOTHER: Outcome = '!';

/// Not the comparison that is under test: every part of every value shows in its debug form.
fn outcome(read: &impl Debug, written: &impl Debug) -> Outcome {
    if format!("{read:?}") == format!("{written:?}") { KEPT } else { ANOTHER }
}

fn sealer<F: Fold>(codec: Codec) -> Sealer<F> {
    Sealer::new(&SnapshotConfig::default(), codec, None, None, Arc::new(SystemClock)).unwrap()
}

/// A value through the same steps as a snapshot: sealed, checked, opened.
fn snapshot_comes_back<F: Fold + Debug>(sealer: &Sealer<F>, state: &F) -> Outcome {
    let slot = sealer.slot_of("shape/1");
    let head = Head { version: Version(1), chain: Chain::from_bytes([1; 16]) };
    let Ok(bytes) = sealer.seal(&slot, state, head, &Trail::empty()) else { return REFUSED };
    let stored = StoredSnapshot { head, bytes, used: Day(0) };
    outcome(&sealer.open(&sealer.check(&slot, &stored, 0).unwrap()).unwrap(), state)
}

/// An event as a command records it and as every replay will see it.
fn event_comes_back<E: Events + Debug>(event: &E) -> Outcome {
    let Ok((_, read)) = Fact::surviving(event) else { return REFUSED };
    outcome(&read, event)
}

#[derive(Clone, Debug, PartialEq, Event)]
#[event(category = "nothing")]
enum Nothing {
    Happened,
}

macro_rules! shapes {
    ($($name:ident: $type:ty $(, $opaque:ident)? = [$($value:expr),* $(,)?];)*) => {
        shape_enum! { $($name: $type $(, $opaque)?;)* }
        event_enum! { InMessagePack, message_pack: $($name: $type;)* }
        event_enum! { InJson, json: $($name: $type;)* }
        event_enum! { InPostcard, postcard: $($name: $type;)* }

        impl Shapes for Shape {
            fn all() -> Vec<(&'static str, Vec<Self>)> {
                vec![$((stringify!($name), vec![$(Self::$name { value: $value }),*])),*]
            }

            fn event_comes_back(self, codec: &Codec) -> Outcome {
                match codec.id() {
                    "msgpack" => event_comes_back(&InMessagePack::from(self)),
                    "json" => event_comes_back(&InJson::from(self)),
                    _ => event_comes_back(&InPostcard::from(self)),
                }
            }

            fn snapshot_comes_back(&self, codec: &Codec) -> Option<Outcome> {
                Self::kept(self, codec)
            }
        }
    };
}

/// Shapes as fields of a state.
macro_rules! shape_enum {
    ($($name:ident: $type:ty $(, $opaque:ident)?;)*) => {
        #[derive(Clone, Debug, Serialize, Deserialize, State)]
        #[state(name = "shape")]
        pub(super) enum Shape {
            $($name { $(#[state($opaque = "v1")])? value: $type },)*
        }

        impl Default for Shape {
            fn default() -> Self {
                Self::all().remove(0).1.remove(0)
            }
        }

        impl Fold for Shape {
            type Event = Nothing;

            fn apply(&mut self, _: Nothing, _: &EventMeta<'_>) {}
        }

        impl Shape {
            fn kept(&self, codec: &Codec) -> Option<Outcome> {
                static SEALERS: LazyLock<[Sealer<Shape>; 3]> = LazyLock::new(|| CODECS.map(sealer));
                let place = CODECS.iter().position(|known| known == codec).unwrap();
                Some(snapshot_comes_back(&SEALERS[place], self))
            }
        }
    };
}

/// Shapes as named fields of an event.
macro_rules! event_enum {
    ($events:ident, $codec:ident: $($name:ident: $type:ty;)*) => {
        #[derive(Clone, Debug, Event)]
        #[event(category = "shape", codec = $codec)]
        enum $events {
            $($name { value: $type },)*
        }

        impl From<Shape> for $events {
            fn from(shape: Shape) -> Self {
                match shape {
                    $(Shape::$name { value } => Self::$name { value },)*
                }
            }
        }
    };
}

macro_rules! shape_type {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, State)]
        $item
    )*};
}

mod common;
#[path = "survival/own.rs"]
mod described;
mod random;

// From here on without fingerprints, as types in events often are: `PartialEq` is all that tells values apart.
macro_rules! shape_type {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        $item
    )*};
}

macro_rules! shape_enum {
    ($($name:ident: $type:ty $(, $opaque:ident)?;)*) => {
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub(super) enum Shape {
            $($name { value: $type },)*
        }

        impl Shape {
            fn kept(&self, _: &Codec) -> Option<Outcome> {
                None
            }
        }
    };
}

/// Shapes as the whole payload of an event.
macro_rules! event_enum {
    ($events:ident, $codec:ident: $($name:ident: $type:ty;)*) => {
        #[derive(Clone, Debug, Event)]
        #[event(category = "shape", codec = $codec)]
        enum $events {
            $($name($type),)*
        }

        impl From<Shape> for $events {
            fn from(shape: Shape) -> Self {
                match shape {
                    $(Shape::$name { value } => Self::$name(value),)*
                }
            }
        }
    };
}

#[path = "survival/own.rs"]
mod undescribed;

fn map<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    entries.into_iter().collect()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn signs(outcomes: &[Outcome]) -> String {
    outcomes.iter().collect()
}

/// A line for each shape: what becomes of its values, one sign each, and which ones are refused by some codec.
fn table<S: Shapes>(title: &str) -> String {
    let mut table =
        format!("\n{title:<28}| {:<16}| {:<16}| {:<16}| refused\n", "message_pack", "json", "postcard");
    let mut shapes = S::all();
    shapes.sort_by_key(|(name, _)| *name);
    for (name, values) in shapes {
        let mut refused = vec![false; values.len()];
        let mut line = format!("{name:<28}");
        for codec in CODECS {
            let events: Vec<_> = values.iter().map(|value| value.clone().event_comes_back(&codec)).collect();
            let states: Option<Vec<_>> =
                values.iter().map(|value| value.snapshot_comes_back(&codec)).collect();
            let states = states.unwrap_or_else(|| events.clone());
            for (refused, (event, state)) in refused.iter_mut().zip(events.iter().zip(&states)) {
                *refused |= *event != KEPT || *state != KEPT;
            }
            let (events, states) = (signs(&events), signs(&states));
            let both = if events == states { events } else { format!("{events}, as state {states}") };
            write!(line, "| {both:<16}").unwrap();
        }
        let refused = values.iter().zip(refused).filter(|(_, refused)| *refused);
        let refused: Vec<_> = refused.map(|(value, _)| shortened(name, value)).collect();
        writeln!(table, "{}", format!("{line}| {}", refused.join("; ")).trim_end()).unwrap();
    }
    table
}

fn shortened(name: &str, value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let value = text.strip_prefix(name).and_then(|text| text.strip_prefix(" { value: ")?.strip_suffix(" }"));
    let value = value.unwrap_or(&text);
    match value.char_indices().nth(48) {
        Some((end, _)) => format!("{}..", &value[..end]),
        None => value.to_owned(),
    }
}

#[test]
fn every_shape_comes_back_or_is_refused() {
    let table = [
        "Values in the order of the test: `+` comes back, `-` is refused. As an event and as a state, unless both are told.\n",
        &table::<common::Shape>("common.rs"),
        &table::<described::Shape>("own.rs"),
        &table::<undescribed::Shape>("own.rs, not described"),
    ]
    .concat();
    assert!(!table.contains(ANOTHER), "came back as another value where `!` stands:\n{table}");
    if table != include_str!("survival.txt") {
        panic!(
            "what is kept and what is refused has changed; if that is right, write it to `survival.txt`:\n{table}"
        );
    }
}

/// Where all awkward values of a shape are kept, every other one is, too.
fn assert_random_values_come_back<S: Shapes>(bytes: &[u8]) {
    for (number, (name, values)) in S::all().into_iter().enumerate() {
        // postcard reads nearly any bytes as some value; shapes that it cannot read have `random.rs`.
        let mut encoded = postcard::to_stdvec(&u32::try_from(number).unwrap()).unwrap();
        encoded.extend_from_slice(bytes);
        encoded.extend_from_slice(&[0; 64]);
        let Ok((random, _)) = postcard::take_from_bytes::<S>(&encoded) else { continue };
        for codec in CODECS {
            let event = random.clone().event_comes_back(&codec);
            let state = random.snapshot_comes_back(&codec).unwrap_or(event);
            assert!(event != ANOTHER && state != ANOTHER, "{name}: {random:?} in {}", codec.id());
            let all_kept = || {
                values.iter().all(|value| {
                    let event = value.clone().event_comes_back(&codec);
                    event == KEPT && value.snapshot_comes_back(&codec).unwrap_or(event) == KEPT
                })
            };
            let kept = event == KEPT && state == KEPT;
            assert!(kept || !all_kept(), "{name}: {random:?} is refused in {}", codec.id());
        }
    }
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0..4u8, 2 => b' '..=b'~', 1 => any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_values_of_every_shape_come_back_or_are_refused(bytes in proptest::collection::vec(byte(), 0..48)) {
        assert_random_values_come_back::<common::Shape>(&bytes);
        assert_random_values_come_back::<described::Shape>(&bytes);
        assert_random_values_come_back::<undescribed::Shape>(&bytes);
    }
}

/// Not `Sync`, so never a whole state; but a part may hold what serde's `rc` feature allows.
#[test]
fn a_pointer_is_compared_by_what_it_points_to() {
    use crate::Fingerprint as _;

    assert!(Rc::new(1.0).compare(&Rc::new(1.0)).is_ok());
    assert!(Rc::new(0.0).compare(&Rc::new(-0.0)).is_err());
}
