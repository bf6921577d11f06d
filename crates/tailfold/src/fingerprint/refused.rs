//! Types that have no place in a state, each with its reason. They implement [`Fingerprint`] under a condition that nothing
//! fulfils, so that the compiler tells the reason instead of "not implemented".

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};
use std::sync::{Mutex, OnceLock, RwLock};

use super::{Difference, Fingerprint, Shape};

/// Implemented by nothing, for no type. The lifetime keeps the compiler from deciding on that before somebody uses the type, and
/// what implements it is not the type itself, since the compiler would then tell what `Fingerprint` says of it.
#[diagnostic::on_unimplemented(
    message = "`{T}` changes behind a shared reference, so a state that holds it is no value",
    label = "could change under whoever has loaded the state, and while a snapshot of it waits to be written",
    note = "hold the plain value: `u64` for `AtomicU64`, `T` for `Mutex<T>` or `RefCell<T>`; a fold has its state to itself"
)]
pub trait Unchanging<'a, T> {}

/// Implemented by nothing, as the one above.
#[diagnostic::on_unimplemented(
    message = "`{T}` has another order in each run, so a snapshot of it would not stand for one state",
    label = "iterates in another order in each run",
    note = "use `BTreeMap` or `BTreeSet`, or, with the feature `indexmap` of tailfold, `IndexMap` or `IndexSet`"
)]
pub trait Ordered<'a, T> {}

macro_rules! refused {
    ($reason:ident: $($type:ty $(, of $($generic:ident)+)?;)*) => {$(
        impl<$($($generic: 'static),+)?> Fingerprint for $type
        where
            for<'a> (): $reason<'a, $type>,
        {
            fn describe(_: &mut Shape) {}

            fn compare(&self, _: &Self) -> Result<(), Difference> {
                Err(Difference::here())
            }
        }
    )*};
}

refused! {
    Unchanging:
    AtomicBool; AtomicI8; AtomicI16; AtomicI32; AtomicI64; AtomicIsize; AtomicU8; AtomicU16; AtomicU32; AtomicU64; AtomicUsize;
    Cell<T>, of T; RefCell<T>, of T; OnceCell<T>, of T; Mutex<T>, of T; RwLock<T>, of T; OnceLock<T>, of T;
}

refused! {
    Ordered:
    HashMap<K, V, S>, of K V S; HashSet<T, S>, of T S;
}
