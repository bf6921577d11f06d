//! Golden fingerprints. A change here makes every stored snapshot unreadable: it needs a very good reason.

// Shapes are looked at, values are never made.
#![allow(dead_code, reason = "only the shapes of these types matter")]

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tailfold::{Codec, Serial, Shape, State};

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "account", serial = 3)]
struct Account {
    owner: String,
    cents: i64,
    holds: BTreeMap<u64, Hold>,
    last: Option<Hold>,
}

#[derive(Clone, Serialize, Deserialize, State)]
struct Hold {
    cents: Cents,
    reasons: BTreeSet<Reason>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, State)]
struct Cents(i64);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, State)]
#[repr(u8)]
enum Reason {
    Court,
    Bank(u8),
    Pair(u8, String),
    Other { text: String, at: [u8; 2] },
    Numbered = 7,
}

#[test]
fn a_struct_is_its_fields_in_order_recursively() {
    assert_eq!(
        Shape::of::<Account>(),
        concat!(
            r#"struct{"owner":str,"cents":i64,"holds":map{u64,"#,
            r#"struct{"cents":newtype{"0":i64,},"reasons":set{"#,
            r#"enum{"Court":unit{},"Bank":newtype{"0":u8,},"Pair":tuple{"0":u8,"1":str,},"#,
            r#""Other":struct{"text":str,"at":array 2{u8},},"Numbered":unit{@"=7";},}},}},"#,
            r#""last":option{#2},}"#
        )
    );
}

#[derive(State)]
struct Unit;
#[derive(State)]
struct Empty {}
#[derive(State)]
struct Tuple(u8, Vec<u16>);
#[derive(State)]
enum Never {}

