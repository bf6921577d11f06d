//! Projections: a fold over what a query selects from many streams, with the same snapshots as an aggregate.

mod anchor;
mod baseline;
mod cursor;
mod decide;
mod facts;
mod key;
mod load;
mod projected;
mod replay;
mod tail;

pub(crate) use self::decide::Turns;
pub use self::decide::{Decide, Decided};
pub use self::facts::Facts;
pub use self::key::ProjectionKey;
pub use self::load::{LoadProjection, Progress};
pub use self::projected::Projected;
use crate::error::Result;
use crate::filter::Filter;
use crate::fold::{Fold, State};
use crate::scope::ManyStreams;
use crate::stream::{StreamId, Version};

/// A fold over many streams: a dashboard of all accounts, the stock of one product over all orders, who has which username.
///
/// The events come from [`Fold::Event`], a type that derives `Event` or a union that derives `Events`; [`Projection::query`]
/// says which of them belong to the instance of a key. A [`Repository`](crate::Repository) loads it with the snapshots, tiers and
/// policies of an aggregate: the newest snapshot that can be trusted, and the matching events after it. Events that do not
/// match cost nothing where the store finds the others by index, and never cause a snapshot.
///
/// A snapshot is trusted if the store's id and the query are those it was taken with and its last event
/// stands there with its chain, which covers the history of that event's stream. It says nothing about the
/// other streams: whoever alters events below without giving the store a new id (by copying files back
/// instead of restoring them) has to remove the projections' snapshots, or renew the id.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tailfold::{Event, EventMeta, Filter, Fold, MemoryStore, Policy, Projection, Repository, State, Tag};
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "order")]
/// enum OrderEvent {
///     #[event(tag = "sku:{sku}")]
///     Placed { sku: String, quantity: u32 },
/// }
///
/// #[derive(Clone, Default, Serialize, Deserialize, State)]
/// #[state(name = "sold", projection)]
/// struct Sold {
///     quantity: u32,
/// }
///
/// impl Fold for Sold {
///     type Event = OrderEvent;
///
///     fn apply(&mut self, OrderEvent::Placed { quantity, .. }: OrderEvent, _meta: &EventMeta<'_>) {
///         self.quantity += quantity;
///     }
/// }
///
/// impl Projection for Sold {
///     type Key = String;
///
///     fn query(sku: &String) -> tailfold::Result<Filter> {
///         Ok(Filter::tag(Tag::new(&format!("sku:{sku}"))?))
///     }
/// }
///
/// # #[derive(Clone, Default, Serialize, Deserialize, State)]
/// # #[state(name = "order")]
/// # struct Order {}
/// # impl Fold for Order {
/// #     type Event = OrderEvent;
/// #     fn apply(&mut self, _: OrderEvent, _: &EventMeta<'_>) {}
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let orders = Repository::<Order>::builder(store.clone()).build()?;
/// for (order, sku) in [("1", "tea"), ("2", "cup"), ("3", "tea")] {
///     let placed = OrderEvent::Placed { sku: sku.to_owned(), quantity: 2 };
///     orders.execute(order, move |_| Ok::<_, String>(placed.clone())).await??;
/// }
/// let sold = Repository::<Sold>::builder(store).snapshots(Policy::every(100)).build()?;
/// assert_eq!(sold.load("tea").await?.state().quantity, 4);
/// # Ok(())
/// # }
/// ```
pub trait Projection: Fold + State<Scope = ManyStreams> {
    /// What tells one instance from another: a tenant, a product; `()` where there is one.
    type Key: ProjectionKey;

    /// Which of the events that the fold handles belong to an instance: by streams, tags, types and categories. All of them:
    /// [`Filter::all`]. It must not change while the fold's label stays: another query finds no snapshot of this one.
    ///
    /// # Errors
    /// Its own: for a key that names nothing.
    fn query(key: &Self::Key) -> Result<Filter>;

    /// A stream was erased whose events may have been folded. Either takes out what came from it, so that the state is as if
    /// they had never been folded, or asks for a rebuild from what is left.
    ///
    /// It is called by the next load. Until then a snapshot holds what was folded: an erase does not know which projections that
    /// concerns. Where it has to go at once, load them, or keep no snapshots of instances that are about one person.
    fn erased(&mut self, stream: &StreamId) -> Erased {
        let _ = stream;
        Erased::Rebuild
    }

    /// The events of a stream before a version were cut off, some of which may have been folded. Either makes the state what a
    /// fold of what is left gives, or asks for a rebuild. To keep a state as it is, is right where the event at `origin` sets all
    /// that the earlier events of the stream have added; otherwise a snapshot would answer one thing and a replay another.
    ///
    /// It is called by the next load, like [`Projection::erased`]; it may be called again for the same truncation, and of a state
    /// that has folded none of these events. A snapshot whose own last event was cut off is rejected without asking.
    fn truncated(&mut self, stream: &StreamId, origin: Version) -> Truncated {
        let _ = (stream, origin);
        Truncated::Rebuild
    }
}

/// What a projection does when a stream was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// What came from the stream has been taken out of the state.
    Forgotten,
    /// The state must be folded anew from what is left.
    Rebuild,
}

/// What a projection does when the beginning of a stream was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncated {
    /// The state is what a fold of what is left gives.
    Keep,
    /// The state must be folded anew from what is left.
    Rebuild,
}
