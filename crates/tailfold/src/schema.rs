//! Typed events: how an enum becomes payloads with stable names, and back.

use std::fmt;

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::event::SchemaVersion;
use crate::fingerprint::Difference;

/// The facts of one category of streams: an enum with `#[derive(Event)]`.
///
/// The derive stores each variant under a stable name (`account.opened` for variant `Opened` of category `account`,
/// unless `#[event(name = "..")]` says otherwise) with a schema version, and reads older versions through typed upcasts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event type",
    label = "needs `#[derive(tailfold::Event)]`",
    note = "derive it on an enum with `#[event(category = \"..\")]`; its variants are the facts of that category"
)]
pub trait Event: Sized + Send + Sync + 'static {
    /// Category of the streams that hold these events.
    const CATEGORY: &'static str;

    /// One entry a variant, in the order of declaration.
    fn schemas() -> &'static [EventSchema];

    /// The entry of this event's variant.
    fn schema(&self) -> &'static EventSchema;

    /// How payloads are encoded; JSON unless `#[event(codec = ..)]` says otherwise. Part of the stored format: it cannot
    /// change once events are recorded.
    fn codec() -> Codec;

    /// Labels to find the event by, from `#[event(tag = "course:{course}")]`.
    fn tags(&self) -> Vec<String>;

    /// The payload: the variant's fields.
    ///
    /// # Errors
    /// `Codec` if a field cannot be encoded.
    fn encode(&self) -> Result<Vec<u8>>;

    /// Compares two events field by field: whether what was read back is what was written. A field is compared by its
    /// [`Fingerprint`](crate::Fingerprint) where its type has one, else by `PartialEq`.
    ///
    /// # Errors
    /// The first field that differs.
    fn compare(&self, other: &Self) -> Result<(), Difference>;

    /// Reads a payload of any schema version that the type still handles, upcasting older ones step by step.
    ///
    /// # Errors
    /// What is wrong with it; see [`DecodeError`].
    fn decode(event_type: &str, schema_version: SchemaVersion, payload: &[u8]) -> Result<Self, DecodeError>;

    /// Whether [`Event::decode`] knows payloads of that type and version.
    fn handles(event_type: &str, schema_version: SchemaVersion) -> bool {
        Self::schemas().iter().any(|schema| schema.handles(event_type, schema_version))
    }
}

/// What a projection folds: the facts of one category, as every [`Event`] is, or a union of several, with
/// `#[derive(Events)]` on an enum whose variants hold one such type each.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tailfold::{Event, Events};
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "order")]
/// enum OrderEvent {
///     Placed { sku: String, quantity: u32 },
/// }
///
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "product")]
/// enum ProductEvent {
///     Received { quantity: u32 },
/// }
///
/// #[derive(Clone, Events)]
/// enum StockEvent {
///     Order(OrderEvent),
///     Product(ProductEvent),
/// }
///
/// let categories: Vec<_> = StockEvent::sources().iter().map(|source| source.category).collect();
/// assert_eq!(categories, ["order", "product"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of facts",
    label = "needs `#[derive(tailfold::Event)]` or `#[derive(tailfold::Events)]`",
    note = "`Event` for the facts of one category, `Events` for an enum whose variants hold such types"
)]
pub trait Events: Sized + Send + Sync + 'static {
    /// The kinds of events, by category. A category may occur twice.
    fn sources() -> Vec<EventSource>;

    /// How payloads are encoded, of each type that derives [`Event`]. A codec may occur twice.
    fn codecs() -> Vec<Codec>;

    /// Whether events of that type in streams of that category are among them.
    fn knows(category: &str, event_type: &str) -> bool;

    /// Reads a stored payload, as [`Event::decode`].
    ///
    /// # Errors
    /// What is wrong with it; see [`DecodeError`].
    fn decode_from(
        category: &str,
        event_type: &str,
        schema_version: SchemaVersion,
        payload: &[u8],
    ) -> Result<Self, DecodeError>;

    /// As [`Event::compare`].
    ///
    /// # Errors
    /// The first field that differs.
    fn compare_facts(&self, other: &Self) -> Result<(), Difference>;

    /// The event as it is stored.
    ///
    /// # Errors
    /// `Codec` if a field cannot be encoded.
    fn to_fact(&self) -> Result<Fact>;
}

/// The kinds of events that come from streams of one category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// Category of the streams.
    pub category: &'static str,
    /// The kinds.
    pub schemas: &'static [EventSchema],
}

