//! States that their codec cannot keep are refused when a repository is built, with the place and what helps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailfold::{ErrorKind, Event, EventMeta, Fold, MemoryStore, Policy, Repository, State};

#[derive(Clone, Event)]
#[event(category = "thing")]
enum ThingEvent {
    Happened,
}

/// The text of the refusal of a state with one field, `field`, whose type and attributes are given; `None` if it is built.
macro_rules! refusal {
    ($codec:ident: $(#[$attribute:meta])* $type:ty) => {{
        #[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
        #[state(name = "thing", codec = $codec)]
        struct Thing {
            id: u64,
            $(#[$attribute])*
            field: $type,
        }

        impl Fold for Thing {
            type Event = ThingEvent;

            fn apply(&mut self, _: ThingEvent, _: &EventMeta<'_>) {}
        }

        match Repository::<Thing>::builder(MemoryStore::new()).snapshots(Policy::every(1)).build() {
            Ok(_) => None,
            Err(error) => {
                assert_eq!(*error.kind(), ErrorKind::Unsupported, "{error}");
                let told = error.to_string();
                Some(told.strip_prefix("build the repository of fold `thing`: ").unwrap_or(&told).to_owned())
            }
        }
    }};
}

macro_rules! part {
    ($($item:tt)*) => {
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, State)]
        $($item)*
    };
}

