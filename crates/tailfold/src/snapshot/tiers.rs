//! A chain of snapshot stores, nearest first.

mod breaker;
mod guarded;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::breaker::Breaker;
pub use self::guarded::TierStats;
pub(crate) use self::guarded::{Failure, GuardedTier, TierOutcome};
use super::config::SnapshotConfig;
use super::store::SnapshotStore;
use crate::error::{Error, Result};

/// Default of how long a load waits for a tier that has another one behind it.
const NEARER_TIMEOUT: Duration = Duration::from_millis(100);
/// Name of the tier that a single store becomes.
const ONLY: &str = "snapshots";
/// Name of the tier that [`Tier::own`] is.
const OWN: &str = "own";

/// One snapshot store in a chain of them; see [`RepositoryBuilder::snapshots_in`].
///
/// A load asks the tiers one after the other, nearest first, until a snapshot passes every check. A tier that fails, does
/// not answer in time, or has failed so often that its [`Breaker`] is open, costs at most its timeout and is a miss that is
/// counted under its name. Snapshots are written to all tiers in the background, their use is noted in all of them, and what
/// a farther tier had to serve is copied to the nearer ones.
///
/// ```
/// use std::time::Duration;
/// # use serde::{Deserialize, Serialize};
/// # use tailfold::{Event, EventMeta, Fold, MemoryStore, Policy, Repository, State, Tier};
/// # #[derive(Clone, Serialize, Deserialize, Event)]
/// # #[event(category = "counter")]
/// # enum Counted { Up { by: u64 } }
/// # #[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
/// # #[state(name = "counter")]
/// # struct Counter { total: u64 }
/// # impl Fold for Counter {
/// #     type Event = Counted;
/// #     fn apply(&mut self, Counted::Up { by }: Counted, _: &EventMeta<'_>) { self.total += by; }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (store, cache) = (MemoryStore::new(), MemoryStore::new());
/// let counters = Repository::<Counter>::builder(store)
///     .snapshots(Policy::every(10))
///     .snapshots_in([Tier::new("cache", cache).timeout(Duration::from_millis(20)), Tier::own()])
///     .build()?;
/// counters.execute("1", |_| Ok::<_, String>(vec![Counted::Up { by: 1 }; 10])).await??;
/// counters.flush().await;
/// let loaded = counters.load("1").await?;
/// assert_eq!(loaded.report().tier.as_deref(), Some("cache"));
/// # Ok(())
/// # }
/// ```
///
/// [`RepositoryBuilder::snapshots_in`]: crate::RepositoryBuilder::snapshots_in
#[derive(Clone, Debug)]
pub struct Tier {
    name: Arc<str>,
    /// `None`: the store of events.
    store: Option<Arc<dyn SnapshotStore>>,
    timeout: Option<Duration>,
    breaker: Breaker,
}

impl Tier {
    /// A store under a name of 1..=64 ASCII letters, digits, `_`, `-` or `.`, by which reports, stats and metrics tell it
    /// from the others.
    pub fn new(name: impl Into<Arc<str>>, store: impl SnapshotStore + 'static) -> Self {
        Self { name: name.into(), store: Some(Arc::new(store)), timeout: None, breaker: Breaker::default() }
    }

    /// The store of events, which keeps snapshots too; its name is `own`. Where it can, it gives a snapshot with its tail in
    /// one round trip.
    ///
    /// It has no breaker unless one is set: where this store fails, the events fail as well, and a pause would only make
    /// loads replay that need not.
    pub fn own() -> Self {
        Self { name: OWN.into(), store: None, timeout: None, breaker: Breaker::NEVER }
    }

    /// How long a load waits for this tier, all its candidates together; at least 1 ms. What it has not answered by then
    /// counts as timed out, and the next tier is asked.
    ///
    /// Default: for the farthest tier [`SnapshotConfig::read_timeout_ms`], for nearer ones 100 ms or that, whichever is
    /// less. A load waits no longer for snapshots than all tiers' timeouts together; where it takes away what was erased or
    /// forgotten since, once more for the slowest of them.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// When this tier is left out, and for how long. Default: [`Breaker::default`].
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = breaker;
        self
    }
}

/// What [`RepositoryBuilder::snapshots_in`](crate::RepositoryBuilder::snapshots_in) takes: one snapshot store, or tiers,
/// nearest first.
#[derive(Clone, Debug)]
pub struct Tiers(Vec<Tier>);

impl Tiers {
    /// The store of events alone.
    pub(crate) fn own() -> Self {
        Self(vec![Tier::own()])
    }

