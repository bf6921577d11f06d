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
    #[event(long = hash)]
    LongWithoutTag,
    #[event(tag = "x", long = cut)]
    LongOtherwise,
    #[event(tag = "x", long = hash, long = hash)]
    LongTwice,
    Moved {
        #[event(tag = "x")]
        to: String,
    },
}

fn main() {}
