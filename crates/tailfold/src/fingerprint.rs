//! The structural fingerprint of a state: what `#[derive(State)]` feeds and a serial is made of.

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128,
};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A type whose encoded shape is known: kind, names in order and serde attributes, recursively.
///
/// Derived with `#[derive(State)]`. Compilers, platforms, type and module names, doc comments and other derives do not
/// change it; renaming, retyping, adding, removing or reordering a field or a variant does.
#[diagnostic::on_unimplemented(
    message = "the shape of `{Self}` is not known, so snapshots of it could not be told apart",
    label = "has no fingerprint",
    note = "for your own type: `#[derive(tailfold::State)]`",
    note = "for a foreign type: put `#[state(opaque = \"v1\")]` on the field, and change the text when the type changes",
    note = "`HashMap` and `HashSet` are left out on purpose: their order differs from run to run; use `BTreeMap` or `BTreeSet`"
)]
pub trait Fingerprint: 'static {
    /// Describes the type to `shape`.
    fn describe(shape: &mut Shape);
}

/// Collects the description of a type. Its text form is canonical: equal texts mean equal shapes.
#[derive(Debug, Default)]
pub struct Shape {
    text: String,
    composites: usize,
    // Which composite a type opened. TypeId only recognises a type within this walk; it is never part of the text.
    seen: HashMap<TypeId, usize>,
}

impl Shape {
    /// The canonical description of a type.
    pub fn of<T: Fingerprint + ?Sized>() -> String {
        let mut shape = Self::default();
        shape.visit::<T>();
        shape.text
    }

    /// Describes `T` in place; on a second visit, and in recursion, refers to the first one.
    pub fn visit<T: Fingerprint + ?Sized>(&mut self) {
        if let Some(composite) = self.seen.get(&TypeId::of::<T>()) {
            let _ = write!(self.text, "#{composite}");
            return;
        }
        let before = self.composites;
        self.seen.insert(TypeId::of::<T>(), before);
        T::describe(self);
        if self.composites == before {
            // A leaf: nothing to refer back to.
            self.seen.remove(&TypeId::of::<T>());
        }
    }

    /// A type without inner structure, by a fixed tag such as `u64`.
    pub fn leaf(&mut self, tag: &str) {
        self.text.push_str(tag);
    }

    /// Opens a composite: `struct`, `tuple`, `enum`, `variant name`...; closed by [`Shape::close`].
    pub fn open(&mut self, kind: &str) {
        self.composites += 1;
        self.text.push_str(kind);
        self.text.push('{');
    }

    /// Closes the innermost composite.
    pub fn close(&mut self) {
        self.text.push('}');
    }

    /// An attribute that shapes the encoding, as its tokens: `rename_all="camelCase"`.
    pub fn attribute(&mut self, tokens: &str) {
        self.text.push('@');
        self.quote(tokens);
        self.text.push(';');
    }

    /// A name: of a field, as encoded, or of a variant; what follows describes it.
    pub fn name(&mut self, name: &str) {
        self.quote(name);
        self.text.push(':');
    }

    /// A field of type `T`.
    pub fn field<T: Fingerprint + ?Sized>(&mut self, name: &str) {
        self.name(name);
        self.visit::<T>();
        self.text.push(',');
    }

    /// A field whose type is described by hand.
    pub fn opaque(&mut self, name: &str, version: &str) {
        self.name(name);
        self.text.push_str("opaque ");
        self.quote(version);
        self.text.push(',');
    }

    /// Not `{:?}`: what that escapes follows the Unicode tables of the compiler's release.
    fn quote(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            if matches!(c, '"' | '\\') {
                self.text.push('\\');
            }
            self.text.push(c);
        }
        self.text.push('"');
    }
}

macro_rules! leaves {
    ($($type:ty => $tag:literal),* $(,)?) => {$(
        impl Fingerprint for $type {
            fn describe(shape: &mut Shape) {
                shape.leaf($tag);
            }
        }
    )*};
}

leaves! {
    bool => "bool", char => "char", () => "unit", String => "str", str => "str", PathBuf => "path",
    u8 => "u8", u16 => "u16", u32 => "u32", u64 => "u64", u128 => "u128", usize => "usize",
    i8 => "i8", i16 => "i16", i32 => "i32", i64 => "i64", i128 => "i128", isize => "isize",
    f32 => "f32", f64 => "f64",
    NonZeroU8 => "u8!0", NonZeroU16 => "u16!0", NonZeroU32 => "u32!0", NonZeroU64 => "u64!0", NonZeroU128 => "u128!0",
    NonZeroI8 => "i8!0", NonZeroI16 => "i16!0", NonZeroI32 => "i32!0", NonZeroI64 => "i64!0", NonZeroI128 => "i128!0",
    Duration => "duration", SystemTime => "time",
    IpAddr => "ip", Ipv4Addr => "ip4", Ipv6Addr => "ip6", SocketAddr => "socket",
    crate::event::EventId => "event-id", crate::event::EventType => "event-type", crate::event::Tag => "tag",
    crate::event::SchemaVersion => "u32", crate::stream::StreamId => "stream-id", crate::stream::Version => "u64",
    crate::chain::Chain => "chain", crate::clock::Timestamp => "timestamp", crate::clock::Day => "i64",
    serde_json::Value => "json",
}

