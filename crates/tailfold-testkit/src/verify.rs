//! Chains, recomputed from a log by whoever does not trust the store that computed them.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use tailfold::{
    Chain, Digest, Error, EventStore, EventStoreExt as _, Filter, Follow, Head, Position, RecordedEvent,
    Result, StreamId, Tombstone, Version,
};

/// What [`verify_chain`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifiedChains {
    /// Events, tombstones included.
    pub events: u64,
    /// Streams that hold events now.
    pub streams: u64,
    /// Lives that ended in a tombstone.
    pub erased: u64,
    /// Streams whose beginning was cut off, so that their chain is trusted at the first event that is left.
    pub truncated: u64,
}

/// Recomputes the chain of every stream from the log, second lives and truncated streams included, and compares the
/// last one with the store's list of heads. Nobody may write meanwhile. Memory grows with the number of streams.
///
/// # Errors
/// `Corrupt`, naming the event, at the first difference; and what the store answers.
pub async fn verify_chain<S: EventStore + ?Sized>(store: &S) -> Result<VerifiedChains> {
    verify_chain_where(store, Filter::all()).await
}

/// As [`verify_chain`], for the streams that match.
///
/// # Errors
/// As [`verify_chain`]; `Unsupported` if the filter names event types or tags.
pub async fn verify_chain_where<S: EventStore + ?Sized>(store: &S, filter: Filter) -> Result<VerifiedChains> {
    let mut seen = VerifiedChains::default();
    let mut lives: BTreeMap<StreamId, Life> = BTreeMap::new();
    let mut last = Position::ZERO;
    let mut batches = store.read_all(Position::ZERO, filter.clone(), Follow::ToEnd);
    while let Some(batch) = batches.try_next().await? {
        for event in batch.events {
            if event.position <= last {
                return Err(wrong(&event, "its position is not higher than the one before"));
            }
            last = event.position;
            seen.events += 1;
            let life = lives.entry(event.stream.clone()).or_insert_with(|| Life::first(&event.stream));
            life.follow(&event, &mut seen)?;
        }
    }
    lives.retain(|_, life| life.head.is_some());
    seen.streams = lives.len() as u64;
    let listed = store.streams_to_vec(filter).await?;
    for summary in &listed {
        if lives.get(&summary.stream).and_then(|life| life.head) != Some(summary.head) {
            return Err(Error::corrupt(format!(
                "stream `{}`: its head {} is not the last event of the log",
                summary.stream, summary.head
            )));
        }
    }
    if listed.len() as u64 != seen.streams {
        let message = format!("{} streams are listed, {} are in the log", listed.len(), seen.streams);
        return Err(Error::corrupt(message));
    }
    Ok(seen)
}

struct Life {
    genesis: Chain,
    head: Option<Head>,
}

impl Life {
    fn first(stream: &StreamId) -> Self {
        Self { genesis: Chain::genesis(stream), head: None }
    }

    fn follow(&mut self, event: &RecordedEvent, seen: &mut VerifiedChains) -> Result<()> {
        let digest = Digest::of(&event.data);
        if event.data.event_type.is_tombstone() {
            // Its events are gone, so the head before it is what the tombstone says.
            let erased = Tombstone::from_event(event)?.erased;
            if event.head() != next(erased, digest) {
                return Err(wrong(event, "it does not follow the head that it says was erased"));
            }
            if self.head.is_some_and(|head| head != erased) {
                return Err(wrong(event, "it ends another history than the log holds"));
            }
            seen.erased += 1;
            *self = Self { genesis: Chain::genesis_after(&event.stream, event.chain), head: None };
            return Ok(());
        }
        let before = self.head.unwrap_or(Head { version: Version::ZERO, chain: self.genesis });
        let cut_off = self.head.is_none() && event.version > Version::FIRST;
        if cut_off && event.data.origin {
            seen.truncated += 1;
        } else if event.version != before.version.next() {
            return Err(wrong(event, "versions have a gap before it"));
        } else if event.head() != next(before, digest) {
            return Err(wrong(event, "its chain does not follow from the event before and its own bytes"));
        }
        self.head = Some(event.head());
        Ok(())
    }
}

fn next(head: Head, digest: Digest) -> Head {
    Head { version: head.version.next(), chain: head.chain.link(digest) }
}

fn wrong(event: &RecordedEvent, what: &str) -> Error {
    Error::corrupt(what).during(format!(
        "verify version {} of stream `{}` at position {}",
        event.version, event.stream, event.position
    ))
}

#[cfg(test)]
mod tests {
    use tailfold::{
        Commit, EventData, EventType, Expected, MemoryStore, NewEvent, Removal, Timestamp, VersionRange,
    };

    use super::*;

    async fn recorded(store: &MemoryStore, stream: &StreamId, origin_at: u64) -> Vec<RecordedEvent> {
        let event = |number: u64| {
            let mut data = EventData::new(EventType::new("counted").unwrap(), number.to_string());
            data.origin = number == origin_at;
            NewEvent::new(data).unwrap()
        };
        let commit = Commit::new(stream.clone(), Expected::NoStream, (1..=5).map(event).collect());
        store.append(commit).await.unwrap();
        store.read_to_vec(stream, VersionRange::ALL).await.unwrap()
    }

    fn follow(events: &[RecordedEvent]) -> Result<()> {
        let mut life = Life::first(&events[0].stream);
        events.iter().try_for_each(|event| life.follow(event, &mut VerifiedChains::default()))
    }

    #[tokio::test]
    async fn any_change_of_a_history_is_found() {
        let events = recorded(&MemoryStore::new(), &"a/1".parse().unwrap(), 4).await;
        follow(&events).unwrap();
        follow(&events[3..]).unwrap();
        assert!(follow(&events[1..]).is_err(), "a beginning that is no origin");
        let changes: [fn(&mut Vec<RecordedEvent>); 5] = [
            |events| drop(events.remove(2)),
            |events| events.swap(1, 2),
            |events| events[4].chain = events[3].chain,
            |events| events[2].data.payload = "6".into(),
            |events| events[0].data.recorded_at = Timestamp::from_micros(0),
        ];
        for change in changes {
            let mut changed = events.clone();
            change(&mut changed);
            assert!(follow(&changed).unwrap_err().to_string().starts_with("verify version "));
        }
    }

    #[tokio::test]
    async fn second_lives_and_truncated_streams_are_counted() {
        let store = MemoryStore::new();
        let [erased, again, truncated] = ["a/1", "a/2", "a/3"].map(|name| name.parse::<StreamId>().unwrap());
        for stream in [&erased, &again, &truncated] {
            recorded(&store, stream, 3).await;
        }
        for stream in [&erased, &again] {
            store.remove(stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
        }
        recorded(&store, &again, 3).await;
        store.remove(&truncated, Removal::BeforeOrigin(Version(3))).await.unwrap();
        let expected = VerifiedChains { events: 1 + 1 + 5 + 3, streams: 2, erased: 2, truncated: 1 };
        assert_eq!(verify_chain(&store).await.unwrap(), expected);
    }
}
