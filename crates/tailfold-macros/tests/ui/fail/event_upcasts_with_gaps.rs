#[derive(tailfold::Event)]
#[event(category = "account")]
enum AccountEvent {
    #[event(version = 3, upcast = f)]
    Single(u8),
    #[event(version = 4, upcast(1 = f, 3 = f))]
    Gap(u8),
    #[event(version = 4, upcast(1 = f, 2 = f))]
    EndsEarly(u8),
    #[event(version = 2, upcast(1 = f, 2 = f))]
    EndsLate(u8),
    #[event(version = 3, upcast(1 = f, 1 = f, 2 = f))]
    Twice(u8),
    #[event(version = 3, oldest = 1, upcast(2 = f))]
    OtherOldest(u8),
    #[event(upcast(1 = f))]
    NoVersion(u8),
}

fn f(payload: u8) -> u8 {
    payload
}

fn main() {}
