//! What the standard library and other crates bring, and its awkward values.

use super::*;

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

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

shapes! {
    unit: () = [()];
    phantom: PhantomData<u8> = [PhantomData];
    result: Result<u8, String> = [Ok(1), Err(text("no"))];
    map_by_text: BTreeMap<String, u8> = [map([]), map([(text(""), 1), (text("\0"), 2)])];
    map_by_u64: BTreeMap<u64, u8> = [map([(0, 1), (u64::MAX, 2)])];
    map_by_negative: BTreeMap<i64, u8> = [map([(i64::MIN, 1), (-1, 2)])];
    map_by_bool: BTreeMap<bool, u8> = [map([(false, 1), (true, 2)])];
    map_by_char: BTreeMap<char, u8> = [map([('a', 1), ('\u{10ffff}', 2), ('1', 3)])];
    map_by_u128: BTreeMap<u128, u8> = [map([(1, 1), (u128::MAX, 2)])];
    map_by_tuple: BTreeMap<(u8, u8), u8> = [map([]), map([((1, 2), 3)])];
    map_by_option: BTreeMap<Option<u8>, u8> = [map([]), map([(Some(1), 1)]), map([(None, 1), (Some(0), 2)])];
    set: BTreeSet<String> = [BTreeSet::new(), BTreeSet::from([text("a"), text("b")])];
    deque: VecDeque<u8> = [VecDeque::from([1, 2])];
    array: [u16; 3] = [[1, 2, 3]];
    empty_array: [u16; 0] = [[]];
    tuple_of_1: (u8,) = [(1,)];
    tuple_of_8: (u8, i8, u16, i16, u32, i32, bool, char) = [(1, -1, 1, -1, 1, -1, true, 'ä')];
    cow: Cow<'static, str> = [Cow::Borrowed("a"), Cow::Owned(text("b"))];
    shared_text: Arc<str> = [Arc::from("a")];
    boxed_slice: Box<[u8]> = [Box::from([1, 2])];
    awkward_text: String = [text("\0"), text("\u{10ffff}"), text("\u{feff}\r\n\"\\"), text("")];
    bytes: Vec<u8> = [vec![], vec![0, 255]];
    byte_buffer: ByteBuffer, opaque = [ByteBuffer(vec![]), ByteBuffer(vec![0, 255])];
    option: Option<u8> = [None, Some(0)];
    option_of_option: Option<Option<u8>> = [None, Some(Some(1)), Some(None)];
    option_of_option_of_option: Option<Option<Option<u8>>> = [None, Some(Some(Some(1))), Some(Some(None))];
    option_of_unit: Option<()> = [None, Some(())];
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
    set_of_options: BTreeSet<Option<Option<u8>>> = [
        BTreeSet::new(), BTreeSet::from([None, Some(Some(1))]), BTreeSet::from([None, Some(None)]),
    ];
    set_of_units: BTreeSet<Option<()>> = [BTreeSet::from([None, Some(())])];
    map_of_options: BTreeMap<String, Option<Option<u8>>> = [map([(text("a"), Some(Some(1)))]), map([(text("a"), Some(None))])];
    map_by_i128: BTreeMap<i128, u8> = [map([(i128::MIN, 1), (-1, 2)])];
    map_by_unit: BTreeMap<(), u8> = [map([]), map([((), 1)])];
    map_by_bytes: BTreeMap<Vec<u8>, u8> = [map([]), map([(vec![0, 255], 1)])];
    map_by_option_of_text: BTreeMap<Option<String>, u8> = [map([(None, 1)]), map([(None, 1), (Some(text("null")), 2)])];
    tuple_of_12: (u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8), opaque = [(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)];
    array_of_32: [u8; 32] = [[255; 32]];
    result_of_options: Result<Option<u8>, ()> = [Ok(None), Ok(Some(1)), Err(())];
    shared_nan: Arc<[f32]> = [Arc::from([1.5]), Arc::from([f32::NAN])];
    path: std::path::PathBuf = ["a/b".into(), "a//b/./c".into()];
    address: std::net::SocketAddr = ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()];
    uuid: uuid::Uuid, opaque = [uuid::Uuid::nil(), uuid::Uuid::max()];
    map_by_uuid: BTreeMap<uuid::Uuid, u8>, opaque = [map([(uuid::Uuid::nil(), 1), (uuid::Uuid::max(), 2)])];
    decimal: Decimal, opaque = [
        Decimal::ZERO, decimal("-0.00"), decimal("1.10"), decimal("1.1"), Decimal::MAX, Decimal::MIN,
        decimal("0.0000000000000000000000000001"),
    ];
    option_of_decimal: Option<Decimal>, opaque = [None, Some(decimal("-0.00")), Some(decimal("12.50"))];
    chrono_utc: chrono::DateTime<chrono::Utc>, opaque = [
        chrono::DateTime::UNIX_EPOCH, chrono::DateTime::from_timestamp(5, 900_000_001).unwrap(),
        chrono::DateTime::<chrono::Utc>::MAX_UTC, chrono::DateTime::<chrono::Utc>::MIN_UTC,
        // A leap second.
        chrono::DateTime::from_timestamp(59, 1_500_000_000).unwrap(),
    ];
    chrono_offset: chrono::DateTime<chrono::FixedOffset>, opaque = [
        chrono::DateTime::parse_from_rfc3339("2026-11-28T14:00:00.5+05:30").unwrap(),
        chrono::DateTime::UNIX_EPOCH.with_timezone(&chrono::FixedOffset::east_opt(3599).unwrap()),
    ];
    chrono_date: chrono::NaiveDate, opaque = [chrono::NaiveDate::MIN, chrono::NaiveDate::MAX];
    chrono_time: chrono::NaiveTime, opaque = [chrono::NaiveTime::MIN];
    jiff_timestamp: jiff::Timestamp, opaque = [jiff::Timestamp::MIN, jiff::Timestamp::MAX, jiff::Timestamp::UNIX_EPOCH];
    jiff_date_time: jiff::civil::DateTime, opaque = [jiff::civil::DateTime::MIN, jiff::civil::DateTime::MAX];
    jiff_zoned: jiff::Zoned, opaque = [jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC)];
    time_offset: time::OffsetDateTime, opaque = [
        time::OffsetDateTime::UNIX_EPOCH, time::OffsetDateTime::UNIX_EPOCH + Duration::new(5, 1),
        time::OffsetDateTime::UNIX_EPOCH.to_offset(time::UtcOffset::from_hms(1, 2, 3).unwrap()),
    ];
    time_date: time::Date, opaque = [time::Date::MIN, time::Date::MAX];
    time_duration: time::Duration, opaque = [time::Duration::MIN, time::Duration::MAX, time::Duration::nanoseconds(-1)];
    url: url::Url, opaque = ["https://ä.example/a b?c=%20#d".parse().unwrap(), "data:,".parse().unwrap()];
    index_map: IndexMap<String, u8>, opaque = [
        IndexMap::new(), IndexMap::from([(text("b"), 1), (text("a"), 2)]),
    ];
    bytes_of_bytes: bytes::Bytes, opaque = [bytes::Bytes::new(), bytes::Bytes::from_static(&[0, 255])];
    smol_text: smol_str::SmolStr, opaque = ["".into(), "longer than what fits into the value itself".into(), "\0".into()];
}
