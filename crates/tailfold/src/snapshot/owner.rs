//! Which type of fold the snapshots under a name belong to, in this process.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt as _;

use super::serial::Serial;
use crate::error::{Error, Result};
use crate::fold::Fold;
use crate::schema::Events as _;
use crate::scope::Scope as _;
use crate::store::{EventStore, StoreId};

/// One type's use of the slots of a name and serial. Repositories of the type share it; when the last of them is gone, the slots
/// are free for another type. Releases and tests that come one after the other are therefore never in each other's way.
#[derive(Debug)]
pub(crate) struct Owner {
    slots: Slots,
    fold: TypeId,
    type_name: &'static str,
}

/// Two repositories with equal ones read and write the same snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slots {
    // Of the events: what lies in a tier beside them is anchored in these.
    store: StoreId,
    name: &'static str,
    serial: Serial,
    /// The category of an aggregate's streams, which a slot's key begins with; `None`: a projection.
    category: Option<&'static str>,
}

/// The owners that live. An entry goes with its owner.
static OWNERS: LazyLock<Mutex<HashMap<Slots, Weak<Owner>>>> = LazyLock::new(Mutex::default);

fn owners() -> MutexGuard<'static, HashMap<Slots, Weak<Owner>>> {
    // Each change of the map is one call.
    OWNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owner {
    /// Takes the slots for a fold. `None` where the store cannot tell its id without waiting: then nothing is noticed.
    ///
    /// # Errors
    /// `Invalid` where another type has them.
    pub(crate) fn of<F: Fold>(store: &dyn EventStore, serial: &Serial) -> Result<Option<Arc<Self>>> {
        let Some(Ok(store)) = store.store_id().now_or_never() else {
            return Ok(None);
        };
        let category = match F::Scope::IS_PROJECTION {
            true => None,
            false => F::Event::sources().first().map(|source| source.category),
        };
        let slots = Slots { store, name: F::NAME, serial: serial.clone(), category };
        let fold = TypeId::of::<F>();
        let mut owners = owners();
        let owner = match owners.get(&slots).and_then(Weak::upgrade) {
            Some(owner) => owner,
            None => {
                let owner = Arc::new(Self { slots: slots.clone(), fold, type_name: type_name::<F>() });
                owners.insert(slots, Arc::downgrade(&owner));
                owner
            }
        };
        // An owner locks them when it is dropped, which may be below.
        drop(owners);
        if owner.fold == fold {
            return Ok(Some(owner));
        }
        Err(Error::invalid(format!(
            "`{}` folds under this name, label and shape too, in a repository over the same store: each would be served the \
             other's snapshots. Give `{}` another name (`#[state(name = \"..\")]`) or label (`#[state(serial = ..)]`)",
            owner.type_name,
            type_name::<F>()
        )))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut owners = owners();
        // Another may have come since this one's count fell to zero.
        if owners.get(&self.slots).is_some_and(|owner| owner.strong_count() == 0) {
            owners.remove(&self.slots);
        }
    }
}
