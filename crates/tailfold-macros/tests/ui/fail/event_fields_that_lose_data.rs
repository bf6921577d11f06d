#[derive(tailfold::Event)]
#[event(category = "account")]
enum AccountEvent {
    Opened {
        #[serde(skip)]
        owner: String,
        #[serde(default, skip_serializing)]
        address: String,
    },
    Moved(#[serde(skip_deserializing)] String),
    Renamed {
        #[serde(rename(serialize = "to", deserialize = "from"))]
        owner: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<String>,
    },
    #[serde(skip)]
    Skipped,
    #[serde(with = "module")]
    With(String),
}

#[derive(tailfold::Event)]
#[event(category = "account", codec = postcard)]
enum Positional {
    Opened {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
}

fn main() {}
