//! Which changes of a state's type make another fingerprint, and which do not.

#![allow(dead_code, reason = "only the shapes of these types matter")]

use tailfold::Shape;

/// The shape of a type that is declared on the spot, with what it needs.
macro_rules! shape {
    ($($items:item)*) => {{
        use tailfold::State;
        $($items)*
        Shape::of::<S>()
    }};
}

fn base() -> String {
    shape! {
        #[derive(State)]
        struct S { a: u8, b: u8, nested: Nested, choice: Choice }
        #[derive(State)]
        struct Nested { x: u16 }
        #[derive(State)]
        enum Choice { One, Two(u8), Three { y: u8 } }
    }
}

/// `base` with its struct, its nested struct or its enum replaced.
macro_rules! changed {
    (struct $fields:tt) => { changed!(#[derive(State)] struct S $fields) };
    (nested $fields:tt) => { shape! {
        #[derive(State)]
        struct S { a: u8, b: u8, nested: Nested, choice: Choice }
        #[derive(State)]
        struct Nested $fields
        #[derive(State)]
        enum Choice { One, Two(u8), Three { y: u8 } }
    } };
    (enum $variants:tt) => { changed!(choice #[derive(State)] enum Choice $variants) };
    (choice $choice:item) => { shape! {
        #[derive(State)]
        struct S { a: u8, b: u8, nested: Nested, choice: Choice }
        #[derive(State)]
        struct Nested { x: u16 }
        $choice
    } };
    ($state:item) => { shape! {
        $state
        #[derive(State)]
        struct Nested { x: u16 }
        #[derive(State)]
        enum Choice { One, Two(u8), Three { y: u8 } }
    } };
}

#[test]
fn changes_that_must_change_the_fingerprint() {
    let changes = [
        ("field renamed", changed!(struct { renamed: u8, b: u8, nested: Nested, choice: Choice })),
        ("field retyped", changed!(struct { a: i8, b: u8, nested: Nested, choice: Choice })),
        ("field made optional", changed!(struct { a: Option<u8>, b: u8, nested: Nested, choice: Choice })),
        ("field added", changed!(struct { a: u8, b: u8, c: u8, nested: Nested, choice: Choice })),
        ("field removed", changed!(struct { a: u8, nested: Nested, choice: Choice })),
        ("two fields of one type swapped", changed!(struct { b: u8, a: u8, nested: Nested, choice: Choice })),
        (
            "serde default added",
            changed!(struct { #[serde(default)] a: u8, b: u8, nested: Nested, choice: Choice }),
        ),
        (
            "field renamed with a default",
            changed!(struct { #[serde(default)] renamed: u8, b: u8, nested: Nested, choice: Choice }),
        ),
        (
            "another name on the wire",
            changed!(struct { #[serde(rename = "z")] a: u8, b: u8, nested: Nested, choice: Choice }),
        ),
        (
            "type described by hand",
            changed!(struct { #[state(opaque = "v1")] a: u8, b: u8, nested: Nested, choice: Choice }),
        ),
        (
            "hand-made description changed",
            changed!(struct { #[state(opaque = "v2")] a: u8, b: u8, nested: Nested, choice: Choice }),
        ),
        (
            "type attribute added",
            changed!(
                #[derive(State)]
                #[serde(deny_unknown_fields)]
                struct S {
                    a: u8,
                    b: u8,
                    nested: Nested,
                    choice: Choice,
                }
            ),
        ),
        (
            "unknown serde attribute added",
            changed!(
                #[derive(State)]
                #[serde(from_the_future)]
                struct S {
                    a: u8,
                    b: u8,
                    nested: Nested,
                    choice: Choice,
                }
            ),
        ),
        (
            "struct made a tuple",
            changed!(
                #[derive(State)]
                struct S(u8, u8, Nested, Choice);
            ),
        ),
        ("nested field renamed", changed!(nested { z: u16 })),
        ("nested field retyped", changed!(nested { x: u32 })),
        ("nested field added", changed!(nested { x: u16, z: () })),
        ("unit variant added", changed!(enum { One, Two(u8), Three { y: u8 }, Four })),
        ("variant removed", changed!(enum { Two(u8), Three { y: u8 } })),
        ("variants reordered", changed!(enum { Two(u8), One, Three { y: u8 } })),
        ("variant renamed", changed!(enum { Eins, Two(u8), Three { y: u8 } })),
        ("variant's kind changed", changed!(enum { One, Two { y: u8 }, Three { y: u8 } })),
        ("variant's field retyped", changed!(enum { One, Two(u16), Three { y: u8 } })),
        ("variant's field renamed", changed!(enum { One, Two(u8), Three { z: u8 } })),
        ("variant's attribute added", changed!(enum { #[serde(alias = "x")] One, Two(u8), Three { y: u8 } })),
        (
            "enum tagged",
            changed!(choice #[derive(State)] #[serde(tag = "t")] enum Choice { One, Two(u8), Three { y: u8 } }),
        ),
        ("number of a variant set", {
            changed!(choice
                #[derive(State)]
                #[repr(u8)]
                enum Choice { One = 1, Two(u8), Three { y: u8 } }
            )
        }),
    ];
    let mut all = vec![("no change", base())];
    for (change, shape) in changes {
        for (other, taken) in &all {
            assert_ne!(*taken, shape, "`{change}` looks like `{other}`");
        }
        all.push((change, shape));
    }
}

#[test]
fn changes_that_must_not_change_the_fingerprint() {
    let renamed_types = shape! {
        #[derive(State)]
        struct S { a: u8, b: u8, nested: Other, choice: Selection }
        #[derive(State)]
        struct Other { x: u16 }
        #[derive(State)]
        enum Selection { One, Two(u8), Three { y: u8 } }
    };
    let documented = shape! {
        use serde::{Deserialize, Serialize};
        /// Documented.
        #[derive(Clone, Debug, State)]
        #[must_use]
        #[state(name = "named", serial = 9, codec = json)]
        #[derive(Default, Serialize, Deserialize)]
        pub(crate) struct S {
            /// Documented too.
            pub(crate) a: u8,
            #[doc(hidden)]
            pub(crate) b: u8,
            nested: Nested,
            choice: Choice,
        }
        #[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
        struct Nested { x: u16 }
        #[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
        enum Choice {
            /// Documented as well.
            #[default]
            One,
            Two(u8),
            Three { y: u8 },
        }
    };
    for (change, shape) in [
        ("types renamed", renamed_types),
        ("docs, derives, visibility, name, label and codec", documented),
        (
            "field renamed, its name on the wire kept",
            changed!(struct { #[serde(rename = "a")] renamed: u8, b: u8, nested: Nested, choice: Choice }),
        ),
        (
            "variant renamed, its name on the wire kept",
            changed!(enum { #[serde(rename = "One")] Eins, Two(u8), Three { y: u8 } }),
        ),
        (
            "field boxed",
            changed!(struct { a: Box<u8>, b: u8, nested: std::sync::Arc<Nested>, choice: Choice }),
        ),
        (
            "type written by its path",
            changed!(struct { a: ::std::primitive::u8, b: u8, nested: Nested, choice: Choice }),
        ),
    ] {
        assert_eq!(shape, base(), "{change}");
    }
}

#[test]
fn order_and_spacing_of_serde_attributes_do_not_change_the_fingerprint() {
    let one = shape! {
        #[derive(State)]
        struct S { #[serde(default, alias = "x", bound(serialize = "u8: Copy"))] a: u8 }
    };
    let other = shape! {
        #[derive(State)]
        struct S { #[serde( bound( serialize="u8: Copy" ), alias="x" )] #[serde(default,)] a: u8 }
    };
    assert_eq!(one, other);
}
