//! What a state is folded from: one stream, or what a query selects from many.

use crate::fold::Aggregate;
use crate::load::Load;
use crate::projection::{LoadProjection, Projection};
use crate::repository::Repository;

/// Whether a state belongs to one stream ([`OneStream`]) or to a query over many ([`ManyStreams`]): decided by
/// `#[state(projection)]`. There is no third.
pub trait Scope: sealed::Sealed + 'static {
    /// Whether the state is a projection.
    const IS_PROJECTION: bool;
}

/// The state of an aggregate: folded from one stream.
#[derive(Debug)]
pub enum OneStream {}

/// The state of a [`Projection`]: folded from what a query selects from many streams.
#[derive(Debug)]
pub enum ManyStreams {}

impl Scope for OneStream {
    const IS_PROJECTION: bool = false;
}

impl Scope for ManyStreams {
    const IS_PROJECTION: bool = true;
}

/// How a state of that scope is named where it is loaded: an aggregate by the id of its actor, a projection by its key. What
/// [`Repository::load`] takes and gives.
#[diagnostic::on_unimplemented(
    message = "`{K}` does not name a state of `{F}`",
    note = "an aggregate is loaded by the id of its actor, a string; a projection by its `Projection::Key`, `()` where there is one"
)]
pub trait LoadBy<F, K>: Scope {
    /// The load, to be refined and awaited.
    type Load;

    #[doc(hidden)]
    fn load(repository: &Repository<F>, key: K) -> Self::Load;
}

impl<F: Aggregate, K: AsRef<str>> LoadBy<F, K> for OneStream {
    type Load = Load<F>;

    fn load(repository: &Repository<F>, key: K) -> Load<F> {
        Load::new(repository.clone(), repository.stream(key.as_ref()))
    }
}

impl<P: Projection, K: Into<P::Key>> LoadBy<P, K> for ManyStreams {
    type Load = LoadProjection<P>;

    fn load(repository: &Repository<P>, key: K) -> LoadProjection<P> {
        LoadProjection::new(repository.clone(), key.into())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::OneStream {}
    impl Sealed for super::ManyStreams {}
}
