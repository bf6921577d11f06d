//! A read model anywhere: a handler that is called for each event, and a checkpoint in a snapshot store.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::check_name;
use super::checkpoint::{Checkpoint, CheckpointInfo};
use super::read_model::{Batch, BoxError, Claim, Claimed, Delivery, HandleError, Parked, ReadModel};
use crate::chain::Chain;
use crate::clock::{Clock, Day, SystemClock, Timestamp};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::event::Position;
use crate::panics::caught;
use crate::schema::Events;
use crate::snapshot::{
    Compression, Draft, Envelope, Keep, Save, Slot, SlotFilter, SnapshotInfo, SnapshotStore,
    SnapshotStoreExt as _,
};
use crate::stream::{Head, StreamId, Version};

const SERIAL: &str = "0000000000000001";
/// Between the name and the position of an event that was put aside. No name holds it.
const PARKED: char = '!';
const CODEC: &str = "json";
const MOST_BYTES: u64 = 1 << 20;
/// How often a removal is tried beside others who change the same slot.
const MOST_ATTEMPTS: u32 = 8;

/// A read model for whatever has no transactions to share with a checkpoint: the handler is called for each event in order, and
/// then the checkpoint is saved in a [`SnapshotStore`], most simply that of the events.
///
/// A process that ends in between gets the events of its last batch again: the handler must not mind, or compare
/// [`Delivery::position`] with what it has seen. There is no lease: one process at a time. A handler that panics is called again:
/// what it holds itself must stand that.
pub struct ByPosition<E, H> {
    snapshots: Arc<dyn SnapshotStore>,
    name: String,
    handler: H,
    clock: Arc<dyn Clock>,
    /// Handled by this process, whether a checkpoint says so or not.
    handled: Position,
    used: Option<Day>,
    event: std::marker::PhantomData<fn() -> E>,
}

impl<E, H> ByPosition<E, H>
where
    E: Events,
    H: FnMut(&Delivery<E>) -> Result<(), BoxError> + Send + 'static,
{
    /// A model whose checkpoint is kept in `snapshots`, for the subscription of that name.
    ///
    /// # Errors
    /// `Invalid` for a name that breaks the rules.
    pub fn new(snapshots: impl SnapshotStore + 'static, name: impl Into<String>, handler: H) -> Result<Self> {
        let name = name.into();
        check_name(&name)?;
        Ok(Self {
            snapshots: Arc::new(snapshots),
            name,
            handler,
            clock: Arc::new(SystemClock),
            handled: Position::ZERO,
            used: None,
            event: std::marker::PhantomData,
        })
    }

    fn save(
        &self,
        slot: Slot,
        head: Head,
        json: &[u8],
    ) -> impl Future<Output = Result<()>> + Send + use<E, H> {
        let (snapshots, now) = (self.snapshots.clone(), self.clock.now());
        let bytes = seal(&slot, head, json, now);
        async move {
            let save = Save { head, bytes: bytes?, keep: Keep::Newest, day: now.day() };
            snapshots.save(&slot, save).await.map(drop)
        }
    }
}

impl super::Subscription {
    /// Where the subscriptions stand whose [`ByPosition`] models keep their checkpoints in a snapshot store, by name. Tables of
    /// read models have `checkpoints` of their own in `tailfold-sqlite` and `tailfold-postgres`.
    ///
    /// # Errors
    /// The store's; `Corrupt` for an entry that cannot be read.
    pub async fn checkpoints(snapshots: &dyn SnapshotStore) -> Result<Vec<CheckpointInfo>> {
        let listed = checkpoints(snapshots).await;
        listed.map_err(|error| error.during("list the checkpoints of subscriptions"))
    }

    /// The events that a subscription with a [`ByPosition`] model has put aside, in order of position; from the
    /// store where the model keeps its checkpoint. All of them are held in memory, at most 10 KiB each. Read
    /// models in tables have functions of their own for this and for the next two, in `tailfold-sqlite` and
    /// `tailfold-postgres`.
    ///
    /// # Errors
    /// The store's; `Corrupt`, with its position, for an entry that cannot be read. The subscription goes on
    /// without that; it can be dropped.
    pub async fn parked(snapshots: &dyn SnapshotStore, name: &str) -> Result<Vec<Parked>> {
        let parked = parked_events(snapshots, name).await;
        parked.map_err(|error| error.during(format!("list what subscription `{name}` has parked")))
    }

