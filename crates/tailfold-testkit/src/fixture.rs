//! What a test needs to have while it uses a store.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// A store for one test, with all that must live as long: a directory, a server, a connection.
pub struct Fixture<S: ?Sized> {
    // Dropped first: a store is closed before its directory goes.
    store: Arc<S>,
    open: Option<Open<S>>,
    kept: Vec<Box<dyn Any + Send>>,
}

/// Opens the place of a fixture once more.
type Open<S> = Box<dyn Fn() -> BoxFuture<'static, Arc<S>> + Send>;

impl<S> Fixture<S> {
    /// A store that needs nothing else.
    pub fn new(store: S) -> Self {
        Self::shared(Arc::new(store))
    }
}

impl<S: ?Sized> Fixture<S> {
    /// A store that is shared already.
    pub fn shared(store: Arc<S>) -> Self {
        Self { store, open: None, kept: Vec::new() }
    }

    /// The same fixture, dropping `guard` after the store.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send) -> Self {
        self.kept.push(Box::new(guard));
        self
    }

    /// The store.
    pub fn store(&self) -> Arc<S> {
        self.store.clone()
    }
}

impl<S: ?Sized + 'static> Fixture<S> {
    /// The same fixture, with a way to open its place once more. The conformance macros need one: without it,
    /// nobody would notice a store that forgets everything when its process ends.
    ///
    /// `open` is called while the stores that were opened before are in use, since that is how other
    /// processes meet a place, and what a process that was killed leaves behind. It shares nothing with them
    /// in memory. Only a store that does not outlive its process hands out a clone.
    ///
    /// ```
    /// # use tailfold::MemoryStore;
    /// # use tailfold_testkit::Fixture;
    /// let store = MemoryStore::new();
    /// let fixture = Fixture::new(store.clone()).reopening(move || std::future::ready(store.clone()));
    /// ```
    #[must_use]
    pub fn reopening<F>(mut self, open: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output: Into<Arc<S>>> + Send + 'static,
    {
        self.open = Some(Box::new(move || open().map(Into::into).boxed()));
        self
    }

    /// Opens the fixture's place once more, beside the stores that are open.
    ///
    /// # Panics
    /// If the fixture does not say how ([`reopening`](Self::reopening)), or if opening fails.
    pub fn reopen(&self) -> BoxFuture<'static, Arc<S>> {
        let open = self.open.as_ref();
        open.expect("the fixture does not say how its place is opened again: add `.reopening(..)` to it")()
    }
}

impl<S: ?Sized> Deref for Fixture<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.store
    }
}

impl<S: ?Sized + fmt::Debug> fmt::Debug for Fixture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("store", &self.store)
            .field("can_reopen", &self.open.is_some())
            .field("kept", &self.kept.len())
            .finish()
    }
}
