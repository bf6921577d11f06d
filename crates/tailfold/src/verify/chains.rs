//! Every chain of a log, recomputed in one pass.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::TryStreamExt as _;
use serde::Serialize;

use crate::chain::{Chain, Digest};
use crate::error::Result;
use crate::event::{Position, RecordedEvent};
use crate::filter::Filter;
use crate::store::{Direction, EventStore, Follow, StreamSummary, Tombstone, Truncation, VersionRange};
use crate::stream::{Head, StreamId, Version};

/// What [`verify_chains`] has seen, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Events read, tombstones and markers of truncations included.
    pub events: u64,
    /// Their bytes of payload.
    pub bytes: u64,
    /// Streams that hold events now.
    pub streams: u64,
    /// Lives of streams that ended in a tombstone.
    pub erased: u64,
    /// Streams whose beginning was cut off before an origin: their first event is taken as it is.
    pub truncated: u64,
    /// Everything up to this position was read.
    pub checked_to: Position,
    /// How much is wrong.
    pub damaged: u64,
    /// What is wrong, in the order in which it was found; the first [`Verification::MOST_LISTED`].
    pub damages: Vec<Damage>,
}

/// A place in a log where what is stored contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Damage {
    /// The stream.
    pub stream: StreamId,
    /// Version of the event.
    pub version: Version,
    /// Its position; `None` where there is no event.
    pub position: Option<Position>,
    /// What is wrong there.
    pub fault: Fault,
}

/// What can be wrong with a place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// The chain does not follow from the event before and the event's own bytes: one of them was altered.
    Chain,
    /// Versions have a gap before the event, or it occurs twice.
    Gap,
    /// The position is not higher than the one before.
    Order,
    /// A tombstone that does not follow from the head that it says was erased, or that ends another history.
    Tombstone,
    /// A marker of a truncation that does not follow from the origin that it names, or names one of another history.
    Marker,
    /// A marker of a truncation that was interrupted, or is under way: what it says was cut off may still be there. Nothing is lost;
    /// truncating again completes it.
    Unfinished,
    /// The store's list of streams says something else than its log.
    Head,
}

impl Verification {
    /// Most damages that are listed; all are counted.
    pub const MOST_LISTED: usize = 1000;

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged == 0
    }

    fn report(&mut self, stream: &StreamId, version: Version, position: Option<Position>, fault: Fault) {
        self.damaged += 1;
        if self.damages.len() < Self::MOST_LISTED {
            self.damages.push(Damage { stream: stream.clone(), version, position, fault });
        }
    }
}

/// Recomputes the chain of every stream that matches, from the bytes of its events: first and later lives, whole and
/// truncated streams; then compares the last events with the store's list of streams.
///
/// One pass over the log; memory grows with the number of streams, not of events. Events may be appended meanwhile; a
/// stream that is removed meanwhile may be reported although nothing is wrong with it. `progress` is called after each
/// batch.
///
/// What a chain cannot show: a history that was rewritten as a whole, from some event to its end. Snapshots and copies
/// that were taken before do ([`verify_snapshots`](crate::verify_snapshots)).
///
/// # Errors
/// What the store answers; `Unsupported` if the filter names event types or tags. Damage is a result, not an error.
pub async fn verify_chains(
    store: &(impl EventStore + ?Sized),
    filter: Filter,
    mut progress: impl FnMut(&Verification) + Send,
) -> Result<Verification> {
    let mut seen = Verification::default();
    let mut lives: BTreeMap<StreamId, Life> = BTreeMap::new();
    let mut listed = store.streams(filter.clone(), None);
    // Asked for first, so that a filter that cannot be listed is refused before the long part.
    let mut first_listed = listed.try_next().await?;
    let mut batches = store.read_all(Position::ZERO, filter.clone(), Follow::ToEnd);
    while let Some(batch) = batches.try_next().await? {
        for event in &batch.events {
            if event.position <= seen.checked_to {
                seen.report(&event.stream, event.version, Some(event.position), Fault::Order);
            }
            seen.checked_to = seen.checked_to.max(event.position);
            seen.events += 1;
            seen.bytes += event.data.payload.len() as u64;
            match lives.get_mut(&event.stream) {
                Some(life) => life.follow(event, &mut seen),
                None => {
                    let mut life = Life::first(&event.stream);
                    life.follow(event, &mut seen);
                    lives.insert(event.stream.clone(), life);
                }
            }
        }
        seen.checked_to = seen.checked_to.max(batch.checked_to);
        progress(&seen);
    }
    lives.retain(|_, life| life.head.is_some());
    seen.streams = lives.len() as u64;
    if first_listed.is_some() {
        // The list of before the pass would miss streams that began during it.
        listed = store.streams(filter, None);
        first_listed = listed.try_next().await?;
    }
    while let Some(summaries) = first_listed {
        for summary in summaries {
            let head = lives.remove(&summary.stream).and_then(|life| life.head);
            if head != Some(summary.head) && !grew_meanwhile(store, &summary, head, seen.checked_to).await? {
                seen.report(&summary.stream, summary.head.version, None, Fault::Head);
            }
        }
        first_listed = listed.try_next().await?;
    }
    for (stream, life) in lives {
        // In the log and not in the list.
        if let Some(head) = life.head {
            seen.report(&stream, head.version, None, Fault::Head);
        }
    }
    Ok(seen)
}