    /// Asks to try again what a subscription with a [`ByPosition`] model has put aside: the event at a
    /// position, or all of them. The process that works begins within a third of a lease: it tries each once,
    /// in order of position, whatever it has handled since, and in turns with what comes live. What fails
    /// again stays parked with its new error. Answers how many there are.
    ///
    /// # Errors
    /// As [`Subscription::parked`](super::Subscription::parked).
    pub async fn retry_parked(
        snapshots: &dyn SnapshotStore,
        name: &str,
        position: Option<Position>,
    ) -> Result<u64> {
        let asked = retry_parked(snapshots, name, position).await;
        asked.map_err(|error| error.during(format!("try again what subscription `{name}` has parked")))
    }

    /// Drops what a subscription with a [`ByPosition`] model has put aside: the event at a position, or all of them. It is
    /// never handled; the event itself stays in the log. Answers how many were dropped.
    ///
    /// # Errors
    /// As [`Subscription::parked`](super::Subscription::parked).
    pub async fn drop_parked(
        snapshots: &dyn SnapshotStore,
        name: &str,
        position: Option<Position>,
    ) -> Result<u64> {
        let dropped = drop_parked(snapshots, name, position).await;
        dropped.map_err(|error| error.during(format!("drop what subscription `{name}` has parked")))
    }
}

async fn checkpoints(snapshots: &dyn SnapshotStore) -> Result<Vec<CheckpointInfo>> {
    let mut infos = Vec::new();
    let mut parked: BTreeMap<String, u64> = BTreeMap::new();
    for SnapshotInfo { slot, .. } in snapshots.list_to_vec(SlotFilter::fold(Slot::LASTING)).await? {
        if let Some((name, _)) = slot.key().split_once(PARKED) {
            *parked.entry(name.to_owned()).or_default() += 1;
        } else if let Some(stored) = snapshots.newest(&slot, None).await? {
            let (checkpoint, updated_at) = read_at(&slot, &stored.bytes)?;
            let name = slot.key().to_owned();
            infos.push(CheckpointInfo { name, checkpoint, leased_until: None, updated_at, parked: 0 });
        }
    }
    for info in &mut infos {
        info.parked = parked.remove(&info.name).unwrap_or_default();
    }
    infos.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(infos)
}

async fn parked_events(snapshots: &dyn SnapshotStore, name: &str) -> Result<Vec<Parked>> {
    let mut parked = Vec::new();
    for slot in parked_slots(snapshots, name, None).await? {
        parked.extend(parked_at(snapshots, &slot).await?);
    }
    Ok(parked)
}

/// What is kept of a parked event, if that was not dropped meanwhile.
async fn parked_at(snapshots: &dyn SnapshotStore, slot: &Slot) -> Result<Option<Parked>> {
    let Some(stored) = snapshots.newest(slot, None).await? else { return Ok(None) };
    let parked = read(slot, &stored.bytes).map_err(|error| {
        let position = stored.head.version;
        Error::corrupt(format!("the event parked at position {position} cannot be tried again, only dropped"))
            .caused_by(error)
    });
    parked.map(Some)
}

async fn retry_parked(snapshots: &dyn SnapshotStore, name: &str, position: Option<Position>) -> Result<u64> {
    let mut parked = Vec::new();
    for slot in parked_slots(snapshots, name, position).await? {
        parked.extend(parked_at(snapshots, &slot).await?);
    }
    for parked in &parked {
        let parked = Parked { retry_requested: true, ..parked.clone() };
        keep_parked(snapshots, name, &parked, SystemClock.now()).await?;
    }
    Ok(parked.len() as u64)
}

