#[derive(tailfold::Event)]
#[event(category = "account")]
enum AccountEvent {
    Opened,
    #[event(name = "account.opened")]
    Reopened,
    HttpFailed,
    HTTPFailed,
}

fn main() {}