/// Whether a listed head goes beyond what the pass saw only by events that came after it.
async fn grew_meanwhile(
    store: &(impl EventStore + ?Sized),
    listed: &StreamSummary,
    seen: Option<Head>,
    checked_to: Position,
) -> Result<bool> {
    let from = seen.map_or(Version::FIRST, |head| head.version);
    let range = VersionRange::from(from).up_to(Some(from.next()));
    let events: Vec<_> = store.read(&listed.stream, range, Direction::Forward).try_concat().await?;
    let mut events = events.into_iter();
    if let Some(seen) = seen
        && events.next().map(|event| event.head()) != Some(seen)
    {
        return Ok(false);
    }
    Ok(events.next().is_some_and(|event| event.position > checked_to))
}

/// One life of a stream, as far as it was followed.
struct Life {
    genesis: Chain,
    /// The first event that is left.
    first: Option<Head>,
    head: Option<Head>,
}

impl Life {
    fn first(stream: &StreamId) -> Self {
        Self::after(Chain::genesis(stream))
    }

    fn after(genesis: Chain) -> Self {
        Self { genesis, first: None, head: None }
    }

    fn follow(&mut self, event: &RecordedEvent, seen: &mut Verification) {
        let digest = Digest::of(&event.data);
        let mut wrong = |fault| seen.report(&event.stream, event.version, Some(event.position), fault);
        if event.data.event_type.is_tombstone() {
            // The events before it are gone; what it says of them is all that is left.
            let follows = Tombstone::from_event(event).is_ok_and(|tombstone| {
                event.head() == next(tombstone.erased, digest)
                    && self.head.is_none_or(|head| head == tombstone.erased)
            });
            if !follows {
                wrong(Fault::Tombstone);
            }
            *self = Self::after(Chain::genesis_after(&event.stream, event.chain));
            seen.erased += 1;
            return;
        }
        if event.data.event_type.is_truncation() {
            // It names the stream's first event, unless a release that knew no markers has cut off more.
            let Ok(truncation) = Truncation::from_event(event) else { return wrong(Fault::Marker) };
            let origin = truncation.origin();
            let follows = event.head() == truncation.place(&event.data)
                && self.first.is_none_or(|first| first == origin || first.version != origin.version);
            if !follows {
                wrong(Fault::Marker);
            } else if truncation.is_pending()
                || self.first.is_some_and(|first| first.version < origin.version)
            {
                wrong(Fault::Unfinished);
            }
            return;
        }
        let before = self.head.unwrap_or(Head { version: Version::ZERO, chain: self.genesis });
        let cut_off = self.head.is_none() && event.version > Version::FIRST && event.data.origin;
        if !cut_off {
            if event.version != before.version.next() {
                wrong(Fault::Gap);
            } else if event.head() != next(before, digest) {
                wrong(Fault::Chain);
            }
        } else {
            seen.truncated += 1;
        }
        self.first = self.first.or(Some(event.head()));
        // Goes on from what is stored, so that one altered event is one damage.
        self.head = Some(event.head());
    }
}

fn next(head: Head, digest: Digest) -> Head {
    Head { version: head.version.next(), chain: head.chain.link(digest) }
}

