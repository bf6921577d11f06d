//! Types as users write them, with serde's attributes, and their awkward values. Included twice: with fingerprints, and without.

use super::*;

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
    pub(super) enum Adjacent { Unit, Newtype(u8), Tuple(u8, u8), Struct { a: Option<Option<u8>> } }
    #[serde(untagged)]
    enum Untagged { Number(u64), Text(String), Struct { a: u8 } }
    #[serde(untagged)]
    pub(super) enum Alike { Email(String), Phone(String) }
    #[serde(untagged)]
    enum Wide { Number(u128), Text(String) }
    struct Flat { a: u8, #[serde(flatten)] named: Inner }
    struct Inner { x: u8, y: Option<Option<u8>> }
    struct FlatMap { a: u8, #[serde(flatten)] rest: BTreeMap<String, Value> }
    struct FlatNumbers { #[serde(flatten)] rest: BTreeMap<u64, u8> }
    struct FlatOption { a: u8, #[serde(flatten)] address: Option<Address> }
    pub(super) struct Address { pub(super) street: Option<String>, pub(super) town: Option<String> }
    pub(super) struct FlatBeside { pub(super) ends: Option<Option<u32>>, #[serde(flatten)] pub(super) address: Address }
    struct FlatClash { x: u8, #[serde(flatten)] named: Inner }
    struct Tree { value: u8, children: Vec<Tree> }
    pub(super) struct List { pub(super) next: Option<Box<List>> }
    enum Key { A, B }
    enum KeyWithData { Number(u8), Text(String) }
    struct KeyPair(u8, u8);
    struct Generic<T> { value: T, marker: PhantomData<T> }
    /// A NaN in one field must not hide what another loses.
    struct NanBeside { celsius: f64, contact: Alike }
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
ordered! { Newtype, Untagged, Key, KeyWithData, KeyPair }

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

fn deep(levels: u32) -> List {
    (0..levels).fold(List { next: None }, |inner, _| List { next: Some(Box::new(inner)) })
}

shapes! {
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
    map_by_enum: BTreeMap<Key, u8> = [map([(Key::A, 1), (Key::B, 2)])];
    map_by_newtype: BTreeMap<Newtype, u8> = [map([(Newtype(1), 1)])];
    map_by_tuple_struct: BTreeMap<KeyPair, u8> = [map([(KeyPair(1, 2), 3)])];
    map_by_enum_with_data: BTreeMap<KeyWithData, u8> = [
        map([]), map([(KeyWithData::Number(1), 1), (KeyWithData::Text(text("1")), 2)]),
    ];
    shared: Arc<Named> = [Arc::new(Named { a: 1, b: None })];
    option_of_unit_struct: Option<UnitStruct> = [None, Some(UnitStruct)];
    nan_beside_untagged: NanBeside = [
        NanBeside { celsius: f64::NAN, contact: Alike::Email(text("1")) },
        NanBeside { celsius: f64::NAN, contact: Alike::Phone(text("1")) },
    ];
    list_of_untagged: Vec<Option<Alike>> = [vec![None, Some(Alike::Email(text("1")))], vec![Some(Alike::Phone(text("1")))]];
    shared_untagged: Arc<Alike> = [Arc::new(Alike::Email(text("1"))), Arc::new(Alike::Phone(text("1")))];
    map_by_untagged: BTreeMap<Untagged, u8> = [map([]), map([(Untagged::Number(1), 1), (Untagged::Text(text("1")), 2)])];
    deep_box: List = [deep(60), deep(150), deep(600)];
}