/// Reads nothing of what it drops: that may be damaged.
async fn drop_parked(snapshots: &dyn SnapshotStore, name: &str, position: Option<Position>) -> Result<u64> {
    let slots = parked_slots(snapshots, name, position).await?;
    for slot in &slots {
        remove(snapshots, slot).await?;
    }
    Ok(slots.len() as u64)
}

async fn keep_parked(
    snapshots: &dyn SnapshotStore,
    name: &str,
    parked: &Parked,
    now: Timestamp,
) -> Result<()> {
    let slot = slot_of_parked(name, parked.position)?;
    let head = Head { version: Version(parked.position.0), chain: Chain::from_bytes([0; 16]) };
    let bytes = seal(&slot, head, &json(parked)?, now)?;
    snapshots.save(&slot, Save { head, bytes, keep: Keep::Newest, day: now.day() }).await.map(drop)
}

/// Where a subscription's parked events lie, in order of position: the one at a position, or all of them.
async fn parked_slots(
    snapshots: &dyn SnapshotStore,
    name: &str,
    position: Option<Position>,
) -> Result<Vec<Slot>> {
    let meant = position.map(|position| slot_of_parked(name, position)).transpose()?;
    let listed = snapshots.list_to_vec(SlotFilter::fold(Slot::LASTING)).await?;
    let slots = listed.into_iter().map(|info| info.slot);
    let is_parked = |slot: &Slot| slot.key().split_once(PARKED).is_some_and(|(of, _)| of == name);
    let is_meant = |slot: &Slot| meant.as_ref().is_none_or(|meant| meant == slot);
    Ok(slots.filter(|slot| is_parked(slot) && is_meant(slot)).collect())
}

/// Removes what a subscription has put aside of streams before their tombstones. Looks at each once, however many
/// streams there are.
async fn drop_parked_of(
    snapshots: &dyn SnapshotStore,
    name: &str,
    erased: &HashMap<&StreamId, Position>,
) -> Result<()> {
    for slot in parked_slots(snapshots, name, None).await? {
        let Some(stored) = snapshots.newest(&slot, None).await? else { continue };
        let tombstone = match read::<Parked>(&slot, &stored.bytes) {
            Ok(parked) => erased.get(&parked.stream),
            // It may say anything, and cannot be told from what was erased.
            Err(_) => erased.values().max(),
        };
        if tombstone.is_some_and(|tombstone| stored.head.version.0 < tombstone.0) {
            // Out of what a store keeps besides, too: its key is nobody else's.
            snapshots.forget(slot.key()).await?;
        }
    }
    Ok(())
}