    /// Makes ready to serve what passes the checks.
    pub(crate) fn guard(
        self,
        fold: &'static str,
        config: &SnapshotConfig,
        own: Option<&Arc<dyn SnapshotStore>>,
    ) -> Result<Arc<[GuardedTier]>> {
        let Self(tiers) = self;
        let farthest = tiers.len().checked_sub(1).ok_or_else(|| {
            Error::invalid("`snapshots_in` without a tier: name at least one, or leave the call out")
        })?;
        let mut guarded: Vec<GuardedTier> = Vec::with_capacity(tiers.len());
        for (place, tier) in tiers.into_iter().enumerate() {
            let Tier { name, store, timeout, breaker } = tier;
            check_name(&name)?;
            if guarded.iter().any(|other| *other.name() == name) {
                return Err(Error::invalid(format!("two tiers are named `{name}`")));
            }
            let timeout = timeout.unwrap_or_else(|| match place == farthest {
                true => config.read_timeout(),
                false => config.read_timeout().min(NEARER_TIMEOUT),
            });
            if timeout < Duration::from_millis(1) {
                return Err(Error::invalid(format!("tier `{name}`: the timeout must be at least 1 ms")));
            }
            breaker.check().map_err(|error| error.during(format!("tier `{name}`")))?;
            let is_own = store.is_none();
            let store = store.or_else(|| own.cloned()).ok_or_else(|| {
                Error::invalid(format!("tier `{name}`: the store of events keeps no snapshots"))
            })?;
            guarded.push(GuardedTier::new(fold, name, store, is_own, timeout, breaker));
        }
        Ok(guarded.into())
    }
}

fn check_name(name: &str) -> Result<()> {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        return Err(Error::invalid_text(
            "tier name",
            name,
            "must be 1..=64 ASCII letters, digits, `_`, `-` or `.`",
        ));
    }
    Ok(())
}

/// One store as the only tier, named `snapshots`.
impl<S: SnapshotStore + 'static> From<S> for Tiers {
    fn from(store: S) -> Self {
        Tier::new(ONLY, store).into()
    }
}

impl From<Tier> for Tiers {
    fn from(tier: Tier) -> Self {
        Self(vec![tier])
    }
}

impl<const N: usize> From<[Tier; N]> for Tiers {
    fn from(tiers: [Tier; N]) -> Self {
        Self(tiers.into())
    }
}

impl From<Vec<Tier>> for Tiers {
    fn from(tiers: Vec<Tier>) -> Self {
        Self(tiers)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    fn guard(tiers: impl Into<Tiers>, own: bool) -> Result<Arc<[GuardedTier]>> {
        let store: Arc<dyn SnapshotStore> = Arc::new(MemoryStore::new());
        tiers.into().guard("fold", &SnapshotConfig::default(), own.then_some(&store))
    }

    fn tier(name: &str) -> Tier {
        Tier::new(name, MemoryStore::new())
    }

    #[test]
    fn a_chain_that_cannot_work_is_refused() {
        for (tiers, own, what) in [
            (vec![], true, "without a tier"),
            (vec![tier("a"), tier("b"), tier("a")], true, "two tiers are named `a`"),
            (vec![tier("own"), Tier::own()], true, "two tiers are named `own`"),
            (vec![tier("a"), Tier::own()], false, "keeps no snapshots"),
            (vec![tier("a b")], true, "must be 1..=64"),
            (vec![tier("a").timeout(Duration::ZERO)], true, "at least 1 ms"),
            (
                vec![tier("a").breaker(Breaker { longest_pause: Duration::ZERO, ..Breaker::default() })],
                true,
                "`longest_pause`",
            ),
        ] {
            let error = guard(tiers, own).unwrap_err();
            assert_eq!(*error.kind(), crate::ErrorKind::Invalid);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn nearer_tiers_wait_less_unless_told_otherwise() {
        let timeouts = |tiers: Vec<Tier>| -> Vec<_> {
            guard(tiers, true).unwrap().iter().map(|tier| tier.timeout().as_millis()).collect()
        };
        assert_eq!(timeouts(vec![tier("a"), tier("b"), Tier::own()]), [100, 100, 1000]);
        assert_eq!(timeouts(vec![tier("a").timeout(Duration::from_millis(7)), tier("b")]), [7, 1000]);
        assert_eq!(guard(MemoryStore::new(), false).unwrap()[0].timeout().as_millis(), 1000);
    }
}
