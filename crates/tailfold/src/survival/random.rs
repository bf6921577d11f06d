//! Random values of types with the attributes under which serde loses something, all in one state and in one event.

use proptest::prelude::*;

use super::described::{Address, Adjacent, Alike, FlatBeside};
use super::*;

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

/// With the values that codecs lose.
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
        for codec in CODECS {
            assert_ne!(snapshot_comes_back(&sealer(codec), &value), ANOTHER);
        }
        assert_ne!(event_comes_back(&RandomMessagePack::Happened(value.clone())), ANOTHER);
        assert_ne!(event_comes_back(&RandomJson::Happened(value.clone())), ANOTHER);
        assert_ne!(event_comes_back(&RandomPostcard::Happened(value)), ANOTHER);
    }
}
