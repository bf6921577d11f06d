//! Places an order, adds lines and pays it; see the README.

mod order;

use std::error::Error;

use chrono::{DateTime, NaiveDate};
use jiff::Timestamp;
use order::{Order, OrderEvent};
use rust_decimal::Decimal;
use tailfold::{MemoryStore, Policy, Repository};
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let orders = Repository::<Order>::builder(MemoryStore::new()).snapshots(Policy::every(2)).build()?;
    let id = Uuid::from_u128(1).to_string();
    for event in history()? {
        orders.execute(&id, |_: &Order| Ok::<_, Box<dyn Error>>(event.clone())).await??;
    }
    orders.flush().await;
    let loaded = orders.load(&id).await?;
    println!("due {}, loaded by {:?}", loaded.state().due(), loaded.report().source);
    orders.close().await?;
    Ok(())
}

/// Everything that happens to one order.
fn history() -> Result<Vec<OrderEvent>, Box<dyn Error>> {
    let line = |line, quantity, cents| -> Result<OrderEvent, Box<dyn Error>> {
        Ok(OrderEvent::LineAdded {
            line: Uuid::from_u128(line),
            product: format!("https://shop.example/products/{line}").parse()?,
            quantity,
            price: Decimal::new(cents, 2),
        })
    };
    Ok(vec![
        OrderEvent::Placed {
            customer: Uuid::from_u128(7),
            at: DateTime::from_timestamp(1_700_000_000, 123_456_789).ok_or("no such time")?,
            needed_by: NaiveDate::from_ymd_opt(2026, 12, 24),
        },
        line(1, 3, 19_90)?,
        line(2, 1, 5_00)?,
        line(3, 2, 0)?,
        OrderEvent::LineRemoved { line: Uuid::from_u128(2) },
        OrderEvent::Paid { amount: Decimal::new(5_000, 2), at: Timestamp::from_second(1_700_000_100)? },
    ])
}

#[cfg(test)]
mod tests {
    use tailfold::{Codec, EventMeta, Fold, Shape, Source, State};

    use super::*;

    #[test]
    fn its_shape_is_known_to_the_last_field() {
        assert_eq!(
            Shape::of::<Order>(),
            concat!(
                r#"struct{"customer":option{uuid},"placed_at":option{chrono-utc},"needed_by":option{chrono-date},"#,
                r#""lines":map{uuid,struct{"product":url,"quantity":u32,"price":decimal,}},"#,
                r#""payments":seq{tuple{jiff-timestamp,decimal,}},}"#
            )
        );
    }

    /// The order, kept in another codec.
    macro_rules! kept_in {
        ($state:ident, $codec:ident) => {{
            #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, State)]
            #[state(name = "order-kept", codec = $codec)]
            struct $state {
                order: Order,
            }

            impl Fold for $state {
                type Event = OrderEvent;

                fn apply(&mut self, event: OrderEvent, meta: &EventMeta<'_>) {
                    self.order.apply(event, meta);
                }
            }

            let store = MemoryStore::new();
            let orders =
                Repository::<$state>::builder(store.clone()).snapshots(Policy::every(1)).build().unwrap();
            for event in history().unwrap() {
                orders.execute("1", |_: &$state| Ok::<_, String>(event.clone())).await.unwrap().unwrap();
            }
            orders.flush().await;
            let loaded = orders.load("1").await.unwrap();
            assert!(matches!(loaded.report().source, Source::Snapshot(_)), "{:?}", loaded.report());
            let replayed = Repository::<$state>::builder(store).build().unwrap().load("1").await.unwrap();
            assert_eq!(loaded.state(), replayed.state());
            assert_eq!(loaded.state().order.due().to_string(), "9.70");
        }};
    }

    #[tokio::test]
    async fn its_snapshots_serve_in_every_codec_that_can_keep_it() {
        kept_in!(Packed, message_pack);
        kept_in!(Text, json);
    }

    #[test]
    fn a_codec_that_cannot_keep_it_is_refused() {
        #[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, State)]
        #[state(name = "order-kept", codec = postcard)]
        struct Positional {
            order: Order,
        }
        impl Fold for Positional {
            type Event = OrderEvent;
            fn apply(&mut self, event: OrderEvent, meta: &EventMeta<'_>) {
                self.order.apply(event, meta);
            }
        }
        assert_eq!(Positional::codec(), Some(Codec::POSTCARD));
        let refused =
            Repository::<Positional>::builder(MemoryStore::new()).snapshots(Policy::every(1)).build();
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("`order.lines.price`: `Decimal`"), "{told}");
    }
}
