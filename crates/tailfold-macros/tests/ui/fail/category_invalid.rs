#[derive(tailfold::Event)]
#[event(category = "bank/account")]
enum AccountEvent {
    Opened,
}

#[derive(tailfold::Event)]
#[event(category = "tailfold")]
enum Reserved {
    Opened,
    #[event(name = "tailfold.erased")]
    Erased,
    #[event(name = "with space")]
    Spaced,
}

fn main() {}