impl Fault {
    /// The name in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Gap => "gap",
            Self::Order => "order",
            Self::Tombstone => "tombstone",
            Self::Marker => "marker",
            Self::Unfinished => "unfinished",
            Self::Head => "head",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chain => "its chain does not follow from the event before and its own bytes",
            Self::Gap => "versions have a gap before it",
            Self::Order => "its position is not higher than the one before",
            Self::Tombstone => "it does not follow from the head that it says was erased",
            Self::Marker => "it does not follow from the origin that it says the stream begins with",
            Self::Unfinished => "a truncation before it is under way or was interrupted: truncate again",
            Self::Head => "the list of streams and the log name different last events",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream `{}` version {}", self.stream, self.version)?;
        if let Some(position) = self.position {
            write!(f, " (position {position})")?;
        }
        write!(f, ": {}", self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Commit, EventData, EventType, Expected, MemoryStore, NewEvent, Removal, Timestamp};

    async fn append(store: &MemoryStore, stream: &str, events: usize) {
        let event = |index| {
            let mut data = EventData::new(EventType::new("counted").unwrap(), format!("{index}"));
            data.origin = index % 3 == 2;
            NewEvent::new(data).unwrap()
        };
        let events = (0..events).map(event).collect();
        store.append(Commit::new(stream.parse().unwrap(), Expected::Any, events)).await.unwrap();
    }

    #[tokio::test]
    async fn second_lives_and_truncated_streams_verify() {
        let store = MemoryStore::new();
        for stream in ["a/1", "a/2", "a/3"] {
            append(&store, stream, 5).await;
        }
        let now = Timestamp::from_micros(0);
        for _ in 0..2 {
            store.remove(&"a/1".parse().unwrap(), Removal::erase(now)).await.unwrap();
            append(&store, "a/1", 4).await;
        }
        store.remove(&"a/2".parse().unwrap(), Removal::before_origin(3, now)).await.unwrap();
        append(&store, "a/2", 2).await;
        let mut batches = 0;
        let seen = verify_chains(&store, Filter::all(), |_| batches += 1).await.unwrap();
        assert!(seen.is_sound(), "{seen:?}");
        assert_eq!((seen.streams, seen.erased, seen.truncated), (3, 2, 1));
        assert_eq!(seen.events, 4 + 2 + 3 + 1 + 2 + 5);
        assert!(batches > 0);
    }

    /// A marker beside events that it says were cut off, and one that was recorded before they were.
    #[tokio::test]
    async fn an_interrupted_truncation_is_told() {
        let store = MemoryStore::new();
        append(&store, "a/1", 5).await;
        let stream: StreamId = "a/1".parse().unwrap();
        let events: Vec<RecordedEvent> =
            store.read(&stream, VersionRange::ALL, Direction::Forward).try_concat().await.unwrap();
        let origin = events[2].head();
        let marker = |pending| {
            let truncation = Truncation::begin(&stream, origin, None).finish().with_pending(pending);
            let data = truncation.event(crate::EventId::fresh(), Timestamp::from_micros(0)).unwrap();
            let Head { version, chain } = truncation.place(&data);
            RecordedEvent { position: Position(9), stream: stream.clone(), version, chain, data }
        };
        for (from, pending, fault) in [
            (0, true, Some(Fault::Unfinished)),
            (0, false, Some(Fault::Unfinished)),
            (2, true, Some(Fault::Unfinished)),
            (2, false, None),
        ] {
            let (mut seen, mut life) = (Verification::default(), Life::first(&stream));
            events[from..].iter().chain([&marker(pending)]).for_each(|event| life.follow(event, &mut seen));
            assert_eq!(seen.damages.first().map(|damage| damage.fault), fault, "{from} {pending}");
        }
    }

    #[test]
    fn one_altered_event_is_one_damage() {
        let stream: StreamId = "a/1".parse().unwrap();
        let mut chain = Chain::genesis(&stream);
        let mut events: Vec<RecordedEvent> = (1..=5)
            .map(|n| {
                let data = EventData::new(EventType::new("counted").unwrap(), format!("{n}"));
                chain = chain.link(Digest::of(&data));
                RecordedEvent {
                    position: Position(n),
                    stream: stream.clone(),
                    version: Version(n),
                    chain,
                    data,
                }
            })
            .collect();
        events[2].data.payload = "4".into();
        let mut seen = Verification::default();
        let mut life = Life::first(&stream);
        events.iter().for_each(|event| life.follow(event, &mut seen));
        assert_eq!(seen.damaged, 1);
        let damage = &seen.damages[0];
        assert_eq!((damage.version, damage.fault), (Version(3), Fault::Chain));

        events.remove(1);
        let mut seen = Verification::default();
        let mut life = Life::first(&stream);
        events.iter().for_each(|event| life.follow(event, &mut seen));
        assert_eq!(seen.damages[0].fault, Fault::Gap);
    }
}
