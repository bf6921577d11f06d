//! What is written, and a state that notices every event left out, repeated or swapped.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};
use tailfold::{
    Event, EventData, EventMeta, EventType, Fold, NewEvent, RecordedEvent, Result, SchemaVersion, State,
    StreamId,
};

/// One event of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "chaos")]
pub(crate) enum Step {
    Taken {
        /// Names the operation.
        operation: u64,
        /// Its place among the operation's events on this stream.
        index: u64,
        ballast: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "chaos-trace")]
pub(crate) struct Trace {
    pub(crate) count: u64,
    /// Digest of the events folded, in order.
    pub(crate) digest: u64,
}

impl Fold for Trace {
    type Event = Step;

    fn apply(&mut self, event: Step, meta: &EventMeta<'_>) {
        let Step::Taken { operation, index, ballast } = event;
        let mut hasher = DefaultHasher::new();
        (self.digest, operation, index, ballast.len()).hash(&mut hasher);
        (meta.id().as_uuid().as_bytes(), meta.version().0).hash(&mut hasher);
        self.digest = hasher.finish();
        self.count += 1;
    }
}

pub(crate) fn stream(id: &str) -> StreamId {
    StreamId::new(Step::CATEGORY, id).expect("the ids of this program are good")
}

/// The steps of an operation on one stream.
pub(crate) fn steps(operation: u64, count: u64, ballast: usize) -> Vec<Step> {
    (0..count).map(|index| Step::Taken { operation, index, ballast: "x".repeat(ballast) }).collect()
}

/// Steps as a store takes them.
pub(crate) fn events(steps: &[Step]) -> Result<Vec<NewEvent>> {
    let event = |step: &Step| {
        let schema = step.schema();
        let mut data = EventData::new(EventType::new(schema.name)?, step.encode()?);
        data.schema_version = SchemaVersion(schema.version);
        NewEvent::new(data)
    };
    steps.iter().map(event).collect()
}

/// An event of the log as a step.
pub(crate) fn step(event: &RecordedEvent) -> Result<Step, String> {
    let data = &event.data;
    Step::decode(data.event_type.as_str(), data.schema_version, &data.payload)
        .map_err(|error| error.to_string())
}
