//! Which events a read of the log wants.

use serde::{Deserialize, Serialize};

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::event::{EventType, RecordedEvent, Tag};
use crate::schema::EventSource;
use crate::stream::StreamId;

/// A query over the events of many streams: one or several clauses, of which at least one must match.
///
/// In a clause, each dimension that is given must match: any of the categories, any of the event types, any of the
/// streams, *all* of the tags. A tombstone, and the marker of a truncation, match a clause by category and stream alone,
/// whatever the types and tags, so that whoever has folded events of a stream learns that they are gone. A clause of tags
/// alone therefore matches all of these.
///
/// ```
/// use tailfold::{EventType, Filter, Tag};
/// let filter = Filter::category("course")
///     .and_types([EventType::new("course.booked")?])
///     .and_tag(Tag::new("course:42")?)
///     .or(Filter::category("student").and_tag(Tag::new("student:7")?));
/// assert_eq!(filter.clauses().len(), 2);
/// # Ok::<(), tailfold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    clauses: Vec<Clause>,
}

/// One conjunction of a [`Filter`]. An empty dimension does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clause {
    /// Any of these categories.
    pub categories: Vec<String>,
    /// Any of these event types.
    pub types: Vec<EventType>,
    /// Any of these streams.
    pub streams: Vec<StreamId>,
    /// All of these tags.
    pub tags: Vec<Tag>,
}

impl Filter {
    /// Every event.
    pub fn all() -> Self {
        Self { clauses: vec![Clause::default()] }
    }

    /// Events of one category.
    pub fn category(category: impl Into<String>) -> Self {
        Self { clauses: vec![Clause { categories: vec![category.into()], ..Clause::default() }] }
    }

    /// Events of one stream.
    pub fn stream(stream: StreamId) -> Self {
        Self { clauses: vec![Clause { streams: vec![stream], ..Clause::default() }] }
    }

    /// Events that bear a tag.
    pub fn tag(tag: Tag) -> Self {
        Self { clauses: vec![Clause { tags: vec![tag], ..Clause::default() }] }
    }

    /// Restricts every clause to these event types.
    #[must_use]
    pub fn and_types(mut self, types: impl IntoIterator<Item = EventType>) -> Self {
        let types: Vec<_> = types.into_iter().collect();
        self.clauses.iter_mut().for_each(|clause| clause.types.extend(types.iter().cloned()));
        self
    }

    /// Restricts every clause to events that bear the tag.
    #[must_use]
    pub fn and_tag(mut self, tag: Tag) -> Self {
        self.clauses.iter_mut().for_each(|clause| clause.tags.push(tag.clone()));
        self
    }

    /// The same filter, of these kinds of events alone; a clause for each category, whose types are in order.
    ///
    /// # Errors
    /// `Invalid` if nothing is left: the filter names categories, streams or types of other kinds.
    pub(crate) fn restricted_to(&self, sources: &[EventSource]) -> Result<Self> {
        let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for source in sources {
            kinds.entry(source.category).or_default().extend(source.schemas.iter().map(|schema| schema.name));
        }
        let mut clauses = Vec::new();
        for clause in &self.clauses {
            for (category, types) in &kinds {
                if !clause.categories.is_empty() && !clause.categories.iter().any(|named| named == category) {
                    continue;
                }
                let streams: Vec<_> =
                    clause.streams.iter().filter(|stream| stream.category() == *category).cloned().collect();
                let types = types
                    .iter()
                    .filter(|name| {
                        clause.types.is_empty() || clause.types.iter().any(|named| named.as_str() == **name)
                    })
                    .map(|name| EventType::new(name))
                    .collect::<Result<Vec<_>>>()?;
                if types.is_empty() || (streams.is_empty() && !clause.streams.is_empty()) {
                    continue;
                }
                let categories = vec![(*category).to_owned()];
                clauses.push(Clause { categories, types, streams, tags: clause.tags.clone() });
            }
        }
        if clauses.is_empty() {
            return Err(Error::invalid("the query selects none of the events that the projection handles"));
        }
        Ok(Self { clauses })
    }

    /// The same filter, of tombstones and markers of truncations alone.
    pub(crate) fn removals_only(mut self) -> Result<Self> {
        let types = [EventType::new(EventType::TOMBSTONE)?, EventType::new(EventType::TRUNCATED)?];
        for clause in &mut self.clauses {
            clause.types = types.to_vec();
            clause.tags.clear();
        }
        Ok(self)
    }

    /// Events that match this filter or the other.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.clauses.extend(other.clauses);
        self
    }

    /// The clauses, for stores that evaluate them by an index.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// Whether an event matches: what every store's own evaluation must agree with.
    pub fn matches(&self, event: &RecordedEvent) -> bool {
        self.clauses.iter().any(|clause| clause.matches(event))
    }

    /// Whether a stream matches, leaving event types and tags aside.
    pub fn matches_stream(&self, stream: &StreamId) -> bool {
        self.clauses.iter().any(|clause| clause.matches_stream(stream))
    }

    /// Whether some clause restricts event types or tags.
    pub fn restricts_events(&self) -> bool {
        self.clauses.iter().any(|clause| !clause.types.is_empty() || !clause.tags.is_empty())
    }
}

impl Clause {
    /// Whether an event matches all dimensions.
    pub fn matches(&self, event: &RecordedEvent) -> bool {
        let data = &event.data;
        self.matches_stream(&event.stream)
            && (data.event_type.tells_of_removal()
                || ((self.types.is_empty() || self.types.contains(&data.event_type))
                    && self.tags.iter().all(|tag| data.tags.contains(tag))))
    }

    /// Whether a stream matches, leaving event types and tags aside.
    pub fn matches_stream(&self, stream: &StreamId) -> bool {
        (self.categories.is_empty() || self.categories.iter().any(|category| category == stream.category()))
            && (self.streams.is_empty() || self.streams.contains(stream))
    }
}