#[test]
fn each_kind_of_type_has_its_word() {
    assert_eq!(Shape::of::<Unit>(), "unit{}");
    assert_eq!(Shape::of::<Empty>(), "struct{}");
    assert_eq!(Shape::of::<Cents>(), r#"newtype{"0":i64,}"#);
    assert_eq!(Shape::of::<Tuple>(), r#"tuple{"0":u8,"1":seq{u16},}"#);
    assert_eq!(Shape::of::<Never>(), "enum{}");
}

#[derive(State)]
struct Page<T, const N: usize> {
    items: Vec<T>,
    more: [Option<T>; N],
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "generic")]
struct Generic<T>
where
    T: Ord,
{
    items: BTreeSet<T>,
}

#[test]
fn generics_are_described_with_their_types() {
    assert_eq!(Shape::of::<Page<u8, 2>>(), r#"struct{"items":seq{u8},"more":array 2{option{u8}},}"#);
    assert_eq!(Shape::of::<Page<Cents, 1>>(), {
        r#"struct{"items":seq{newtype{"0":i64,}},"more":array 1{option{#2}},}"#
    });
    let of = |serial: tailfold::Result<Serial>| serial.unwrap();
    assert_ne!(of(Serial::of::<Generic<u8>>(&Codec::JSON)), of(Serial::of::<Generic<u16>>(&Codec::JSON)));
}

#[derive(State)]
struct Tree {
    value: u32,
    children: Vec<Self>,
}

#[derive(State)]
struct Directory {
    entries: BTreeMap<String, Entry>,
}

#[derive(State)]
enum Entry {
    File(u64),
    Directory(Box<Directory>),
}

#[test]
fn recursion_refers_back() {
    assert_eq!(Shape::of::<Tree>(), r#"struct{"value":u32,"children":seq{#0},}"#);
    assert_eq!(
        Shape::of::<Directory>(),
        r#"struct{"entries":map{str,enum{"File":newtype{"0":u64,},"Directory":newtype{"0":#0,},}},}"#
    );
    assert_eq!(
        Shape::of::<Entry>(),
        r#"enum{"File":newtype{"0":u64,},"Directory":newtype{"0":struct{"entries":map{str,#0},},},}"#
    );
}

/// The fields under every attribute that there is a rule for.
#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "attributes")]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[serde(default)]
struct Attributes {
    #[serde(rename = "balance")]
    cents: i64,
    #[serde(skip_serializing_if = "Vec::is_empty", default, alias = "n")]
    notes: Vec<String>,
    #[state(opaque = "v1")]
    foreign: Foreign,
    #[state(transient)]
    #[serde(skip)]
    cache: Vec<Foreign>,
    r#type: u8,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Foreign {
    x: u8,
}

#[derive(State)]
#[serde(tag = "kind", content = "data")]
enum Tagged {
    #[serde(rename = "a", alias = "old")]
    A,
    #[serde(rename_all = "UPPERCASE", made_up(x = [1, 2]))]
    B { x: u8 },
}

#[test]
fn serde_attributes_are_part_of_the_shape() {
    assert_eq!(
        Shape::of::<Attributes>(),
        concat!(
            r#"struct{@"default";@"deny_unknown_fields";@"rename_all=\"camelCase\"";"balance":i64,"#,
            r#"@"alias=\"n\"";@"default";@"skip_serializing_if=\"Vec::is_empty\"";"notes":seq{str},"#,
            r#""foreign":opaque "v1",@"skip";"cache":transient,"type":u8,}"#
        )
    );
    assert_eq!(
        Shape::of::<Tagged>(),
        concat!(
            r#"enum{@"content=\"data\"";@"tag=\"kind\"";"a":unit{@"alias=\"old\"";},"#,
            r#""B":struct{@"made_up(x=[1,2])";@"rename_all=\"UPPERCASE\"";"x":u8,},}"#
        )
    );
}

#[derive(Clone, State)]
#[serde(try_from = "Wire", into = "Wire")]
struct Converted {
    unknown: Foreign,
}

#[derive(State)]
#[serde(from = "Wire")]
struct ConvertedWhenRead {
    x: u8,
}

#[derive(State)]
struct Wire {
    x: u8,
}

#[test]
fn a_type_that_is_stored_as_another_has_the_shape_of_the_other() {
    assert_eq!(
        Shape::of::<Converted>(),
        concat!(
            r#"converted{@"into=\"Wire\"";@"try_from=\"Wire\"";"#,
            r#""serde into":struct{"x":u8,},"serde try_from":#1,}"#
        )
    );
    assert_eq!(
        Shape::of::<ConvertedWhenRead>(),
        r#"struct{@"from=\"Wire\"";"serde from":struct{"x":u8,},"x":u8,}"#
    );
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "labelled", serial = "v2-beta", codec = postcard)]
struct Labelled {
    cents: i64,
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "plain", codec = codec_of_ones_own)]
struct Plain {
    cents: i64,
}

fn codec_of_ones_own() -> Codec {
    Codec::JSON
}

#[test]
fn serials_are_golden() {
    let serial = |serial: tailfold::Result<Serial>| serial.unwrap().as_str().to_owned();
    let serials = [
        serial(Serial::of::<Account>(&Codec::MESSAGE_PACK)),
        serial(Serial::of::<Attributes>(&Codec::MESSAGE_PACK)),
        serial(Serial::of::<Labelled>(&Codec::POSTCARD)),
        serial(Serial::of::<Plain>(&Codec::JSON)),
    ];
    assert_eq!(
        serials,
        ["3-d42aa5991c9ec9de", "5e7ab019d486e0a3", "v2-beta-333415e24f9be098", "333415e24f9be098"]
    );
}

#[test]
fn a_state_has_the_name_the_label_and_the_codec_that_were_given() {
    assert_eq!((Account::NAME, Account::LABEL, Account::codec()), ("account", Some("3"), None));
    assert_eq!(
        (Labelled::NAME, Labelled::LABEL, Labelled::codec()),
        ("labelled", Some("v2-beta"), Some(Codec::POSTCARD))
    );
    assert_eq!((Plain::NAME, Plain::LABEL, Plain::codec()), ("plain", None, Some(Codec::JSON)));
}

/// Golden for ever: each is a part of the serials of stored snapshots.
#[test]
fn types_of_the_standard_library_and_of_other_crates_have_stable_tags() {
    use std::cmp::Reverse;
    use std::collections::{BinaryHeap, LinkedList};
    use std::num::{NonZeroIsize, NonZeroUsize, Saturating, Wrapping};
    use std::ops::{Bound, Range, RangeFrom, RangeInclusive, RangeTo};

    macro_rules! golden {
        ($($type:ty => $shape:literal),* $(,)?) => {
            [$((stringify!($type), Shape::of::<$type>(), $shape)),*]
        };
    }
    for (name, shape, golden) in golden! {
        NonZeroUsize => "usize!0", NonZeroIsize => "isize!0", usize => "usize", isize => "isize",
        std::net::SocketAddrV4 => "socket4", std::net::SocketAddrV6 => "socket6",
        std::ffi::CString => "c-string", std::ffi::OsString => "os-string", Box<str> => "str", Box<[u8]> => "seq{u8}",
        Range<u8> => "range{u8}", RangeInclusive<u8> => "range-inclusive{u8}",
        RangeFrom<u8> => "range-from{u8}", RangeTo<u8> => "range-to{u8}", Bound<u8> => "bound{u8}",
        Reverse<u8> => "u8", Wrapping<u8> => "u8", Saturating<u8> => "u8",
        LinkedList<u8> => "seq{u8}", BinaryHeap<u8> => "heap{u8}",
        (u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8) => "tuple{u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,u8,}",
        uuid::Uuid => "uuid", uuid::NonNilUuid => "uuid!0",
        bytes::Bytes => "bytes", bytes::BytesMut => "bytes",
        serde_json::Value => "json",
        jiff::Timestamp => "jiff-timestamp", jiff::Zoned => "jiff-zoned", jiff::SignedDuration => "jiff-duration",
        jiff::Span => "jiff-span", jiff::civil::Date => "jiff-date", jiff::civil::Time => "jiff-time",
        jiff::civil::DateTime => "jiff-date-time",
        chrono::NaiveDate => "chrono-date", chrono::NaiveTime => "chrono-time",
        chrono::NaiveDateTime => "chrono-date-time", chrono::DateTime<chrono::Utc> => "chrono-utc",
        chrono::DateTime<chrono::FixedOffset> => "chrono-fixed", chrono::TimeDelta => "chrono-delta",
        chrono::Weekday => "chrono-weekday", chrono::Month => "chrono-month",
        time::Date => "time-date", time::Time => "time-time", time::PrimitiveDateTime => "time-date-time",
        time::UtcDateTime => "time-utc", time::OffsetDateTime => "time-offset-date-time",
        time::UtcOffset => "time-offset", time::Duration => "time-duration", time::Weekday => "time-weekday",
        time::Month => "time-month",
        rust_decimal::Decimal => "decimal", bigdecimal::BigDecimal => "big-decimal",
        url::Url => "url", smol_str::SmolStr => "str",
        ordered_float::OrderedFloat<f64> => "f64", ordered_float::NotNan<f32> => "f32",
        indexmap::IndexMap<u8, bool> => "ordered-map{u8,bool}", indexmap::IndexSet<u8> => "ordered-set{u8}",
        BTreeMap<uuid::Uuid, Vec<rust_decimal::Decimal>> => "map{uuid,seq{decimal}}",
    } {
        assert_eq!(shape, golden, "{name}");
    }
}

/// What `PartialEq` passes over although it is stored.
#[test]
fn values_that_are_equal_but_not_the_same_are_told_apart() {
    use std::collections::BinaryHeap;

    use tailfold::Fingerprint;

    #[track_caller]
    fn differ<T: Fingerprint + PartialEq>(left: T, right: T) {
        assert!(left == right, "a test of what is equal");
        assert!(left.compare(&right).is_err());
        assert!(left.compare(&left).is_ok());
    }
    let offset = |hours: i32| chrono::FixedOffset::east_opt(hours * 3600).unwrap();
    let instant = chrono::DateTime::from_timestamp(0, 0).unwrap();
    differ(instant.with_timezone(&offset(1)), instant.with_timezone(&offset(2)));
    let instant = time::OffsetDateTime::UNIX_EPOCH;
    differ(instant, instant.to_offset(time::UtcOffset::from_hms(1, 0, 0).unwrap()));
    let zoned =
        |hours| jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(hours)));
    differ(zoned(1), zoned(2));
    differ(rust_decimal::Decimal::new(10, 1), rust_decimal::Decimal::new(1, 0));
    differ("1.0".parse::<bigdecimal::BigDecimal>().unwrap(), "1".parse().unwrap());
    differ(indexmap::IndexMap::from([(1, 1), (2, 2)]), indexmap::IndexMap::from([(2, 2), (1, 1)]));
    differ(indexmap::IndexSet::from([1, 2]), indexmap::IndexSet::from([2, 1]));
    differ(ordered_float::OrderedFloat(0.0), ordered_float::OrderedFloat(-0.0));

    let mut zero = rust_decimal::Decimal::new(0, 2);
    zero.set_sign_negative(true);
    assert!(zero.compare(&rust_decimal::Decimal::new(0, 2)).is_ok(), "-0.00 is 0.00");
    let hour = |span: jiff::Span| Fingerprint::compare(&span, &jiff::Span::new().hours(1));
    assert!(hour(jiff::Span::new().minutes(60)).is_err() && hour(jiff::Span::new().hours(1)).is_ok());
    let mut iterated = 1..=1;
    iterated.next();
    assert!(iterated.compare(&(1..=1)).is_err());
    let heap = BinaryHeap::from([1, 2, 3]);
    assert!(heap.compare(&heap.clone()).is_ok());
    assert!((1..3).compare(&(1..4)).is_err_and(|found| found.to_string() == "end"));
}

