//! Every shape that serde can give a value, as a field of an event and of a state, in every codec: the value comes back, or it
//! is refused; never another value. What becomes of each is written down in `survival.txt`, so that a change is seen.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(
    non_camel_case_types,
    reason = "one list of names for the variants of events and the modules of states"
)]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{Debug, Write as _};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
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

/// What became of the values of one shape in one codec.
#[derive(Default)]
struct Outcomes {
    kept: usize,
    refused: usize,
}

impl Outcomes {
    fn note(&mut self, what: &str, original: &impl Debug, back: Option<impl Debug>) {
        match back {
            Some(back) => {
                // Not the comparison that is under test: every part of every value shows in its debug form.
                assert_eq!(format!("{back:?}"), format!("{original:?}"), "{what} came back as another value");
                self.kept += 1;
            }
            None => self.refused += 1,
        }
    }

    fn in_words(&self) -> String {
        match (self.kept, self.refused) {
            (_, 0) => "kept".to_owned(),
            (0, _) => "refused".to_owned(),
            (kept, refused) => format!("{kept} kept, {refused} refused"),
        }
    }
}

/// A value through the same steps as a snapshot: sealed, parsed, checked, opened; `None` if it is refused.
fn snapshot_and_back<F: Fold>(codec: &Codec, state: &F) -> Option<F> {
    let config = SnapshotConfig::default();
    let sealer = Sealer::<F>::new(&config, codec.clone(), None, None, Arc::new(SystemClock)).unwrap();
    let slot = sealer.slot_of("shape/1");
    let head = Head { version: Version(1), chain: Chain::from_bytes([1; 16]) };
    let bytes = sealer.seal(&slot, state, head, &Trail::empty()).ok()?;
    let stored = StoredSnapshot { head, bytes, used: Day(0) };
    Some(sealer.open(&sealer.check(&slot, &stored, 0).unwrap()).unwrap())
}

/// An event as a command records it and as every replay will see it; `None` if it is refused.
fn event_and_back<E: Events>(event: &E) -> Option<E> {
    Fact::surviving(event).ok().map(|(_, read)| read)
}

#[derive(Clone, Debug, PartialEq, Event)]
#[event(category = "nothing")]
enum Nothing {
    Happened,
}

macro_rules! shapes {
    ($($name:ident: $type:ty $(, $opaque:ident)? = [$($value:expr),* $(,)?];)*) => {
        $(
            #[allow(clippy::box_collection, clippy::vec_box, reason = "shapes that users have")]
            mod $name {
                use super::*;

                #[derive(Clone, Debug, Serialize, Deserialize, State)]
                #[state(name = "shape")]
                pub(super) struct Holds {
                    $(#[state($opaque = "v1")])?
                    pub(super) value: $type,
                }

                pub(super) fn values() -> Vec<$type> {
                    vec![$($value),*]
                }

                impl Default for Holds {
                    fn default() -> Self {
                        Self { value: values().remove(0) }
                    }
                }

                impl Fold for Holds {
                    type Event = Nothing;

                    fn apply(&mut self, _: Nothing, _: &EventMeta<'_>) {}
                }
            }
        )*

        shapes! { @events InMessagePack, message_pack: $($name: $type;)* }
        shapes! { @events InJson, json: $($name: $type;)* }
        shapes! { @events InPostcard, postcard: $($name: $type;)* }

        /// A line for each shape.
        fn table() -> String {
            let mut table = String::new();
            $(
                let mut line = format!("{:<28}", stringify!($name));
                for codec in [Codec::MESSAGE_PACK, Codec::JSON, Codec::POSTCARD] {
                    let (mut events, mut states) = (Outcomes::default(), Outcomes::default());
                    for value in $name::values() {
                        let what = format!("{} in {}", stringify!($name), codec.id());
                        let state = $name::Holds { value: value.clone() };
                        states.note(&what, &state, snapshot_and_back(&codec, &state));
                        match codec.id() {
                            "msgpack" => {
                                let event = InMessagePack::$name { value };
                                events.note(&what, &event, event_and_back(&event));
                            }
                            "json" => {
                                let event = InJson::$name { value };
                                events.note(&what, &event, event_and_back(&event));
                            }
                            _ => {
                                let event = InPostcard::$name { value };
                                events.note(&what, &event, event_and_back(&event));
                            }
                        }
                    }
                    let (events, states) = (events.in_words(), states.in_words());
                    let both = if events == states { events } else { format!("event {events}, state {states}") };
                    let _ = write!(line, "| {both:<20}");
                }
                table.push_str(line.trim_end());
                table.push('\n');
            )*
            table
        }
    };
    (@events $events:ident, $codec:ident: $($name:ident: $type:ty;)*) => {
        #[derive(Clone, Debug, Event)]
        #[event(category = "shape", codec = $codec)]
        enum $events {
            $($name { value: $type },)*
        }
    };
}

macro_rules! shape_type {
    ($($item:item)*) => {
        $(
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, State)]
            $item
        )*
    };
}

