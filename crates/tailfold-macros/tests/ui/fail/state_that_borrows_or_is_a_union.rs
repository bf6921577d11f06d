#[derive(tailfold::State)]
struct Borrowed<'a> {
    owner: &'a str,
}

#[derive(tailfold::State)]
union Union {
    a: u8,
    b: i8,
}

fn main() {}