#[derive(State)]
struct Around {
    #[state(opaque(Foreign = "v1"))]
    lines: BTreeMap<u8, Vec<(Foreign, Cents)>>,
    #[state(opaque(Foreign = "v2", self::Foreign = "v3"))]
    more: (Option<Foreign>, [self::Foreign; 2]),
}

#[test]
fn a_foreign_type_inside_is_opaque_and_what_is_around_it_is_not() {
    assert_eq!(
        Shape::of::<Around>(),
        concat!(
            r#"struct{"lines":map{u8,seq{tuple{opaque "v1",newtype{"0":i64,},}}},"#,
            r#""more":tuple{option{opaque "v2"},array 2{opaque "v3"},},}"#
        )
    );
}

#[derive(State)]
#[state(bound = "T: Named, T::Key: tailfold::Fingerprint")]
struct Bounded<T: Named> {
    key: T::Key,
}

#[derive(State)]
#[state(bound = "")]
struct Unbounded<T: 'static> {
    marker: std::marker::PhantomData<T>,
}

trait Named: 'static {
    type Key;
}

impl Named for Foreign {
    type Key = u32;
}

#[test]
fn bounds_can_be_given_by_hand() {
    assert_eq!(Shape::of::<Bounded<Foreign>>(), r#"struct{"key":u32,}"#);
    assert_eq!(Shape::of::<Unbounded<Foreign>>(), r#"struct{"marker":unit,}"#);
}
