//! Events as they are stored and read, through nothing but the derive and the public trait.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailfold::{Codec, DecodeError, Event, EventSchema, IntoEvents, SchemaVersion};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "account")]
enum AccountEvent {
    #[event(origin)]
    Opened { owner: String },
    #[event(version = 3, upcast(2 = deposited_v2, 1 = deposited_v1))]
    Deposited { cents: i64, via: String },
    #[event(version = 2, upcast = withdrawn_v1)]
    Withdrawn { cents: i64 },
    #[event(name = "account.frozen:by-court", version = 4, oldest = 4)]
    Frozen,
}

#[derive(Deserialize)]
struct DepositedV1 {
    dollars: i64,
}

#[derive(Deserialize)]
struct DepositedV2 {
    cents: i64,
}

fn deposited_v1(old: DepositedV1) -> DepositedV2 {
    DepositedV2 { cents: old.dollars * 100 }
}

fn deposited_v2(old: DepositedV2) -> AccountEvent {
    AccountEvent::Deposited { cents: old.cents, via: "unknown".to_owned() }
}

fn withdrawn_v1(cents: i64) -> AccountEvent {
    AccountEvent::Withdrawn { cents }
}

fn json<E: Event>(event: &E) -> String {
    String::from_utf8(event.encode().unwrap()).unwrap()
}

fn read<E: Event>(name: &str, version: u32, payload: &str) -> Result<E, DecodeError> {
    E::decode(name, SchemaVersion(version), payload.as_bytes())
}

fn round_trip<E: Event + PartialEq + std::fmt::Debug>(event: E, name: &str, payload: &str) {
    assert_eq!(event.schema().name, name);
    assert_eq!(json(&event), payload);
    assert_eq!(read::<E>(name, event.schema().version, payload).unwrap(), event);
}

#[test]
fn a_variant_is_stored_under_its_category_and_its_name_in_snake_case() {
    assert_eq!(AccountEvent::CATEGORY, "account");
    let schemas = AccountEvent::schemas();
    assert_eq!(
        schemas,
        [
            EventSchema { name: "account.opened", version: 1, oldest: 1, origin: true },
            EventSchema { name: "account.deposited", version: 3, oldest: 1, origin: false },
            EventSchema { name: "account.withdrawn", version: 2, oldest: 1, origin: false },
            EventSchema { name: "account.frozen:by-court", version: 4, oldest: 4, origin: false },
        ]
    );
    assert!(std::ptr::eq(AccountEvent::Frozen.schema(), &schemas[3]));
}

