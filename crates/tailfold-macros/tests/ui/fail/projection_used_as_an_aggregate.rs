use serde::{Deserialize, Serialize};
use tailfold::{EventMeta, Filter, Fold, MemoryStore, Projection, Repository};

#[derive(Serialize, Deserialize, tailfold::Event)]
#[event(category = "order")]
enum OrderEvent {
    Placed { quantity: u32 },
}

#[derive(Clone, Default, Serialize, Deserialize, tailfold::State)]
#[state(name = "sold", projection)]
struct Sold {
    quantity: u32,
}

impl Fold for Sold {
    type Event = OrderEvent;
    fn apply(&mut self, OrderEvent::Placed { quantity }: OrderEvent, _: &EventMeta<'_>) {
        self.quantity += quantity;
    }
}

impl Projection for Sold {
    type Key = ();
    fn query((): &()) -> tailfold::Result<Filter> {
        Ok(Filter::all())
    }
}

fn main() {
    let sold = Repository::<Sold>::builder(MemoryStore::new()).build().expect("build");
    let _ = sold.execute("1", |_| Ok::<_, String>(OrderEvent::Placed { quantity: 1 }));
    let _ = sold.load("1");
}