shape_type! {
    struct UnitStruct;
    struct Newtype(u32);
    struct Pair(u8, String);
    struct Empty {}
    struct Named { a: i64, b: Option<String> }
    #[serde(transparent)]
    struct Transparent { inner: Named }
    enum Choice { Unit, Newtype(i32), Tuple(u8, bool), Struct { a: u8, b: String } }
    #[serde(rename_all = "SCREAMING-KEBAB-CASE")]
    enum Renamed { FirstCase { some_field: u8 }, #[serde(rename = "2nd")] Second }
    struct RenamedFields { #[serde(rename = "not a")] a: u8, #[serde(alias = "old_b")] b: u8 }
    #[serde(default)]
    struct Defaulted { a: u8, #[serde(skip_serializing_if = "Option::is_none")] b: Option<Option<u8>> }
    struct OmitsNone { #[serde(default, skip_serializing_if = "Option::is_none")] a: Option<u8>, b: u8 }
    struct OmitsZero { #[serde(default, skip_serializing_if = "is_zero")] a: i8, b: u8 }
    /// What is left out comes back as another value.
    struct OmitsWrongly { #[serde(default = "seven", skip_serializing_if = "is_zero")] a: i8 }
    struct With { #[serde(with = "tenths")] value: u64 }
    #[serde(try_from = "u8", into = "u8")]
    struct Converted { wide: u16 }
    #[serde(tag = "kind")]
    enum Tagged { Unit, Struct { a: i64, f: f64 }, Newtype(Named) }
    #[serde(tag = "kind", content = "content")]
    enum Adjacent { Unit, Newtype(u8), Tuple(u8, u8), Struct { a: Option<Option<u8>> } }
    #[serde(untagged)]
    enum Untagged { Number(u64), Text(String), Struct { a: u8 } }
    #[serde(untagged)]
    enum Alike { Email(String), Phone(String) }
    #[serde(untagged)]
    enum Wide { Number(u128), Text(String) }
    struct Flat { a: u8, #[serde(flatten)] named: Inner }
    struct Inner { x: u8, y: Option<Option<u8>> }
    struct FlatMap { a: u8, #[serde(flatten)] rest: BTreeMap<String, Value> }
    struct FlatNumbers { #[serde(flatten)] rest: BTreeMap<u64, u8> }
    struct FlatOption { a: u8, #[serde(flatten)] address: Option<Address> }
    struct Address { street: Option<String>, town: Option<String> }
    struct FlatBeside { ends: Option<Option<u32>>, #[serde(flatten)] address: Address }
    struct FlatClash { x: u8, #[serde(flatten)] named: Inner }
    struct Tree { value: u8, children: Vec<Tree> }
    struct List { next: Option<Box<List>> }
    enum Key { A, B }
    enum KeyWithData { Number(u8), Text(String) }
    struct KeyPair(u8, u8);
}

macro_rules! ordered {
    ($($name:ident),*) => {$(
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                format!("{self:?}").cmp(&format!("{other:?}"))
            }
        }
    )*};
}
ordered! { Newtype, Key, KeyWithData, KeyPair }

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, State)]
struct Generic<T> {
    value: T,
    marker: PhantomData<T>,
}

impl Default for Defaulted {
    fn default() -> Self {
        Self { a: 3, b: None }
    }
}

fn is_zero(number: &i8) -> bool {
    *number == 0
}

fn seven() -> i8 {
    7
}

/// As `chrono::serde::ts_seconds` does: a part is not written.
mod tenths {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        (value / 10).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        u64::deserialize(deserializer).map(|value| value * 10)
    }
}

impl From<Converted> for u8 {
    fn from(converted: Converted) -> Self {
        converted.wide.to_le_bytes()[0]
    }
}

impl TryFrom<u8> for Converted {
    type Error = String;

    fn try_from(byte: u8) -> Result<Self, String> {
        match byte {
            13 => Err("thirteen".to_owned()),
            byte => Ok(Self { wide: byte.into() }),
        }
    }
}

/// Written as bytes, not as a sequence, and without a fingerprint.
#[derive(Clone, Debug, PartialEq)]
struct ByteBuffer(Vec<u8>);

impl Serialize for ByteBuffer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ByteBuffer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> serde::de::Visitor<'de> for Bytes {
            type Value = ByteBuffer;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<ByteBuffer, E> {
                Ok(ByteBuffer(bytes.to_vec()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<ByteBuffer, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(ByteBuffer(bytes))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Only `PartialEq` tells its values apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    celsius: f64,
    all: Vec<Option<f64>>,
}

fn map<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    entries.into_iter().collect()
}

fn text(text: &str) -> String {
    text.to_owned()
}

shapes! {
    unit: () = [()];
    unit_struct: UnitStruct = [UnitStruct];
    newtype: Newtype = [Newtype(0), Newtype(u32::MAX)];
    tuple_struct: Pair = [Pair(1, text("a"))];
    empty_struct: Empty = [Empty {}];
    named_struct: Named = [Named { a: i64::MIN, b: None }, Named { a: 0, b: Some(text("")) }];
    transparent: Transparent = [Transparent { inner: Named { a: 1, b: None } }];
    plain_enum: Choice = [
        Choice::Unit, Choice::Newtype(-1), Choice::Tuple(1, true), Choice::Struct { a: 1, b: text("x") },
    ];
    renamed_enum: Renamed = [Renamed::FirstCase { some_field: 1 }, Renamed::Second];
    renamed_fields: RenamedFields = [RenamedFields { a: 1, b: 2 }];
    container_default: Defaulted = [
        Defaulted { a: 3, b: None }, Defaulted { a: 0, b: Some(Some(1)) }, Defaulted { a: 0, b: Some(None) },
    ];
    omits_none: OmitsNone = [OmitsNone { a: None, b: 1 }, OmitsNone { a: Some(0), b: 1 }];
    omits_zero: OmitsZero = [OmitsZero { a: 0, b: 1 }, OmitsZero { a: 1, b: 1 }];
    omits_wrongly: OmitsWrongly = [OmitsWrongly { a: 1 }, OmitsWrongly { a: 0 }];
    with_module: With = [With { value: 50 }, With { value: 59 }];
    converted: Converted = [Converted { wide: 7 }, Converted { wide: 300 }, Converted { wide: 13 }];
    tagged: Tagged = [
        Tagged::Unit, Tagged::Struct { a: i64::MIN, f: -0.0 }, Tagged::Newtype(Named { a: 1, b: None }),
    ];
    tagged_and_nan: Tagged = [Tagged::Struct { a: 0, f: f64::NAN }];
    adjacently_tagged: Adjacent = [
        Adjacent::Unit, Adjacent::Newtype(1), Adjacent::Tuple(1, 2), Adjacent::Struct { a: Some(Some(1)) },
        Adjacent::Struct { a: Some(None) },
    ];
    untagged: Untagged = [Untagged::Number(u64::MAX), Untagged::Text(text("1")), Untagged::Struct { a: 1 }];
    untagged_alike: Alike = [Alike::Email(text("a@b")), Alike::Phone(text("123"))];
    untagged_u128: Wide = [Wide::Text(text("1")), Wide::Number(1), Wide::Number(u128::MAX)];
    flattened_struct: Flat = [
        Flat { a: 1, named: Inner { x: 1, y: None } }, Flat { a: 1, named: Inner { x: 1, y: Some(Some(2)) } },
        Flat { a: 1, named: Inner { x: 1, y: Some(None) } },
    ];
    flattened_map: FlatMap = [
        FlatMap { a: 1, rest: map([]) }, FlatMap { a: 1, rest: map([(text("b"), Value::Null)]) },
        FlatMap { a: 1, rest: map([(text("a"), Value::from(2))]) },
    ];
    flattened_numbers: FlatNumbers = [FlatNumbers { rest: map([]) }, FlatNumbers { rest: map([(1, 2)]) }];
    flattened_option: FlatOption = [
        FlatOption { a: 1, address: Some(Address { street: Some(text("x")), town: None }) },
        FlatOption { a: 1, address: Some(Address { street: None, town: None }) },
        FlatOption { a: 1, address: None },
    ];
    beside_flatten: FlatBeside = [
        FlatBeside { ends: None, address: Address { street: None, town: None } },
        FlatBeside { ends: Some(Some(0)), address: Address { street: None, town: Some(text("")) } },
        FlatBeside { ends: Some(None), address: Address { street: None, town: None } },
    ];
    flatten_of_the_same_name: FlatClash = [FlatClash { x: 1, named: Inner { x: 2, y: None } }];
    recursive_vec: Tree = [Tree { value: 1, children: vec![Tree { value: 2, children: vec![] }] }];
    recursive_box: List = [List { next: Some(Box::new(List { next: None })) }];
    generic: Generic<Vec<Option<u8>>> = [Generic { value: vec![None, Some(1)], marker: PhantomData }];
    phantom: PhantomData<u8> = [PhantomData];
    result: Result<u8, String> = [Ok(1), Err(text("no"))];
    map_by_text: BTreeMap<String, u8> = [map([]), map([(text(""), 1), (text("\0"), 2)])];
    map_by_u64: BTreeMap<u64, u8> = [map([(0, 1), (u64::MAX, 2)])];
    map_by_negative: BTreeMap<i64, u8> = [map([(i64::MIN, 1), (-1, 2)])];
    map_by_bool: BTreeMap<bool, u8> = [map([(false, 1), (true, 2)])];
    map_by_char: BTreeMap<char, u8> = [map([('a', 1), ('\u{10ffff}', 2), ('1', 3)])];
    map_by_u128: BTreeMap<u128, u8> = [map([(1, 1), (u128::MAX, 2)])];
    map_by_enum: BTreeMap<Key, u8> = [map([(Key::A, 1), (Key::B, 2)])];
    map_by_newtype: BTreeMap<Newtype, u8> = [map([(Newtype(1), 1)])];
    map_by_tuple: BTreeMap<(u8, u8), u8> = [map([]), map([((1, 2), 3)])];
    map_by_tuple_struct: BTreeMap<KeyPair, u8> = [map([(KeyPair(1, 2), 3)])];
    map_by_enum_with_data: BTreeMap<KeyWithData, u8> = [
        map([]), map([(KeyWithData::Number(1), 1), (KeyWithData::Text(text("1")), 2)]),
    ];
    map_by_option: BTreeMap<Option<u8>, u8> = [map([]), map([(Some(1), 1)]), map([(None, 1), (Some(0), 2)])];
    set: BTreeSet<String> = [BTreeSet::new(), BTreeSet::from([text("a"), text("b")])];
    deque: VecDeque<u8> = [VecDeque::from([1, 2])];
    array: [u16; 3] = [[1, 2, 3]];
    empty_array: [u16; 0] = [[]];
    tuple_of_1: (u8,) = [(1,)];
    tuple_of_8: (u8, i8, u16, i16, u32, i32, bool, char) = [(1, -1, 1, -1, 1, -1, true, 'ä')];
    cow: Cow<'static, str> = [Cow::Borrowed("a"), Cow::Owned(text("b"))];
    shared_text: Arc<str> = [Arc::from("a")];
    shared: Arc<Named> = [Arc::new(Named { a: 1, b: None })];
    boxed_slice: Box<[u8]> = [Box::from([1, 2])];
    awkward_text: String = [text("\0"), text("\u{10ffff}"), text("\u{feff}\r\n\"\\"), text("")];
    bytes: Vec<u8> = [vec![], vec![0, 255]];
    byte_buffer: ByteBuffer, opaque = [ByteBuffer(vec![]), ByteBuffer(vec![0, 255])];
    option: Option<u8> = [None, Some(0)];
    option_of_option: Option<Option<u8>> = [None, Some(Some(1)), Some(None)];
    option_of_option_of_option: Option<Option<Option<u8>>> = [None, Some(Some(Some(1))), Some(Some(None))];
    option_of_unit: Option<()> = [None, Some(())];
    option_of_unit_struct: Option<UnitStruct> = [None, Some(UnitStruct)];
    options_of_units: Vec<Option<()>> = [vec![], vec![None], vec![Some(()), None]];
    option_of_json: Option<Value> = [None, Some(Value::from(1)), Some(Value::Null)];
    json: Value = [Value::Null, serde_json::json!({ "a": [1, -1, 1.5, "x", null, { "b": true }] })];
    json_numbers: Value = [Value::from(u64::MAX), Value::from(i64::MIN), Value::from(-0.0), Value::from(1.0)];
    signed: (i8, i16, i32, i64) = [(i8::MIN, i16::MIN, i32::MIN, i64::MIN)];
    unsigned: (u8, u16, u32, u64) = [(u8::MAX, u16::MAX, u32::MAX, u64::MAX)];
    signed_128: i128 = [0, i128::MIN, i128::MAX];
    unsigned_128: u128 = [0, u128::MAX];
    sizes: (usize, isize) = [(usize::MAX, isize::MIN)];
    float: f64 = [0.0, -0.0, 0.1 + 0.2, f64::MIN_POSITIVE / 2.0, f64::MAX];
    small_float: f32 = [0.0, -0.0, 0.1, f32::MIN_POSITIVE / 2.0, f32::MAX];
    nan: f64 = [f64::NAN];
    infinity: f64 = [f64::INFINITY, f64::NEG_INFINITY];
    small_nan: f32 = [f32::NAN, f32::INFINITY];
    option_of_nan: Option<f64> = [Some(f64::NAN), Some(f64::INFINITY)];
    list_of_nan: Vec<f64> = [vec![1.0, f64::NAN]];
    options_of_nan: Vec<Option<f64>> = [vec![None, Some(f64::INFINITY)]];
    reading: Reading, opaque = [Reading { celsius: 1.5, all: vec![None, Some(-0.0)] }];
    reading_of_nan: Reading, opaque = [
        Reading { celsius: f64::NAN, all: vec![] }, Reading { celsius: 0.0, all: vec![Some(f64::NAN)] },
    ];
    duration: Duration = [Duration::ZERO, Duration::new(1, 999_999_999), Duration::MAX];
    system_time: SystemTime = [
        SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::new(1, 1),
        SystemTime::UNIX_EPOCH - Duration::new(1, 0),
    ];
    character: char = ['a', '\0', '\u{10ffff}'];
}

#[test]
fn every_shape_comes_back_or_is_refused() {
    let table = format!("{:<28}| {:<20}| {:<20}| {}\n{}", "", "message_pack", "json", "postcard", table());
    if table != include_str!("survival.txt") {
        panic!(
            "what is kept and what is refused has changed; if that is right, write it to `survival.txt`:\n{table}"
        );
    }
}

/// Not `Sync`, so never a whole state; but a part may hold what serde's `rc` feature allows.
#[test]
fn a_pointer_is_compared_by_what_it_points_to() {
    use crate::Fingerprint as _;

    assert!(Rc::new(1.0).compare(&Rc::new(1.0)).is_ok());
    assert!(Rc::new(0.0).compare(&Rc::new(-0.0)).is_err());
}

#[derive(Clone, Debug, Serialize, Deserialize, State)]
#[state(name = "random")]
struct Random {
    float: f64,
    small: f32,
    maybe: Option<Option<f64>>,
    list: Vec<Option<f32>>,
    units: Vec<Option<()>>,
    by_number: BTreeMap<i64, Option<Option<u8>>>,
    by_option: BTreeMap<Option<char>, u8>,
    flat: Vec<FlatBeside>,
    alike: Vec<Alike>,
    wide: u128,
    choice: Vec<Adjacent>,
    time: Duration,
}

impl Default for Random {
    fn default() -> Self {
        Self {
            float: 0.0,
            small: 0.0,
            maybe: None,
            list: Vec::new(),
            units: Vec::new(),
            by_number: BTreeMap::new(),
            by_option: BTreeMap::new(),
            flat: Vec::new(),
            alike: Vec::new(),
            wide: 0,
            choice: Vec::new(),
            time: Duration::ZERO,
        }
    }
}

impl Fold for Random {
    type Event = Nothing;

    fn apply(&mut self, _: Nothing, _: &EventMeta<'_>) {}
}

macro_rules! random_events {
    ($($events:ident: $codec:ident),*) => {$(
        #[derive(Clone, Debug, Event)]
        #[event(category = "random", codec = $codec)]
        enum $events {
            Happened(Random),
        }
    )*};
}
random_events! { RandomMessagePack: message_pack, RandomJson: json, RandomPostcard: postcard }

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![4 => any::<f64>(), 1 => Just(f64::NAN), 1 => Just(-0.0), 1 => Just(f64::NEG_INFINITY)]
}

fn option_of_option<T: Debug + Clone>(
    inner: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<Option<T>>> {
    proptest::option::of(proptest::option::weighted(0.9, inner))
}

fn random() -> impl Strategy<Value = Random> {
    let address = (proptest::option::of(".*"), proptest::option::of("[a-z]*"))
        .prop_map(|(street, town)| Address { street, town });
    let flat =
        (option_of_option(any::<u32>()), address).prop_map(|(ends, address)| FlatBeside { ends, address });
    let alike = prop_oneof![6 => ".*".prop_map(Alike::Email), 1 => ".*".prop_map(Alike::Phone)];
    let choice = prop_oneof![
        Just(Adjacent::Unit),
        any::<u8>().prop_map(Adjacent::Newtype),
        any::<(u8, u8)>().prop_map(|(a, b)| Adjacent::Tuple(a, b)),
        option_of_option(any::<u8>()).prop_map(|a| Adjacent::Struct { a }),
    ];
    use proptest::collection::{btree_map, vec};
    (
        (float(), any::<f32>(), option_of_option(float()), vec(proptest::option::of(any::<f32>()), 0..3)),
        (
            vec(proptest::option::weighted(0.1, Just(())), 0..3),
            btree_map(any::<i64>(), option_of_option(any::<u8>()), 0..3),
            btree_map(proptest::option::of(any::<char>()), any::<u8>(), 0..3),
        ),
        (vec(flat, 0..2), vec(alike, 0..2), any::<u128>(), vec(choice, 0..2), any::<Duration>()),
    )
        .prop_map(|((float, small, maybe, list), (units, by_number, by_option), rest)| {
            let (flat, alike, wide, choice, time) = rest;
            Random { float, small, maybe, list, units, by_number, by_option, flat, alike, wide, choice, time }
        })
}

proptest! {
    #[test]
    fn a_random_value_comes_back_or_is_refused(value in random()) {
        let mut outcomes = Outcomes::default();
        for codec in [Codec::MESSAGE_PACK, Codec::JSON, Codec::POSTCARD] {
            outcomes.note(codec.id(), &value, snapshot_and_back(&codec, &value));
        }
        let event = RandomMessagePack::Happened(value.clone());
        outcomes.note("event in msgpack", &event, event_and_back(&event));
        let event = RandomJson::Happened(value.clone());
        outcomes.note("event in json", &event, event_and_back(&event));
        let event = RandomPostcard::Happened(value);
        outcomes.note("event in postcard", &event, event_and_back(&event));
    }
}
