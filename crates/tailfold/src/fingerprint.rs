//! The structural fingerprint of a state: what `#[derive(State)]` feeds, what a serial is made of, and how values are compared.

pub(crate) mod compare;
mod exact;
mod foreign;
mod needs;
mod refused;
mod std_types;

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt::Write as _;

pub use self::compare::Difference;
use self::needs::Needs;
use crate::codec::Codec;
use crate::error::Error;

/// A type whose encoded shape is known: kind, names in order and serde attributes, recursively; and whose values can be told
/// apart.
///
/// Derived with `#[derive(State)]`. Compilers, platforms, type and module names, doc comments and other derives do not
/// change it; renaming, retyping, adding, removing or reordering a field or a variant does.
#[diagnostic::on_unimplemented(
    message = "the shape of `{Self}` is not known, so snapshots of it could not be told apart",
    label = "has no fingerprint",
    note = "for your own type: `#[derive(tailfold::State)]`",
    note = "types of uuid, jiff, bytes and serde_json have one; those of bigdecimal, chrono, indexmap, ordered-float, \
            rust_decimal, smol_str, time and url have one with the feature of that name: \
            `tailfold = {{ version = \"..\", features = [\"chrono\"] }}`",
    note = "for any other foreign type: `#[state(opaque(Foreign = \"v1\"))]` on the field, with the type as it is written there; \
            change the text when the type changes"
)]
pub trait Fingerprint: 'static {
    /// Describes the type to `shape`.
    fn describe(shape: &mut Shape);

    /// Compares two values, field by field: whether what was read back is what was written. Stricter than `PartialEq`:
    /// floating-point numbers are compared by their bits, so that NaN equals itself and -0.0 is not 0.0.
    ///
    /// Fields that are `opaque` are compared by their type's own `PartialEq`; `transient` ones are left out.
    ///
    /// # Errors
    /// The first place at which the values differ.
    fn compare(&self, other: &Self) -> Result<(), Difference>;
}

/// Collects the description of a type. Its text form is canonical: equal texts mean equal shapes.
#[derive(Debug, Default)]
pub struct Shape {
    text: String,
    composites: usize,
    needs: Needs,
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

    /// Why values of `T` could not be kept by a codec, as far as the shape tells; `None` if nothing is known against it.
    pub(crate) fn unsupported_by<T: Fingerprint + ?Sized>(codec: &Codec) -> Option<Error> {
        let mut shape = Self::default();
        shape.visit::<T>();
        shape.needs.unmet_by(codec)
    }

    /// Describes `T` in place; on a second visit, and in recursion, refers to the first one.
    pub fn visit<T: Fingerprint + ?Sized>(&mut self) {
        if let Some(composite) = self.seen.get(&TypeId::of::<T>()) {
            let _ = write!(self.text, "#{composite}");
            self.needs.referred(*composite);
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
        self.needs.leaf(tag);
    }

    /// Opens a composite: `struct`, `tuple`, `enum`, `variant name`...; closed by [`Shape::close`].
    pub fn open(&mut self, kind: &str) {
        self.composites += 1;
        self.text.push_str(kind);
        self.text.push('{');
        self.needs.opened(kind);
    }

    /// Closes the innermost composite.
    pub fn close(&mut self) {
        self.text.push('}');
        self.needs.closed();
    }

    /// An attribute that shapes the encoding, as its tokens: `rename_all="camelCase"`.
    pub fn attribute(&mut self, tokens: &str) {
        self.text.push('@');
        self.quote(tokens);
        self.text.push(';');
        self.needs.attribute(tokens);
    }

    /// A name: of a field, as encoded, or of a variant; what follows describes it.
    pub fn name(&mut self, name: &str) {
        self.quote(name);
        self.text.push(':');
        self.needs.named(name);
    }

    /// A field of type `T`.
    pub fn field<T: Fingerprint + ?Sized>(&mut self, name: &str) {
        self.name(name);
        self.visit::<T>();
        self.text.push(',');
        self.needs.field_ended();
    }

    /// A map from `K` to `V`, of that kind: `map`.
    pub(crate) fn map<K: Fingerprint, V: Fingerprint>(&mut self, kind: &str) {
        self.open(kind);
        self.visit::<K>();
        self.needs.was_key();
        self.leaf(",");
        self.visit::<V>();
        self.close();
    }

    /// Notes that what is described next reads itself from what the bytes say they are, which takes a codec that says so.
    #[cfg(feature = "rust_decimal")]
    pub(crate) fn needs_self_describing(&mut self, what: &'static str) {
        self.needs.self_describing(what);
    }

    /// A field whose type is described by hand.
    pub fn opaque(&mut self, name: &str, version: &str) {
        self.name(name);
        self.foreign(version);
        self.text.push(',');
        self.needs.field_ended();
    }

    /// A type whose shape is told by a text that somebody changes when the type changes, in the place of the type.
    pub fn foreign(&mut self, version: &str) {
        self.text.push_str("opaque ");
        self.quote(version);
        self.needs.foreign();
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_a_codec_cannot_keep_is_told_with_its_place() {
        struct Line;
        impl Fingerprint for Line {
            fn describe(shape: &mut Shape) {
                shape.open("struct");
                shape.field::<u32>("quantity");
                shape.attribute("flatten");
                shape.field::<BTreeMap<String, u32>>("more");
                shape.close();
            }
            fn compare(&self, _: &Self) -> Result<(), Difference> {
                Ok(())
            }
        }
        struct Order;
        impl Fingerprint for Order {
            fn describe(shape: &mut Shape) {
                shape.open("struct");
                shape.field::<u64>("id");
                shape.field::<BTreeMap<u64, Line>>("lines");
                shape.close();
            }
            fn compare(&self, _: &Self) -> Result<(), Difference> {
                Ok(())
            }
        }
        let told = |error: Option<Error>| error.map(|error| error.to_string());
        assert_eq!(
            told(Shape::unsupported_by::<Order>(&Codec::POSTCARD)).as_deref(),
            Some(
                "`lines.more`: `flatten` needs a codec that writes names, which postcard does not: `message_pack` or `json`"
            )
        );
        assert_eq!(told(Shape::unsupported_by::<Order>(&Codec::JSON)), None);
        type Keyed<K> = BTreeMap<K, u8>;
        assert!(Shape::unsupported_by::<Keyed<(u8, u8)>>(&Codec::JSON).is_some());
        assert!(Shape::unsupported_by::<Keyed<Option<Vec<u8>>>>(&Codec::JSON).is_some());
        assert!(Shape::unsupported_by::<Vec<Keyed<()>>>(&Codec::JSON).is_some());
        assert!(Shape::unsupported_by::<Keyed<String>>(&Codec::JSON).is_none());
        assert!(Shape::unsupported_by::<Keyed<char>>(&Codec::JSON).is_none());
        assert!(Shape::unsupported_by::<Keyed<(u8, u8)>>(&Codec::MESSAGE_PACK).is_none());
        assert!(Shape::unsupported_by::<Option<serde_json::Value>>(&Codec::POSTCARD).is_some());
    }

    struct Node;
    impl Fingerprint for Node {
        fn describe(shape: &mut Shape) {
            shape.open("struct");
            shape.field::<u32>("value");
            shape.field::<Vec<Node>>("children");
            shape.close();
        }

        fn compare(&self, _: &Self) -> Result<(), Difference> {
            Ok(())
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
