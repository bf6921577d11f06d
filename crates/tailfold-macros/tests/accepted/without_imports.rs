//! The derives need no import, no prelude and no serde of the user's own, and work inside functions.
#![no_implicit_prelude]

#[test]
fn derives_need_nothing_in_scope() {
    #[derive(::tailfold::Event)]
    #[event(category = "bare")]
    enum Bare {
        #[event(tag = "number:{number}")]
        Opened {
            number: u8,
        },
        Closed,
    }

    #[derive(::tailfold::State)]
    struct Part {
        number: u8,
    }

    let _ = (Bare::Opened { number: 1 }, Bare::Closed, Part { number: 2 }.number);
}
