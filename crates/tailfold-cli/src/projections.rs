//! The projections that a command line knows by name: the demo's, and those of whoever embeds it.

mod key;
mod known;

pub use self::key::KeyFromText;
pub(crate) use self::known::Known;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tailfold::{Projection, RepositoryBuilder};

use self::known::Registered;
use crate::demo::delays::DelaysByCarrier;

/// Projections by name, for `tailfold projections` and `tailfold project`. It knows the demo's `delays-by-carrier` from the start;
/// a program of your own adds yours and is otherwise the command `tailfold`:
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use tailfold::{Event, EventMeta, Filter, Fold, Policy, Projection, State, Tag};
/// use tailfold_cli::Projections;
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
/// fn main() -> std::process::ExitCode {
///     // my-tailfold --store orders.db project rebuild sold --key tea
///     tailfold_cli::manage(Projections::new().with::<Sold>(|sold| sold.snapshots(Policy::every(1_000))))
/// }
/// ```
#[derive(Clone)]
pub struct Projections {
    known: BTreeMap<&'static str, Arc<dyn Known>>,
}

impl Projections {
    /// The demo's dashboard.
    pub fn new() -> Self {
        Self { known: BTreeMap::new() }.with::<DelaysByCarrier>(|dashboard| dashboard)
    }

    /// Adds a projection under its name, in the place of one of the same name. `configure` sets up its repository as your service
    /// does: codec, limits and encryption decide whether the service can use what is built here. Snapshots are on, and are kept
    /// where `--snapshots` and `--store` say.
    #[must_use]
    pub fn with<P>(
        mut self,
        configure: impl Fn(RepositoryBuilder<P>) -> RepositoryBuilder<P> + Send + Sync + 'static,
    ) -> Self
    where
        P: Projection<Key: KeyFromText>,
    {
        self.known.insert(P::NAME, Arc::new(Registered::new(configure)));
        self
    }

    pub(crate) fn named(&self, name: &str) -> Option<&dyn Known> {
        self.known.get(name).map(|known| &**known)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.known.keys().copied()
    }
}

impl Default for Projections {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Projections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Projections").field(&self.known.keys()).finish()
    }
}
