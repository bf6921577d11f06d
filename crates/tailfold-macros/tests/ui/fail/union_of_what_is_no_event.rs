use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, tailfold::Event)]
#[event(category = "order")]
enum OrderEvent {
    Placed { quantity: u32 },
}

enum NoEvent {}

#[derive(tailfold::Events)]
enum OfNoEvent {
    Order(OrderEvent),
    Other(NoEvent),
}

#[derive(tailfold::Events)]
enum OfFields {
    Order { event: OrderEvent },
    Both(OrderEvent, OrderEvent),
    Nothing,
}

#[derive(tailfold::Events)]
enum Empty {}

#[derive(tailfold::Events)]
struct OfStruct(OrderEvent);

fn main() {}
