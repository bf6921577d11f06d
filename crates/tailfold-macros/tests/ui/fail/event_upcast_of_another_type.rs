#[derive(tailfold::Event)]
#[event(category = "account")]
enum AccountEvent {
    #[event(version = 2, upcast = opened_v1)]
    Opened { owner: String },
    #[event(version = 3, upcast(1 = renamed_v1, 2 = renamed_v2))]
    Renamed { owner: String },
}

fn opened_v1(owner: String) -> String {
    owner
}

fn renamed_v1(owner: String) -> String {
    owner
}

fn renamed_v2(owner: u8) -> AccountEvent {
    AccountEvent::Renamed { owner: owner.to_string() }
}

fn main() {}
