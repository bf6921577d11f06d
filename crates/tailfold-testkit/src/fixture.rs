//! What a test needs to have while it uses a store.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A store for one test, with all that must live as long: a directory, a server, a connection.
pub struct Fixture<S: ?Sized> {
    // Dropped first: a store is closed before its directory goes.
    store: Arc<S>,
    kept: Vec<Box<dyn Any + Send>>,
}

impl<S> Fixture<S> {
    /// A store that needs nothing else.
    pub fn new(store: S) -> Self {
        Self::shared(Arc::new(store))
    }
}

impl<S: ?Sized> Fixture<S> {
    /// A store that is shared already.
    pub fn shared(store: Arc<S>) -> Self {
        Self { store, kept: Vec::new() }
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

impl<S: ?Sized> Deref for Fixture<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.store
    }
}

impl<S: ?Sized + fmt::Debug> fmt::Debug for Fixture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).field("kept", &self.kept.len()).finish()
    }
}
