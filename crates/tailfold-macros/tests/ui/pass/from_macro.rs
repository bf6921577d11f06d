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

fn main() {
    use tailfold::Event as _;
    let payload = Fact::Opened { number: vec![1] }.encode().unwrap();
    assert_eq!(payload, br#"{"z":[1]}"#);
    assert_eq!(tailfold::Shape::of::<Folded>(), r#"struct{"z":seq{u8},}"#);
}
