//! What users implement: a state and the pure function that folds events into it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Codec;
use crate::event::EventMeta;
use crate::fingerprint::Fingerprint;
use crate::schema::{Event, Events};
use crate::scope::{OneStream, Scope};

/// A state that can be kept in snapshots: named, encodable, of known shape. Derived with `#[derive(State)]` and
/// `#[state(name = "..")]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a state",
    label = "needs `#[derive(tailfold::State)]` with `#[state(name = \"..\")]`",
    note = "the name says where its snapshots are kept; without it the derive describes a part of a state only"
)]
pub trait State: Fingerprint + Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Stable name, unique among the folds of a store: 1..=64 ASCII letters, digits, `_` and `-`. Never the Rust type's.
    const NAME: &'static str;

    /// Label set by hand when the *logic* of the fold changes: 1..=32 ASCII letters, digits, `_` and `-`.
    const LABEL: Option<&'static str>;

    /// Whether it is folded from one stream, or, with `#[state(projection)]`, from many.
    type Scope: Scope;

    /// How snapshots of this state are encoded; `None`: as the process's default says ([`Codec::process_default`]).
    fn codec() -> Option<Codec>;
}

/// The pure function from state and event to state.
///
/// It must not look at clocks, random numbers or anything but its arguments: a snapshot stands for its result.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tailfold::{Event, EventMeta, Fold, State};
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "counter")]
/// enum CounterEvent {
///     Added { amount: u64 },
/// }
///
/// #[derive(Clone, Default, Serialize, Deserialize, State)]
/// #[state(name = "counter")]
/// struct Counter {
///     total: u64,
/// }
///
/// impl Fold for Counter {
///     type Event = CounterEvent;
///
///     fn apply(&mut self, event: CounterEvent, _meta: &EventMeta<'_>) {
///         match event {
///             CounterEvent::Added { amount } => self.total += amount,
///         }
///     }
/// }
/// ```
pub trait Fold: State + Default {
    /// The facts it folds: an [`Event`]; of a projection also a union of several, derived with [`Events`](derive@crate::Events).
    type Event: Events;

    /// Takes one event in. By value, so that a replay moves and never clones.
    fn apply(&mut self, event: Self::Event, meta: &EventMeta<'_>);
}

/// A fold over the events of one stream. Nothing to implement: every [`Fold`] over an [`Event`] is one, unless its state says
/// `#[state(projection)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    note = "an aggregate folds one stream: its `Fold::Event` derives `Event`, and its state does not say `projection`"
)]
pub trait Aggregate: Fold<Event: Event> + State<Scope = OneStream> {}

impl<F> Aggregate for F where F: Fold<Event: Event> + State<Scope = OneStream> {}
