//! Types that a macro of the user's writes, with attributes from its arguments.

macro_rules! facts {
    ($name:ident, $category:literal, $renamed:literal, $field:ident: $ty:ty, $upcast:path) => {
        #[derive(tailfold::Event)]
        #[event(category = $category)]
        pub enum $name {
            #[event(version = 2, upcast = $upcast)]
            Opened {
                #[serde(rename = $renamed)]
                $field: $ty,
            },
        }

        #[derive(Clone, Default, serde::Serialize, serde::Deserialize, tailfold::State)]
        #[state(name = $category)]
        pub struct Folded {
            #[serde(rename = $renamed)]
            $field: $ty,
        }
    };
}

facts!(Fact, "made", "z", number: Vec<u8>, old);

fn old(number: u8) -> Fact {
    Fact::Opened { number: vec![number] }
}

/// Every key that takes a value, each as the kinds of fragment that a macro can have for it.
macro_rules! every_key {
    (
        $category:literal, $name:expr, $version:literal, $old:literal, $oldest:expr, $upcast:path, $tag:expr, $way:ident,
        $codec:path, $state:expr, $label:literal, $opaque:literal, $option:ty, $text:expr, $number:expr
    ) => {
        #[derive(tailfold::Event)]
        #[event(category = $category, codec = $codec)]
        #[serde(rename_all_fields = $text)]
        pub enum EveryFact {
            #[event(name = $name, version = $version, upcast($old = $upcast), oldest = $oldest)]
            #[event(tag = $tag, long = $way)]
            #[serde(rename_all = $text)]
            Opened {
                #[serde(skip_serializing_if = "Option::is_none")]
                the_number: $option,
            },
        }

        #[derive(Clone, Default, serde::Serialize, serde::Deserialize, tailfold::State)]
        #[state(name = $state, serial = $label, codec = $codec)]
        #[serde(rename_all = $text)]
        pub struct EveryState {
            #[state(opaque = $opaque)]
            #[serde(skip_serializing_if = "Option::is_none")]
            the_number: $option,
        }

        #[derive(Clone, Default, serde::Serialize, serde::Deserialize, tailfold::State)]
        #[state(name = $state, serial = $number)]
        pub struct Numbered {
            #[serde(rename = $text)]
            number: u8,
        }
    };
}

every_key!(
    "every",
    "every.opened",
    2,
    1,
    1,
    every_old,
    "number:{the_number:?}",
    hash,
    json,
    "every",
    "v2",
    "v1",
    Option<u8>,
    "camelCase",
    7
);

fn every_old(number: u8) -> EveryFact {
    EveryFact::Opened { the_number: Some(number) }
}

/// A label that comes through two macros.
macro_rules! outer {
    ($label:expr) => {
        inner!($label);
    };
}
macro_rules! inner {
    ($label:expr) => {
        #[derive(Clone, Default, serde::Serialize, serde::Deserialize, tailfold::State)]
        #[state(name = "nested", serial = $label)]
        pub struct Nested {}
    };
}
outer!("v9");

#[test]
fn types_of_a_macro_are_what_its_arguments_say() {
    use tailfold::State as _;
    assert_eq!((EveryState::LABEL, Numbered::LABEL, Nested::LABEL), (Some("v2"), Some("7"), Some("v9")));
    let opened = EveryFact::Opened { the_number: None };
    assert_eq!(
        (opened.schema().version, opened.schema().oldest, opened.tags()),
        (2, 1, vec!["number:None".to_owned()])
    );
    assert_eq!(
        tailfold::Shape::of::<EveryState>(),
        concat!(
            r#"struct{@"rename_all=\"camelCase\"";@"skip_serializing_if=\"Option::is_none\"";"#,
            r#""the_number":opaque "v1",}"#
        )
    );
    use tailfold::Event as _;
    let payload = Fact::Opened { number: vec![1] }.encode().unwrap();
    assert_eq!(payload, br#"{"z":[1]}"#);
    assert_eq!(tailfold::Shape::of::<Folded>(), r#"struct{"z":seq{u8},}"#);
}
