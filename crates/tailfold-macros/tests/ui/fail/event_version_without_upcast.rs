#[derive(tailfold::Event)]
#[event(category = "account")]
enum AccountEvent {
    #[event(version = 3)]
    Opened { owner: String },
    #[event(version = 3, oldest = 2)]
    Renamed { owner: String },
    #[event(version = 0)]
    Closed,
}

fn main() {}