#[test]
fn the_payload_is_the_fields_of_the_variant_alone() {
    round_trip(
        AccountEvent::Deposited { cents: 5, via: "x".to_owned() },
        "account.deposited",
        r#"{"cents":5,"via":"x"}"#,
    );
    round_trip(AccountEvent::Opened { owner: "Ada".to_owned() }, "account.opened", r#"{"owner":"Ada"}"#);
    round_trip(AccountEvent::Frozen, "account.frozen:by-court", "{}");
}

#[test]
fn a_payload_of_version_1_is_read_through_each_later_version() {
    let event: AccountEvent = read("account.deposited", 1, r#"{"dollars":7}"#).unwrap();
    assert_eq!(event, AccountEvent::Deposited { cents: 700, via: "unknown".to_owned() });
    let event: AccountEvent = read("account.deposited", 2, r#"{"cents":7}"#).unwrap();
    assert_eq!(event, AccountEvent::Deposited { cents: 7, via: "unknown".to_owned() });
    let event: AccountEvent = read("account.deposited", 3, r#"{"cents":7,"via":"card"}"#).unwrap();
    assert_eq!(event, AccountEvent::Deposited { cents: 7, via: "card".to_owned() });
    let event: AccountEvent = read("account.withdrawn", 1, "9").unwrap();
    assert_eq!(event, AccountEvent::Withdrawn { cents: 9 });
}

#[test]
fn unknown_type_unknown_version_and_malformed_payload_are_told_apart() {
    let unknown = read::<AccountEvent>("account.closed", 1, "{}").unwrap_err();
    assert!(matches!(unknown, DecodeError::UnknownType), "{unknown}");
    for version in [0, 2] {
        let unknown = read::<AccountEvent>("account.opened", version, r#"{"owner":"Ada"}"#).unwrap_err();
        assert!(matches!(unknown, DecodeError::UnknownVersion), "{unknown}");
    }
    let too_old = read::<AccountEvent>("account.frozen:by-court", 3, "{}").unwrap_err();
    assert!(matches!(too_old, DecodeError::UnknownVersion), "{too_old}");
    for (name, version, payload) in [
        ("account.opened", 1, "{}"),
        ("account.opened", 1, r#"{"owner":"Ada"} trailing"#),
        ("account.deposited", 1, r#"{"dollars":"seven"}"#),
        ("account.frozen:by-court", 4, "nothing"),
    ] {
        let malformed = read::<AccountEvent>(name, version, payload).unwrap_err();
        assert!(matches!(malformed, DecodeError::Malformed(_)), "{malformed}");
    }
}

#[test]
fn an_event_type_handles_exactly_the_versions_that_it_reads() {
    let handled = |name, version| AccountEvent::handles(name, SchemaVersion(version));
    assert!(handled("account.deposited", 1) && handled("account.deposited", 3));
    assert!(!handled("account.deposited", 4) && !handled("account.frozen:by-court", 3));
    assert!(!handled("account.closed", 1));
}

// No serde derive: the payloads need none.
#[derive(Debug, PartialEq, Event)]
#[event(category = "shapes")]
enum Shapes {
    Unit,
    Nothing {},
    NoFields(),
    Newtype(Vec<u8>),
    Pair(u8, String),
    Named { r#type: u8, maybe: Option<u8> },
    Nested(Inner),
    Recursive { next: Option<Box<Chain>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    map: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

#[test]
fn every_shape_of_variant_has_its_payload() {
    round_trip(Shapes::Unit, "shapes.unit", "{}");
    round_trip(Shapes::Nothing {}, "shapes.nothing", "{}");
    round_trip(Shapes::NoFields(), "shapes.no_fields", "{}");
    round_trip(Shapes::Newtype(vec![1, 2]), "shapes.newtype", "[1,2]");
    round_trip(Shapes::Pair(1, "b".to_owned()), "shapes.pair", r#"[1,"b"]"#);
    round_trip(Shapes::Named { r#type: 1, maybe: None }, "shapes.named", r#"{"type":1,"maybe":null}"#);
    let inner = Inner { map: BTreeMap::from([("a".to_owned(), -1)]) };
    round_trip(Shapes::Nested(inner), "shapes.nested", r#"{"map":{"a":-1}}"#);
    let next = Some(Box::new(Chain { next: None }));
    round_trip(Shapes::Recursive { next }, "shapes.recursive", r#"{"next":{"next":null}}"#);
}

#[test]
fn fields_that_a_later_writer_added_are_ignored() {
    assert_eq!(read::<Shapes>("shapes.unit", 1, r#"{"added":1}"#).unwrap(), Shapes::Unit);
    let event: Shapes = read("shapes.named", 1, r#"{"type":1,"added":[]}"#).unwrap();
    assert_eq!(event, Shapes::Named { r#type: 1, maybe: None });
}

// The wrapper's own attributes (`tag`, `rename_all`) say nothing about payloads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "renamed")]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
enum Renamed {
    ByEnum {
        first_name: String,
        #[serde(rename = "LAST", alias = "surname")]
        last_name: String,
    },
    #[serde(rename_all = "kebab-case", rename = "ignored")]
    ByVariant {
        first_name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        nick_names: Vec<String>,
    },
    With {
        #[serde(with = "hexadecimal")]
        colour: u32,
        #[serde(flatten)]
        inner: Inner,
    },
}

mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(colour: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{colour:06x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = String::deserialize(deserializer)?;
        u32::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[test]
fn serde_attributes_of_fields_shape_the_payload_and_those_of_the_wrapper_do_not() {
    let event = Renamed::ByEnum { first_name: "a".to_owned(), last_name: "b".to_owned() };
    round_trip(event.clone(), "renamed.by_enum", r#"{"firstName":"a","LAST":"b"}"#);
    assert_eq!(read::<Renamed>("renamed.by_enum", 1, r#"{"firstName":"a","surname":"b"}"#).unwrap(), event);
    let event = Renamed::ByVariant { first_name: "a".to_owned(), nick_names: Vec::new() };
    round_trip(event, "renamed.by_variant", r#"{"first-name":"a"}"#);
    let event = Renamed::ByVariant { first_name: "a".to_owned(), nick_names: vec!["b".to_owned()] };
    round_trip(event, "renamed.by_variant", r#"{"first-name":"a","nick-names":["b"]}"#);
    let inner = Inner { map: BTreeMap::new() };
    round_trip(Renamed::With { colour: 255, inner }, "renamed.with", r#"{"colour":"0000ff","map":{}}"#);
}

#[derive(Debug, PartialEq, Event)]
#[event(category = "strict")]
#[serde(deny_unknown_fields)]
enum Strict {
    Unit,
    Named { a: u8 },
}

#[derive(Debug, PartialEq, Event)]
#[event(category = "lenient")]
enum Lenient {
    #[serde(deny_unknown_fields)]
    Strict { a: u8 },
    #[serde(default)]
    FilledIn { a: u8, b: String },
}

#[test]
fn a_payload_may_be_declared_strict_or_be_filled_in() {
    assert_eq!(read::<Strict>("strict.named", 1, r#"{"a":1}"#).unwrap(), Strict::Named { a: 1 });
    for (name, payload) in [("strict.named", r#"{"a":1,"b":2}"#), ("strict.unit", r#"{"b":2}"#)] {
        assert!(matches!(read::<Strict>(name, 1, payload), Err(DecodeError::Malformed(_))), "{name}");
    }
    assert!(read::<Lenient>("lenient.strict", 1, r#"{"a":1,"b":2}"#).is_err());
    let event: Lenient = read("lenient.filled_in", 1, r#"{"b":"x"}"#).unwrap();
    assert_eq!(event, Lenient::FilledIn { a: 0, b: "x".to_owned() });
}

#[derive(Event)]
#[event(category = "course")]
enum Booking {
    #[event(
        tag = "course:{course}",
        tag = "student:{student:03}",
        tag = "{{{course}}}/{student}/{course}",
        tag = "all"
    )]
    Booked {
        course: String,
        student: u32,
        r#type: u8,
    },
    #[event(tag = "course:{0}")]
    #[event(tag = "type:{1}")]
    Moved(String, u8),
    #[event(tag = "type:{type}")]
    Typed {
        r#type: u8,
    },
    Closed,
}

#[derive(Debug, PartialEq, Event)]
#[event(category = "customer")]
enum CustomerEvent {
    #[event(tag = "email:{email}", long = hash, tag = "name:{name}", tag = "{name}", long = hash)]
    #[event(tag = "all")]
    Registered { email: String, name: String },
}

#[test]
fn a_tag_that_does_not_fit_is_hashed_where_that_is_asked_for() {
    let (long, line_break) = ("x".repeat(300), "a\nb".to_owned());
    let event = CustomerEvent::Registered { email: long.clone(), name: line_break.clone() };
    let fitted = |text: &str| tailfold::Tag::fitted(text).as_str().to_owned();
    assert_eq!(
        event.tags(),
        [fitted(&format!("email:{long}")), "name:a\nb".to_owned(), fitted("a\nb"), "all".to_owned()]
    );
    let short = CustomerEvent::Registered { email: "a".to_owned(), name: "b".to_owned() };
    assert_eq!(short.tags(), ["email:a", "name:b", "b", "all"]);
}

#[test]
fn tags_are_made_of_the_fields_that_they_name() {
    let booked = Booking::Booked { course: "42".to_owned(), student: 7, r#type: 1 };
    assert_eq!(booked.tags(), ["course:42", "student:007", "{42}/7/42", "all"]);
    assert_eq!(Booking::Moved("42".to_owned(), 9).tags(), ["course:42", "type:9"]);
    assert_eq!(Booking::Typed { r#type: 3 }.tags(), ["type:3"]);
    assert!(Booking::Closed.tags().is_empty());
}

macro_rules! codec_round_trip {
    ($test:ident, $codec:ident, $expected:expr) => {
        #[test]
        fn $test() {
            #[derive(Debug, PartialEq, Event)]
            #[event(category = "encoded", codec = $codec)]
            enum Encoded {
                Unit,
                Newtype(String),
                Pair(u8, f64),
                Named { cents: i64, via: Option<String> },
            }
            assert_eq!(Encoded::codec(), $expected);
            for event in [
                Encoded::Unit,
                Encoded::Newtype("a".to_owned()),
                Encoded::Pair(1, 0.1),
                Encoded::Named { cents: -5, via: Some("x".to_owned()) },
                Encoded::Named { cents: 5, via: None },
            ] {
                let schema = event.schema();
                let bytes = event.encode().unwrap();
                let back = Encoded::decode(schema.name, SchemaVersion(schema.version), &bytes).unwrap();
                assert_eq!(back, event);
                let cut = bytes.split_last().map(|(_, cut)| cut);
                if let Some(cut) = cut {
                    let cut = Encoded::decode(schema.name, SchemaVersion(schema.version), cut);
                    assert!(matches!(cut, Err(DecodeError::Malformed(_))), "{schema:?}");
                }
            }
        }
    };
}

codec_round_trip!(every_shape_survives_json, json, Codec::JSON);
codec_round_trip!(every_shape_survives_message_pack, message_pack, Codec::MESSAGE_PACK);
codec_round_trip!(every_shape_survives_postcard, postcard, Codec::POSTCARD);

mod codecs {
    pub(super) fn chosen() -> tailfold::Codec {
        tailfold::Codec::MESSAGE_PACK
    }
}

codec_round_trip!(every_shape_survives_a_codec_of_ones_own, chosen, Codec::MESSAGE_PACK);
use codecs::chosen;

#[derive(Event)]
#[event(category = "encoded", codec = codecs::chosen)]
enum ChosenByPath {
    Named { cents: i64 },
}

#[test]
fn message_pack_and_postcard_payloads_are_golden() {
    assert_eq!(ChosenByPath::Named { cents: 5 }.encode().unwrap(), b"\x81\xa5cents\x05");
    #[derive(Event)]
    #[event(category = "encoded", codec = postcard)]
    enum Positional {
        Unit,
        Named { cents: u8, via: String },
    }
    assert_eq!(Positional::Named { cents: 5, via: "x".to_owned() }.encode().unwrap(), b"\x05\x01x");
    assert_eq!(Positional::Unit.encode().unwrap(), b"");
}

// What a decision may return, with a real event type.
fn count(events: impl IntoEvents<AccountEvent>) -> usize {
    events.into_events().len()
}

#[test]
fn a_decision_returns_one_event_several_or_none() {
    let event = || AccountEvent::Frozen;
    assert_eq!(count(event()), 1);
    assert_eq!(count(vec![event(), event()]), 2);
    assert_eq!(count([event(), event(), event()]), 3);
    assert_eq!(count([]), 0);
    assert_eq!((count(Some(event())), count(None), count(())), (1, 0, 0));
}

// The helper types of the derive must neither shadow the user's names nor be hurt by them.
#[test]
fn names_of_the_user_do_not_collide_with_those_of_the_derive() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Result(u8);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Option;
    #[derive(Debug, PartialEq, Event)]
    #[event(category = "names")]
    enum Names {
        Ok { payload: Result, event_type: Option, schema_version: u8, read: u8, shape: u8 },
        String(Result),
        Vec,
    }
    let event = Names::Ok { payload: Result(1), event_type: Option, schema_version: 2, read: 3, shape: 4 };
    round_trip(event, "names.ok", r#"{"payload":1,"event_type":null,"schema_version":2,"read":3,"shape":4}"#);
    round_trip(Names::String(Result(1)), "names.string", "1");
    round_trip(Names::Vec, "names.vec", "{}");
}

// `Self` in fields and upcasts is the enum, also where the derive copies them elsewhere.
#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "self")]
enum Myself {
    #[event(version = 2, upcast = Self::undone_v1)]
    Undone {
        events: Vec<Self>,
        of: (u8, Option<Box<Self>>),
    },
    Done,
}

impl Myself {
    fn undone_v1(events: Vec<Self>) -> Self {
        Self::Undone { events, of: (0, None) }
    }
}

#[test]
fn an_event_may_hold_events_of_its_own_type() {
    let event = Myself::Undone { events: vec![Myself::Done], of: (1, Some(Box::new(Myself::Done))) };
    round_trip(event, "self.undone", r#"{"events":["Done"],"of":[1,"Done"]}"#);
    let old: Myself = read("self.undone", 1, r#"["Done"]"#).unwrap();
    assert_eq!(old, Myself::Undone { events: vec![Myself::Done], of: (0, None) });
}