part! {
    #[serde(untagged)]
    enum Untagged { Number(u8), Text(String) }
}
part! {
    #[serde(tag = "kind")]
    enum Tagged { Number { number: u8 }, Text { text: String } }
}
part! {
    #[serde(tag = "kind", content = "data")]
    enum TaggedBeside { Number(u8), Text(String) }
}
part! {
    enum Plain { One, Two }
}
part! {
    enum WithData { One, Two(u8) }
}
part! {
    enum WithSkipped { One, #[serde(skip)] Two }
}
part! {
    struct Optional { #[serde(default, skip_serializing_if = "Vec::is_empty")] notes: Vec<u8>, after: u8 }
}
part! {
    struct Wrapped(String);
}
part! {
    struct Pair(u8, u8);
}
part! {
    #[serde(transparent)]
    struct Transparent { id: u8 }
}

#[track_caller]
fn refused(told: Option<String>, start: &str) {
    let told = told.expect("it is refused");
    assert!(told.starts_with(start), "{told}");
}

#[test]
fn postcard_keeps_nothing_that_reads_itself_from_the_bytes() {
    refused(refusal!(postcard: Vec<Untagged>), "`field`: `untagged` needs a codec that writes names");
    refused(refusal!(postcard: Option<Tagged>), "`field`: `tag` needs");
    refused(refusal!(postcard: #[serde(flatten)] BTreeMap<String, u8>), "`field`: `flatten` needs");
    refused(refusal!(postcard: serde_json::Value), "`field`: `serde_json::Value` needs");
    refused(refusal!(postcard: Vec<rust_decimal::Decimal>), "`field`: `Decimal`, unless");
    refused(refusal!(postcard: Vec<bigdecimal::BigDecimal>), "`field`: `BigDecimal` needs");
    refused(refusal!(postcard: Vec<Optional>), "`field.notes`: `skip_serializing_if` needs");
    refused(refusal!(postcard: Option<TaggedBeside>), "`field`: `tag` needs");
    assert_eq!(refusal!(postcard: BTreeMap<Pair, uuid::Uuid>), None);
    for codec_with_names in [refusal!(json: Vec<Untagged>), refusal!(message_pack: Option<Tagged>)] {
        assert_eq!(codec_with_names, None);
    }
    assert_eq!(refusal!(json: #[serde(flatten)] BTreeMap<String, u8>), None);
    assert_eq!(refusal!(message_pack: Vec<rust_decimal::Decimal>), None);
}

#[test]
fn json_has_maps_with_keys_that_are_texts_numbers_and_variants() {
    let start =
        "`field`: a map with keys that are no texts, numbers or variants without fields needs another codec";
    refused(refusal!(json: BTreeMap<(u8, u8), u8>), start);
    refused(refusal!(json: BTreeMap<Pair, u8>), start);
    refused(refusal!(json: BTreeMap<WithData, u8>), start);
    refused(refusal!(json: BTreeMap<Vec<u8>, u8>), start);
    refused(refusal!(json: Vec<BTreeMap<(), u8>>), start);
    assert_eq!(refusal!(json: BTreeMap<Plain, u8>), None);
    assert_eq!(refusal!(json: BTreeMap<Wrapped, BTreeMap<Wrapped, Wrapped>>), None);
    assert_eq!(refusal!(json: BTreeMap<Transparent, u8>), None);
    // `None` is no key, which is seen when there is one.
    assert_eq!(refusal!(json: BTreeMap<Option<u8>, u8>), None);
    assert_eq!(refusal!(json: BTreeMap<uuid::Uuid, BTreeMap<i128, BTreeMap<char, bool>>>), None);
    assert_eq!(refusal!(message_pack: BTreeMap<Pair, BTreeMap<WithData, u8>>), None);
}

/// As users write maps by tuples into JSON.
mod as_pairs {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(
        map: &BTreeMap<(u8, u8), serde_json::Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(key, value)| (key, value.to_string())))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<(u8, u8), serde_json::Value>, D::Error> {
        let pairs = Vec::<((u8, u8), String)>::deserialize(deserializer)?;
        let value = |text: String| serde_json::from_str(&text).map_err(serde::de::Error::custom);
        pairs.into_iter().map(|(key, text)| Ok((key, value(text)?))).collect()
    }
}

#[test]
fn of_what_is_written_by_hand_nothing_is_known() {
    assert_eq!(refusal!(json: #[serde(with = "as_pairs")] BTreeMap<(u8, u8), serde_json::Value>), None);
    assert_eq!(refusal!(postcard: #[serde(with = "as_pairs")] BTreeMap<(u8, u8), serde_json::Value>), None);
}

#[test]
fn a_variant_that_serde_skips_is_kept_by_no_codec() {
    let start = "`field.Two`: a variant that serde skips cannot be written";
    refused(refusal!(json: Vec<WithSkipped>), start);
    refused(refusal!(message_pack: Vec<WithSkipped>), start);
    refused(refusal!(postcard: Vec<WithSkipped>), start);
}

/// What is refused is what fails, and what is built survives: the rules above hold of the codecs as they are.
#[test]
fn the_codecs_are_as_the_refusals_say() {
    use tailfold::Codec;

    #[track_caller]
    fn kept<T: Serialize + serde::de::DeserializeOwned + PartialEq>(codec: &Codec, value: T) -> bool {
        codec.encode(&value).and_then(|bytes| codec.decode::<T>(&bytes)).is_ok_and(|read| read == value)
    }
    let (json, postcard) = (Codec::JSON, Codec::POSTCARD);
    assert!(!kept(&postcard, Untagged::Number(1)));
    assert!(!kept(&postcard, Tagged::Number { number: 1 }));
    assert!(!kept(&postcard, TaggedBeside::Text("a".to_owned())));
    assert!(!kept(&postcard, Optional { notes: vec![], after: 1 }));
    assert!(!kept(&postcard, serde_json::json!(1)));
    assert!(!kept(&postcard, rust_decimal::Decimal::ONE));
    assert!(!kept(&json, BTreeMap::from([((1, 2), 3)])));
    assert!(!kept(&json, BTreeMap::from([(Pair(1, 2), 3)])));
    assert!(!kept(&json, BTreeMap::from([(WithData::Two(1), 3)])));
    assert!(kept(&json, BTreeMap::from([(Some(1), 3)])));
    assert!(!kept(&json, BTreeMap::from([(None::<u8>, 3)])));
    assert!(!kept(&json, BTreeMap::from([((), 3)])));
    assert!(kept(&json, BTreeMap::from([(Plain::One, 3)])));
    assert!(kept(&json, BTreeMap::from([(Wrapped("a".to_owned()), 3)])));
    assert!(kept(&json, BTreeMap::from([(Transparent { id: 1 }, 3)])));
    assert!(kept(&json, BTreeMap::from([(i128::MIN, BTreeMap::from([('a', true)]))])));
    assert!(!kept(&json, WithSkipped::Two));
}
