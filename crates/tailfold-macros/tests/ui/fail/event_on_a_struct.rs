#[derive(tailfold::Event)]
#[event(category = "account")]
struct Opened {
    owner: String,
}

fn main() {}