/// An event before it has a place: what is stored of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Category of the stream that it belongs to.
    pub category: &'static str,
    /// Its kind.
    pub schema: &'static EventSchema,
    /// Labels to find it by.
    pub tags: Vec<String>,
    /// The encoded fields.
    pub payload: Vec<u8>,
}

impl Fact {
    /// An event as it is stored, and as every later replay will see it.
    ///
    /// # Errors
    /// `Codec` if it cannot be encoded, or if what was encoded cannot be decoded or is another event then.
    pub(crate) fn surviving<E: Events>(event: &E) -> Result<(Self, E)> {
        let fact = event.to_fact()?;
        let Self { category, schema, payload, .. } = &fact;
        let read = E::decode_from(category, schema.name, SchemaVersion(schema.version), payload);
        let read = read.map_err(|error| {
            Error::codec(format!("event `{}` does not survive its codec: {error}", schema.name))
        })?;
        event.compare_facts(&read).map_err(|difference| {
            Error::codec(format!(
                "event `{}` does not survive its codec: `{difference}` would be read back as another value; give the field \
                 a type that the event's codec keeps, or the events another codec",
                schema.name,
            ))
        })?;
        Ok((fact, read))
    }
}

impl<E: Event> Events for E {
    fn sources() -> Vec<EventSource> {
        vec![EventSource { category: E::CATEGORY, schemas: E::schemas() }]
    }

    fn codecs() -> Vec<Codec> {
        vec![E::codec()]
    }

    fn knows(category: &str, event_type: &str) -> bool {
        category == E::CATEGORY && E::schemas().iter().any(|schema| schema.name == event_type)
    }

    fn decode_from(
        category: &str,
        event_type: &str,
        schema_version: SchemaVersion,
        payload: &[u8],
    ) -> Result<Self, DecodeError> {
        if category != E::CATEGORY {
            return Err(DecodeError::UnknownType);
        }
        E::decode(event_type, schema_version, payload)
    }

    fn compare_facts(&self, other: &Self) -> Result<(), Difference> {
        self.compare(other)
    }

    fn to_fact(&self) -> Result<Fact> {
        Ok(Fact { category: E::CATEGORY, schema: self.schema(), tags: self.tags(), payload: self.encode()? })
    }
}

impl EventSource {
    /// Whether one of the kinds is that type, in a version that can be read.
    pub fn handles(&self, event_type: &str, schema_version: SchemaVersion) -> bool {
        self.schemas.iter().any(|schema| schema.handles(event_type, schema_version))
    }
}

impl EventSchema {
    fn handles(&self, event_type: &str, schema_version: SchemaVersion) -> bool {
        self.name == event_type && (self.oldest..=self.version).contains(&schema_version.0)
    }
}

/// What is fixed about one kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSchema {
    /// Stable name, as stored.
    pub name: &'static str,
    /// Version that is written.
    pub version: u32,
    /// Oldest version that can still be read.
    pub oldest: u32,
    /// Whether a fold may start here from empty: the event carries all that is needed.
    pub origin: bool,
}

/// Why a stored event could not be read as a typed one.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// No variant has that name.
    UnknownType,
    /// The variant is known, that version of its payload is not.
    UnknownVersion,
    /// The payload does not decode.
    Malformed(Error),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType => f.write_str("unknown event type"),
            Self::UnknownVersion => f.write_str("unknown schema version"),
            Self::Malformed(error) => write!(f, "malformed payload: {error}"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<Error> for DecodeError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

/// What a decision may return: one event, several, or none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of `{E}` events",
    note = "return one event, `Vec<{E}>`, `[{E}; N]`, `Option<{E}>`, or `()` for none"
)]
pub trait IntoEvents<E> {
    /// The events, in the order in which they are to be recorded.
    fn into_events(self) -> Vec<E>;
}

impl<E: Event> IntoEvents<E> for E {
    fn into_events(self) -> Vec<E> {
        vec![self]
    }
}

impl<E: Event> IntoEvents<E> for Vec<E> {
    fn into_events(self) -> Vec<E> {
        self
    }
}

impl<E: Event, const N: usize> IntoEvents<E> for [E; N] {
    fn into_events(self) -> Vec<E> {
        self.into()
    }
}

impl<E: Event> IntoEvents<E> for Option<E> {
    fn into_events(self) -> Vec<E> {
        self.into_iter().collect()
    }
}

impl<E: Event> IntoEvents<E> for () {
    fn into_events(self) -> Vec<E> {
        Vec::new()
    }
}
