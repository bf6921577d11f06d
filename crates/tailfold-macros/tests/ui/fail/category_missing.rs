#[derive(tailfold::Event)]
enum AccountEvent {
    Opened,
}

fn main() {}