// The tag is written before the inner type is visited, so wrappers must not be merged with what they wrap.
macro_rules! wrappers {
    ($($wrapper:ident<$inner:ident $(: $bound:path)?> => $tag:literal),* $(,)?) => {$(
        impl<$inner: Fingerprint $(+ $bound)?> Fingerprint for $wrapper<$inner> {
            fn describe(shape: &mut Shape) {
                shape.open($tag);
                shape.visit::<$inner>();
                shape.close();
            }
        }
    )*};
}

wrappers! { Option<T> => "option", Vec<T> => "seq", VecDeque<T> => "seq", BTreeSet<T> => "set" }

// Transparent to serde, so transparent here.
macro_rules! transparent {
    ($($wrapper:ident),*) => {$(
        impl<T: Fingerprint + ?Sized> Fingerprint for $wrapper<T> {
            fn describe(shape: &mut Shape) {
                shape.visit::<T>();
            }
        }
    )*};
}

transparent! { Box, Arc, Rc }

impl<T: Fingerprint + ToOwned + ?Sized> Fingerprint for Cow<'static, T> {
    fn describe(shape: &mut Shape) {
        shape.visit::<T>();
    }
}

impl<T: Fingerprint> Fingerprint for [T] {
    fn describe(shape: &mut Shape) {
        shape.open("seq");
        shape.visit::<T>();
        shape.close();
    }
}

impl<T: Fingerprint, const N: usize> Fingerprint for [T; N] {
    fn describe(shape: &mut Shape) {
        shape.open(&format!("array {N}"));
        shape.visit::<T>();
        shape.close();
    }
}

impl<T: 'static> Fingerprint for PhantomData<T> {
    fn describe(shape: &mut Shape) {
        shape.leaf("unit");
    }
}

impl<K: Fingerprint, V: Fingerprint> Fingerprint for BTreeMap<K, V> {
    fn describe(shape: &mut Shape) {
        shape.open("map");
        shape.visit::<K>();
        shape.leaf(",");
        shape.visit::<V>();
        shape.close();
    }
}

impl<T: Fingerprint, E: Fingerprint> Fingerprint for Result<T, E> {
    fn describe(shape: &mut Shape) {
        shape.open("result");
        shape.visit::<T>();
        shape.leaf(",");
        shape.visit::<E>();
        shape.close();
    }
}

macro_rules! tuples {
    ($(($($name:ident),+))*) => {$(
        impl<$($name: Fingerprint),+> Fingerprint for ($($name,)+) {
            fn describe(shape: &mut Shape) {
                shape.open("tuple");
                $(shape.visit::<$name>(); shape.leaf(",");)+
                shape.close();
            }
        }
    )*};
}

tuples! {
    (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G) (A, B, C, D, E, F, G, H)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node;
    impl Fingerprint for Node {
        fn describe(shape: &mut Shape) {
            shape.open("struct");
            shape.field::<u32>("value");
            shape.field::<Vec<Node>>("children");
            shape.close();
        }
    }

    #[test]
    fn recursion_ends_in_a_back_reference() {
        assert_eq!(Shape::of::<Node>(), r#"struct{"value":u32,"children":seq{#0},}"#);
    }

    #[test]
    fn shapes_that_encode_differently_differ() {
        let shapes = [
            Shape::of::<Vec<u8>>(),
            Shape::of::<Vec<i8>>(),
            Shape::of::<Option<u8>>(),
            Shape::of::<Option<Option<u8>>>(),
            Shape::of::<[u8; 3]>(),
            Shape::of::<[u8; 4]>(),
            Shape::of::<(u8, u8, u8)>(),
            Shape::of::<BTreeMap<u8, u8>>(),
            Shape::of::<BTreeSet<u8>>(),
        ];
        for (index, shape) in shapes.iter().enumerate() {
            assert!(!shapes[index + 1..].contains(shape), "{shape}");
        }
    }

    #[test]
    fn pointers_do_not_change_a_shape() {
        assert_eq!(Shape::of::<Box<u64>>(), Shape::of::<u64>());
        assert_eq!(Shape::of::<Arc<str>>(), Shape::of::<String>());
        assert_eq!(Shape::of::<(Node, Box<Node>, Node)>(), Shape::of::<(Box<Node>, Node, Arc<Node>)>());
    }
}
