#[derive(tailfold::State)]
#[state(name = "bank.account")]
struct Name;

#[derive(tailfold::State)]
#[state(name = "account", serial = "v 3")]
struct Label;

#[derive(tailfold::State)]
#[state(name = "account", serial = -3)]
struct Number;

#[derive(tailfold::State)]
#[state(serial = 3)]
struct Nameless;

#[derive(tailfold::State)]
#[state(nmae = "account")]
struct Unknown;

#[derive(tailfold::State)]
struct Fields {
    #[state(opaque = "")]
    empty: u8,
    #[state(skip)]
    unknown: u8,
}

#[derive(tailfold::State)]
enum Variants {
    #[state(transient)]
    A,
}

fn main() {}
