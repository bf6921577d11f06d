//! A projection whose type is forgotten: what commands do with any of them.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryStreamExt as _};
use tailfold::{
    EventStore as _, Events as _, Follow, Policy, Position, Projection, Report, Repository,
    RepositoryBuilder, Serial, Store, Tier,
};

use super::KeyFromText;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The policy where nobody configured another; without any there would be no checkpoints.
const EVERY: u64 = 1_000;

pub(crate) trait Known: Send + Sync {
    /// Under which the snapshots of the fold, as it is in this program, are kept.
    fn serial(&self, store: Arc<dyn Store>) -> Result<Serial>;

    /// Whether a text, or none, is the key of an instance; if not, why.
    fn check_key(&self, key: Option<&str>) -> Result<(), String>;

    /// Events after a position that an instance would fold.
    fn count_after(
        &self,
        store: Arc<dyn Store>,
        key: Option<String>,
        after: Position,
    ) -> BoxFuture<'_, Result<u64>>;

    /// Brings the snapshot of the current serial up to date, from its last one or from the start.
    fn rebuild(
        &self,
        store: Arc<dyn Store>,
        tiers: Vec<Tier>,
        key: Option<String>,
        progress: Progress,
    ) -> BoxFuture<'_, Result<Rebuilt>>;
}

/// What a rebuild did.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    /// Everything up to there was looked at.
    pub(crate) position: Position,
    /// Where the snapshot stands; `None`: nothing matches, and there is none.
    pub(crate) last_event: Option<Position>,
    pub(crate) report: Report,
}

/// Sets up the repository of a projection as its service does.
type Configure<P> = dyn Fn(RepositoryBuilder<P>) -> RepositoryBuilder<P> + Send + Sync;

pub(super) struct Registered<P>(Box<Configure<P>>);

impl<P: Projection<Key: KeyFromText>> Registered<P> {
    pub(super) fn new(
        configure: impl Fn(RepositoryBuilder<P>) -> RepositoryBuilder<P> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(configure))
    }

    fn builder(&self, store: Arc<dyn Store>) -> RepositoryBuilder<P> {
        (self.0)(Repository::builder(store).snapshots(Policy::every(EVERY)))
    }
}

fn key_of<P: Projection<Key: KeyFromText>>(key: Option<&str>) -> Result<P::Key> {
    P::Key::from_text(key).map_err(|why| Error::Refused(format!("projection `{}`: {why}", P::NAME)))
}

impl<P: Projection<Key: KeyFromText>> Known for Registered<P> {
    fn serial(&self, store: Arc<dyn Store>) -> Result<Serial> {
        let repository = self.builder(store).build()?;
        let off = || Error::Refused(format!("projection `{}`: snapshots are off", P::NAME));
        repository.serial().cloned().ok_or_else(off)
    }

    fn check_key(&self, key: Option<&str>) -> Result<(), String> {
        P::Key::from_text(key).map(drop)
    }

    fn count_after(
        &self,
        store: Arc<dyn Store>,
        key: Option<String>,
        after: Position,
    ) -> BoxFuture<'_, Result<u64>> {
        async move {
            let query = P::query(&key_of::<P>(key.as_deref())?)?;
            let mut batches = store.read_all(after, query, Follow::ToEnd);
            let mut events = 0;
            while let Some(batch) = batches.try_next().await? {
                let folded = batch
                    .events
                    .iter()
                    .filter(|event| P::Event::knows(event.stream.category(), event.data.event_type.as_str()));
                events += folded.count() as u64;
            }
            Ok(events)
        }
        .boxed()
    }

    fn rebuild(
        &self,
        store: Arc<dyn Store>,
        tiers: Vec<Tier>,
        key: Option<String>,
        progress: Progress,
    ) -> BoxFuture<'_, Result<Rebuilt>> {
        async move {
            let key = key_of::<P>(key.as_deref())?;
            let repository = self.builder(store).snapshots_in(tiers).build()?;
            let load = repository.load(key).prewarm().on_progress(move |seen| progress.at(seen.events));
            let loaded = load.await;
            // What is queued, the last checkpoint too, is written even if the load failed: the next one goes on from there.
            let closed = repository.close().await;
            let loaded = loaded?;
            closed?;
            Ok(Rebuilt {
                position: loaded.position(),
                last_event: loaded.last_event(),
                report: loaded.report().clone(),
            })
        }
        .boxed()
    }
}