#[async_trait]
impl<E, H> ReadModel for ByPosition<E, H>
where
    E: Events,
    H: FnMut(&Delivery<E>) -> Result<(), BoxError> + Send + 'static,
{
    type Event = E;

    async fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        if claim.name.split('.').next() != self.name.split('.').next() {
            return Err(Error::invalid(format!(
                "the read model is of subscription `{}`, not of `{}`",
                self.name, claim.name
            )));
        }
        let slot = slot(&claim.name)?;
        let Some(stored) = self.snapshots.newest(&slot, None).await? else {
            return Ok(Claimed::Granted(None));
        };
        let checkpoint: Checkpoint = read(&slot, &stored.bytes)?;
        let today = self.clock.now().day();
        if self.used != Some(today) {
            // Whatever is not used goes after a while.
            self.snapshots.mark_used(&[(slot, stored.head.version)], today).await?;
            self.used = Some(today);
        }
        Ok(Claimed::Granted(Some(checkpoint)))
    }

    async fn handle(&mut self, claim: &Claim, batch: Batch<'_, E>) -> Result<(), HandleError> {
        // What is tried again counts only as long as nobody has dropped it.
        let is_again = batch.before == Some(batch.after);
        if let Some(position) =
            batch.unparked.or(batch.parked.filter(|_| is_again).map(|parked| parked.position))
            && self.snapshots.newest(&slot_of_parked(&claim.name, position)?, None).await?.is_none()
        {
            return Ok(());
        }
        for delivery in batch.deliveries {
            let position = delivery.position();
            // Handled by an attempt that failed later on.
            if position <= self.handled && batch.unparked != Some(position) {
                continue;
            }
            match caught(|| (self.handler)(delivery)) {
                Ok(Ok(())) => self.handled = self.handled.max(position),
                Ok(Err(error)) => return Err(HandleError::Event { position, error }),
                Err(panicked) => return Err(HandleError::Event { position, error: panicked.into() }),
            }
        }
        if let Some(position) = batch.unparked {
            remove(&*self.snapshots, &slot_of_parked(&claim.name, position)?).await?;
        }
        let erased: HashMap<_, _> = batch.erased().collect();
        if !erased.is_empty() {
            drop_parked_of(&*self.snapshots, &claim.name, &erased).await?;
        }
        if let Some(parked) = batch.parked {
            keep_parked(&*self.snapshots, &claim.name, parked, self.clock.now()).await?;
            self.handled = self.handled.max(parked.position);
        }
        let chain = batch.after.last.as_ref().map_or(Chain::from_bytes([0; 16]), |last| last.head.chain);
        let head = Head { version: Version(batch.after.position.0.max(1)), chain };
        self.save(slot(&claim.name)?, head, &json(batch.after)?).await?;
        Ok(())
    }

    async fn parked(&mut self, name: &str) -> Result<Vec<Parked>> {
        let mut parked = Vec::new();
        for slot in parked_slots(&*self.snapshots, name, None).await? {
            match parked_at(&*self.snapshots, &slot).await {
                Ok(found) => parked.extend(found),
                // Told, and in nobody's way: all the others are handled without it.
                Err(error) if *error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(subscription = name, %error, "parked event cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(parked)
    }

    async fn release(&mut self, _claim: &Claim) -> Result<()> {
        Ok(())
    }
}

fn slot_of_parked(name: &str, position: Position) -> Result<Slot> {
    slot(&format!("{name}{PARKED}{:020}", position.0))
}

/// Removes what is kept in a slot, whatever that is by now.
async fn remove(snapshots: &dyn SnapshotStore, slot: &Slot) -> Result<()> {
    for _ in 0..MOST_ATTEMPTS {
        match snapshots.newest(slot, None).await? {
            Some(stored) if !snapshots.compare_and_remove(slot, &stored).await? => {}
            _ => return Ok(()),
        }
    }
    Err(Error::unavailable(Outcome::NotDone, format!("`{slot}` changes again and again")))
}

fn slot(key: &str) -> Result<Slot> {
    Slot::new(Slot::LASTING, SERIAL.parse()?, key)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::codec(format!("a checkpoint: {error}")))
}

fn seal(slot: &Slot, head: Head, json: &[u8], now: Timestamp) -> Result<Bytes> {
    Draft {
        slot,
        head,
        latest_recorded_at: Timestamp::MIN,
        folded: Vec::new(),
        codec: CODEC,
        created_at: now,
        forgotten_keys: 0,
        keys: None,
    }
    .seal(json, Compression::None, None)
}

fn read<T: serde::de::DeserializeOwned>(slot: &Slot, bytes: &Bytes) -> Result<T> {
    read_at(slot, bytes).map(|(value, _)| value)
}

/// With the moment at which it was kept.
fn read_at<T: serde::de::DeserializeOwned>(slot: &Slot, bytes: &Bytes) -> Result<(T, Timestamp)> {
    let broken = |what: &dyn fmt::Display| Error::corrupt(format!("what is kept at `{slot}`: {what}"));
    let envelope = Envelope::parse(bytes).map_err(|reason| broken(&reason))?;
    let payload = envelope.payload(MOST_BYTES, None).map_err(|reason| broken(&reason))?;
    let value = serde_json::from_slice(&payload).map_err(|error| broken(&error))?;
    Ok((value, envelope.created_at))
}

impl<E, H> fmt::Debug for ByPosition<E, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByPosition")
            .field("name", &self.name)
            .field("snapshots", &self.snapshots)
            .field("handled", &self.handled)
            .finish_non_exhaustive()
    }
}
