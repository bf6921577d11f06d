#[derive(tailfold::Event)]
#[event(category = "account", prefix = "a")]
enum UnknownOnType {
    Opened,
}

#[derive(tailfold::Event)]
#[event(category = "account")]
enum UnknownOnVariant {
    #[event(category = "x")]
    Opened,
    #[event(version = 1, version = 1)]
    Closed,
    Moved {
        #[event(tag = "x")]
        to: String,
    },
}

fn main() {}
