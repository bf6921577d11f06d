//! An encoding that keeps apart all that serde tells apart: variants by number, `Some` from what it holds, lengths, the bits
//! of floats. Written to be compared, never to be read.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The exact encoding of a value; `None` if its own `Serialize` fails.
pub(super) fn bytes<T: Serialize + ?Sized>(value: &T) -> Option<Vec<u8>> {
    let mut out = Exact(Vec::new());
    value.serialize(&mut out).ok()?;
    Some(out.0)
}

struct Exact(Vec<u8>);

type Failed = serde::de::value::Error;

/// What comes next. Each entry of a compound is announced, so that no compound runs into what follows it.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    Bytes,
    None,
    Some,
    Unit,
    UnitStruct,
    UnitVariant,
    NewtypeStruct,
    NewtypeVariant,
    Seq,
    Tuple,
    TupleStruct,
    TupleVariant,
    Map,
    Struct,
    StructVariant,
    Entry,
    Skipped,
    End,
}

impl Exact {
    fn put(&mut self, kind: Kind, bytes: &[u8]) {
        self.0.push(kind as u8);
        self.0.extend_from_slice(bytes);
    }

    fn put_sized(&mut self, kind: Kind, bytes: &[u8]) {
        self.put(kind, &(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn entry(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        self.put(Kind::Entry, &[]);
        value.serialize(self)
    }

    fn named(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        self.put_sized(Kind::Entry, name.as_bytes());
        value.serialize(self)
    }

    fn end(&mut self) {
        self.put(Kind::End, &[]);
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty => $kind:ident),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<(), Failed> {
            self.put(Kind::$kind, &value.to_le_bytes());
            Ok(())
        }
    )*};
}

impl Serializer for &mut Exact {
    type Ok = ();
    type Error = Failed;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers! {
        serialize_i8: i8 => I8, serialize_i16: i16 => I16, serialize_i32: i32 => I32, serialize_i64: i64 => I64,
        serialize_i128: i128 => I128,
        serialize_u8: u8 => U8, serialize_u16: u16 => U16, serialize_u32: u32 => U32, serialize_u64: u64 => U64,
        serialize_u128: u128 => U128,
        serialize_f32: f32 => F32, serialize_f64: f64 => F64,
    }

    fn serialize_bool(self, value: bool) -> Result<(), Failed> {
        self.put(Kind::Bool, &[u8::from(value)]);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Failed> {
        self.put(Kind::Char, &u32::from(value).to_le_bytes());
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Failed> {
        self.put_sized(Kind::Str, value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Failed> {
        self.put_sized(Kind::Bytes, value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Failed> {
        self.put(Kind::None, &[]);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failed> {
        self.put(Kind::Some, &[]);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Failed> {
        self.put(Kind::Unit, &[]);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Failed> {
        self.put(Kind::UnitStruct, &[]);
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Failed> {
        self.put(Kind::UnitVariant, &index.to_le_bytes());
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        self.put(Kind::NewtypeStruct, &[]);
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        self.put(Kind::NewtypeVariant, &index.to_le_bytes());
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Failed> {
        self.put(Kind::Seq, &[]);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Failed> {
        self.put(Kind::Tuple, &[]);
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Failed> {
        self.put(Kind::TupleStruct, &[]);
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Failed> {
        self.put(Kind::TupleVariant, &index.to_le_bytes());
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Failed> {
        self.put(Kind::Map, &[]);
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Failed> {
        self.put(Kind::Struct, &[]);
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Failed> {
        self.put(Kind::StructVariant, &index.to_le_bytes());
        Ok(self)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Failed> {
        let mut text = String::new();
        // A `Display` that fails is the caller's error, not a reason to panic as `to_string` would.
        std::fmt::Write::write_fmt(&mut text, format_args!("{value}")).map_err(Failed::custom)?;
        self.serialize_str(&text)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! entries {
    ($($compound:ident::$method:ident),* $(,)?) => {$(
        impl $compound for &mut Exact {
            type Ok = ();
            type Error = Failed;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
                self.entry(value)
            }

            fn end(self) -> Result<(), Failed> {
                Exact::end(self);
                Ok(())
            }
        }
    )*};
}

entries! {
    SerializeSeq::serialize_element, SerializeTuple::serialize_element, SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

impl SerializeMap for &mut Exact {
    type Ok = ();
    type Error = Failed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        self.entry(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Failed> {
        Exact::end(self);
        Ok(())
    }
}

macro_rules! fields {
    ($($compound:ident),*) => {$(
        impl $compound for &mut Exact {
            type Ok = ();
            type Error = Failed;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Failed> {
                self.named(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Failed> {
                self.put_sized(Kind::Skipped, name.as_bytes());
                Ok(())
            }

            fn end(self) -> Result<(), Failed> {
                Exact::end(self);
                Ok(())
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant }

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    enum Shape {
        Unit,
        Newtype(u8),
        Tuple(u8, u8),
        Struct { a: u8 },
    }

    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, Option<Option<u8>>>,
    }

    fn flat(value: Option<Option<u8>>) -> Flat {
        Flat { rest: BTreeMap::from([("a".to_owned(), value)]) }
    }

    #[test]
    fn values_that_other_codecs_write_alike_are_kept_apart() {
        let encodings = [
            bytes(&None::<Option<Option<u8>>>),
            bytes(&Some(None::<Option<u8>>)),
            bytes(&Some(Some(None::<u8>))),
            bytes(&Some(Some(Some(0u8)))),
            bytes(&Some(())),
            bytes(&()),
            bytes(&f64::NAN),
            bytes(&-f64::NAN),
            bytes(&0.0),
            bytes(&-0.0),
            bytes(&0.0f32),
            bytes(&0u8),
            bytes(&0u64),
            bytes(&"a"),
            bytes(&'a'),
            bytes(&["a", "b"]),
            bytes(&["ab"]),
            bytes(&[["a"], ["b"]]),
            bytes(&vec![vec!["a", "b"]]),
            bytes(&vec![vec!["a"], vec!["b"]]),
            bytes(&Shape::Unit),
            bytes(&Shape::Newtype(1)),
            bytes(&Shape::Tuple(1, 2)),
            bytes(&Shape::Struct { a: 1 }),
            bytes(&flat(None)),
            bytes(&flat(Some(None))),
            bytes(&flat(Some(Some(1)))),
        ];
        for (index, encoding) in encodings.iter().enumerate() {
            assert!(encoding.is_some());
            assert!(!encodings[index + 1..].contains(encoding), "number {index}");
        }
    }

    #[test]
    fn equal_values_are_written_alike() {
        assert_eq!(bytes(&f64::NAN), bytes(&f64::NAN));
        assert_eq!(bytes(&Shape::Struct { a: 1 }), bytes(&Shape::Struct { a: 1 }));
        assert_eq!(bytes(&flat(Some(None))), bytes(&flat(Some(None))));
    }

    struct Unwritable;

    impl Serialize for Unwritable {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("no"))
        }
    }

    #[test]
    fn what_cannot_be_written_has_no_encoding() {
        assert_eq!(bytes(&vec![Unwritable]), None);
    }
}
