//! The contract of read models: what a subscription hands over, and what it must be told.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use crate::clock::Timestamp;
use crate::error::{Error, Result, WithCauses};
use crate::event::{EventId, EventType, Position, RecordedEvent};
use crate::panics::Panicked;
use crate::schema::Events;
use crate::store::Truncation;
use crate::stream::{StreamId, Version};

/// An error of the user's own.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Something that events are written into, with a checkpoint beside them: `tailfold-sqlite` and `tailfold-postgres` have one that
/// moves both in one transaction, [`ByPosition`](super::ByPosition) is for everything else.
#[async_trait]
pub trait ReadModel: Send + 'static {
    /// The facts that it handles.
    type Event: Events;

    /// Takes or renews the lease for an owner, unless another one has it. Answers where the model stands.
    ///
    /// # Errors
    /// `Unavailable` is tried again; everything else ends the subscription.
    async fn claim(&mut self, claim: &Claim) -> Result<Claimed>;

    /// Handles a batch in order and moves the checkpoint, all or nothing where that can be; only while the lease is the owner's
    /// and the model stands at [`Batch::before`]. A panic is caught, and counts as a failure of the event that it comes with:
    /// where the model does not say which that is ([`HandleError::of_panic`]), smaller batches find it out.
    /// What was parked of [erased](Batch::erased) streams goes in the same step.
    ///
    /// # Errors
    /// Which event could not be handled, or that the model is away or the lease lost.
    async fn handle(&mut self, claim: &Claim, batch: Batch<'_, Self::Event>) -> Result<(), HandleError>;

    /// What is put aside under a subscription's name, in order of position. Asked for when the work begins, each third of a
    /// lease, and by those who wait for the lease.
    ///
    /// # Errors
    /// As [`ReadModel::claim`].
    async fn parked(&mut self, name: &str) -> Result<Vec<Parked>>;

    /// Gives the lease back, if it is the owner's.
    ///
    /// # Errors
    /// Those of its store; the lease then ends by itself.
    async fn release(&mut self, claim: &Claim) -> Result<()>;
}

/// Who works, on what, and for how long at most without a sign.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Name of the subscription, with its share.
    pub name: Arc<str>,
    /// The worker: another one for each start.
    pub owner: EventId,
    /// From the claim on, by the clock of the model's store where it has one.
    pub lease: Duration,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The lease is the owner's.
    Granted(Option<Checkpoint>),
    /// Another one has it.
    Held(Option<Checkpoint>),
}

/// What is to be handled in one step.
#[derive(Debug)]
pub struct Batch<'a, E> {
    /// Where the model must stand.
    pub before: Option<&'a Checkpoint>,
    /// The events, in order. May be empty.
    pub deliveries: &'a [Delivery<E>],
    /// An event that is put aside, after the others. Where the checkpoint stays where it is, it was tried
    /// again, and takes the place of what is kept of it, unless somebody has dropped that meanwhile.
    pub parked: Option<&'a Parked>,
    /// Position of an event that is put aside no longer: it is the only one of the deliveries, or it is gone
    /// from the log. It lies before the checkpoint, which stays where it is. Where somebody has dropped it
    /// meanwhile, nothing is handled.
    pub unparked: Option<Position>,
    /// Where the model stands afterwards.
    pub after: &'a Checkpoint,
}

/// An event for a read model.
#[derive(Clone, Debug)]
pub struct Delivery<E> {
    recorded: RecordedEvent,
    event: Option<E>,
}

/// An event that was put aside because it could not be handled: where it stands, and why. The event itself stays in the log.
/// When its stream is erased, this goes as well, once the subscription has met the tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Its position.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its version.
    pub version: Version,
    /// Its type, as stored.
    pub event_type: EventType,
    /// What the handler said, or what is wrong with the event. At most 8 KiB: what is longer is cut, and its length said.
    pub error: String,
    /// How often it was tried; 0 where it cannot be decoded.
    pub attempts: u32,
    /// When it was put aside, or last tried again.
    pub parked_at: Timestamp,
    /// Whether somebody has asked to try it again: the process that has the lease does, within a third of a lease.
    #[serde(default)]
    pub retry_requested: bool,
}

/// Why a batch was not handled.
#[derive(Debug)]
pub enum HandleError {
    /// The event at that position could not be handled; nothing of the batch was kept, or, without transactions, what is before
    /// it.
    Event {
        /// Its position.
        position: Position,
        /// What the handler said.
        error: BoxError,
    },
    /// Another worker has the lease, or the model no longer stands where it stood.
    Lost,
    /// The model's store failed.
    Store(Error),
}

impl HandleError {
    /// What a handler's panic is told as: a failure of the event at that position. For read models that call code of others.
    pub fn of_panic(position: Position, panic: &(dyn Any + Send)) -> Self {
        Self::Event { position, error: Panicked::of(panic).into() }
    }
}

impl<E> Batch<'_, E> {
    /// The streams that this batch tells were erased, with the positions of their tombstones. What was parked of them before
    /// that has to go: the texts of errors may quote what was erased.
    pub fn erased(&self) -> impl Iterator<Item = (&StreamId, Position)> {
        let parked = self.parked.filter(|parked| parked.event_type.is_tombstone());
        let delivered = self.deliveries.iter();
        delivered
            .filter_map(|delivery| Some((delivery.erased()?, delivery.position())))
            .chain(parked.map(|parked| (&parked.stream, parked.position)))
    }
}

impl<E> Delivery<E> {
    pub(super) fn new(recorded: RecordedEvent, event: Option<E>) -> Self {
        Self { recorded, event }
    }

    /// The typed event; `None` where the stream was erased, and what came from it must go, or where it was
    /// [truncated](Delivery::truncated).
    pub fn event(&self) -> Option<&E> {
        self.event.as_ref()
    }

    /// The event as stored, with its place.
    pub fn recorded(&self) -> &RecordedEvent {
        &self.recorded
    }

    /// Position in the log: increasing, so that a model without transactions can tell what it has handled before.
    pub fn position(&self) -> Position {
        self.recorded.position
    }

    /// The stream, if this says that it was erased.
    pub fn erased(&self) -> Option<&StreamId> {
        self.recorded.data.event_type.is_tombstone().then_some(&self.recorded.stream)
    }

    /// The stream and what the marker says, if this tells that its beginning was cut off. Only for those who want to hear of it, see
    /// [`SubscriptionBuilder::truncations`](crate::SubscriptionBuilder::truncations).
    ///
    /// # Errors
    /// `Codec` if the marker cannot be read.
    pub fn truncated(&self) -> Result<Option<(&StreamId, Truncation)>> {
        if !self.recorded.data.event_type.is_truncation() {
            return Ok(None);
        }
        Truncation::from_event(&self.recorded).map(|truncation| Some((&self.recorded.stream, truncation)))
    }
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { position, error } => {
                write!(f, "the event at position {position}: {}", WithCauses(&**error))
            }
            Self::Lost => f.write_str("another worker has the lease"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl StdError for HandleError {}

impl From<Error> for HandleError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}
