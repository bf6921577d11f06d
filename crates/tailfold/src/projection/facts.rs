//! What a decision over many streams wants recorded, and where.

use crate::error::Result;
use crate::schema::{Events, Fact};

/// Events of any types, each with the id of the actor whose stream it goes to; the category comes from the event.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tailfold::{Event, Facts};
/// # #[derive(Clone, Serialize, Deserialize, Event)]
/// # #[event(category = "course")]
/// # enum CourseEvent { Booked { student: String } }
/// # #[derive(Clone, Serialize, Deserialize, Event)]
/// # #[event(category = "student")]
/// # enum StudentEvent { Enrolled { course: String } }
/// let facts = Facts::new()
///     .record("math", CourseEvent::Booked { student: "ada".to_owned() })
///     .record("ada", StudentEvent::Enrolled { course: "math".to_owned() });
/// assert_eq!(facts.len(), 2);
/// ```
#[derive(Debug, Default)]
#[must_use = "facts are recorded by the decision that returns them"]
pub struct Facts {
    facts: Vec<(String, Result<Fact>)>,
}

impl Facts {
    /// None: nothing is to be recorded.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, and one more. An event that does not survive its codec fails the decision, before anything is written.
    pub fn record<E: Events>(mut self, id: impl Into<String>, event: E) -> Self {
        let fact = Fact::surviving(&event).map(|(fact, _)| fact);
        self.facts.push((id.into(), fact));
        self
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    pub(super) fn into_parts(self) -> Vec<(String, Result<Fact>)> {
        self.facts
    }
}

impl<I: Into<String>, E: Events> From<(I, E)> for Facts {
    fn from((id, event): (I, E)) -> Self {
        Self::new().record(id, event)
    }
}

impl<I: Into<String>, E: Events> From<Vec<(I, E)>> for Facts {
    fn from(events: Vec<(I, E)>) -> Self {
        events.into_iter().fold(Self::new(), |facts, (id, event)| facts.record(id, event))
    }
}

impl<I: Into<String>, E: Events, const N: usize> From<[(I, E); N]> for Facts {
    fn from(events: [(I, E); N]) -> Self {
        events.into_iter().fold(Self::new(), |facts, (id, event)| facts.record(id, event))
    }
}
