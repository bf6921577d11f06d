//! Events of 200 bytes, and streams of them.

use bytes::Bytes;
use tailfold::{Commit, Event as _, EventData, EventStore, EventType, Expected, Head, NewEvent, StreamId};

use crate::appending;
use crate::harness::Result;
use crate::trade::AccountEvent;

/// Bytes of a payload where nobody decodes it.
const PAYLOAD: usize = 200;

/// An event with a payload of 200 bytes of JSON.
pub(crate) fn sample_event() -> Result<EventData> {
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(PAYLOAD - 11));
    with_metadata("sample.noted", payload.into())
}

/// A small event of a stream that is not the one that is measured.
pub(crate) fn foreign_event(number: u64) -> Result<EventData> {
    with_metadata("foreign.noted", format!("{{\"number\":{number}}}").into())
}

fn with_metadata(event_type: &str, payload: Bytes) -> Result<EventData> {
    let mut data = EventData::new(EventType::new(event_type)?, payload);
    data.metadata = appending::metadata()?;
    Ok(data)
}

/// Appends trades to a stream, one a commit, which number on from its head.
pub(crate) async fn append_singly(
    store: &impl EventStore,
    id: &str,
    mut head: Option<Head>,
    events: u64,
    items: u64,
) -> Result<Option<Head>> {
    let stream = StreamId::new(AccountEvent::CATEGORY, id)?;
    let event_type = EventType::new(AccountEvent::TRADED)?;
    let metadata = appending::metadata()?;
    let first = head.map_or(0, |head| head.version.0);
    for number in first..first + events {
        let mut data = EventData::new(event_type.clone(), AccountEvent::traded(number, items).encode()?);
        data.metadata = metadata.clone();
        let commit = Commit::new(stream.clone(), Expected::from_head(head), vec![NewEvent::new(data)?]);
        head = store.append(commit).await?.writes.first().map(|written| written.head);
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_200_bytes_and_trades_a_few_more() {
        assert_eq!(sample_event().expect("an event").payload.len(), PAYLOAD);
        let trade = AccountEvent::traded(4711, 1000).encode().expect("a trade").len();
        assert!((200..260).contains(&trade), "{trade} bytes");
    }
}
