#[derive(tailfold::Event)]
#[event(category = "account")]
enum Generic<T> {
    Opened(T),
}

#[derive(tailfold::Event)]
#[event(category = "account")]
enum Empty {}

fn main() {}
