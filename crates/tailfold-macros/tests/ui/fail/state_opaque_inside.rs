use std::collections::BTreeMap;

mod money {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    pub struct Money;
}
use money::Money;

#[derive(tailfold::State)]
struct NotThere {
    #[state(opaque(Money = "v1"))]
    prices: BTreeMap<u8, money::Money>,
}

#[derive(tailfold::State)]
struct NothingNamed {
    #[state(opaque())]
    prices: Vec<Money>,
}

#[derive(tailfold::State)]
struct WithoutVersion {
    #[state(opaque(Money = ""))]
    prices: Vec<Money>,
}

#[derive(tailfold::State)]
struct OtherTypeLeft {
    #[state(opaque(Money = "v1"))]
    prices: BTreeMap<Money, Unknown>,
}

#[derive(PartialEq)]
struct Unknown;

#[derive(tailfold::State)]
#[state(bound = "T Clone")]
struct Bound<T>(T);

fn main() {}
