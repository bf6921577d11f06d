//! What the cases share: names of their own, events to record, and the comparison of what comes back.

pub(super) use std::collections::{BTreeMap, BTreeSet};
pub(super) use std::future::Future;
pub(super) use std::ops::RangeInclusive;
pub(super) use std::sync::Arc;
pub(super) use std::time::Duration;

pub(super) use bytes::Bytes;
pub(super) use futures_util::TryStreamExt as _;
pub(super) use futures_util::future::join_all;
pub(super) use tailfold::*;

pub(super) type Events = Arc<dyn EventStore>;
pub(super) type Snapshots = Arc<dyn SnapshotStore>;

/// A random category, so that cases can run side by side on one server.
#[derive(Clone)]
pub(super) struct Space {
    category: String,
}

impl Space {
    pub(super) fn fresh() -> Self {
        Self { category: format!("t-{}", EventId::fresh()) }
    }

    pub(super) fn category(&self) -> &str {
        &self.category
    }

    pub(super) fn stream(&self, id: &str) -> StreamId {
        StreamId::new(&self.category, id).unwrap()
    }

    pub(super) fn filter(&self) -> Filter {
        Filter::category(&self.category)
    }

    pub(super) fn tag(&self, text: &str) -> Tag {
        Tag::new(&format!("{}:{text}", self.category)).unwrap()
    }

    /// A slot of a fold that no other case uses.
    pub(super) fn slot(&self, fold: &str, serial: u64, key: &str) -> Slot {
        Slot::new(&self.fold(fold), serial_of(serial), &format!("{}/{key}", self.category)).unwrap()
    }

    pub(super) fn fold(&self, fold: &str) -> String {
        format!("{fold}-{}", self.category)
    }
}

pub(super) fn serial_of(number: u64) -> Serial {
    format!("{number:016x}").parse().unwrap()
}

/// An event whose payload tells its number.
pub(super) fn fact(number: u64) -> NewEvent {
    fact_with(number, |_| ())
}

pub(super) fn fact_with(number: u64, change: impl FnOnce(&mut EventData)) -> NewEvent {
    let mut data = EventData::new(event_type("test.counted"), format!("{{\"number\":{number}}}"));
    data.recorded_at = Timestamp::from_micros(1_700_000_000_000_000 + number as i64);
    change(&mut data);
    NewEvent::new(data).unwrap()
}

pub(super) fn facts(numbers: RangeInclusive<u64>) -> Vec<NewEvent> {
    numbers.map(fact).collect()
}

pub(super) fn event_type(name: &str) -> EventType {
    EventType::new(name).unwrap()
}

/// Records events at the head of a stream, in as few commits as possible.
pub(super) async fn record(store: &Events, stream: &StreamId, events: &[NewEvent]) -> Head {
    let mut head = store.head(stream).await.unwrap();
    for events in events.chunks(Commit::MAX_EVENTS) {
        let commit = Commit::new(stream.clone(), Expected::from_head(head), events.to_vec());
        head = Some(store.append(commit).await.unwrap().writes[0].head);
    }
    head.unwrap()
}

/// Records as many events as more than one batch of a read holds, in many commits.
pub(super) async fn record_many(store: &Events, stream: &StreamId, events: &[NewEvent]) {
    for events in events.chunks(100) {
        record(store, stream, events).await;
    }
}

pub(super) async fn read(store: &Events, stream: &StreamId) -> Vec<RecordedEvent> {
    store.read_to_vec(stream, VersionRange::ALL).await.unwrap()
}

pub(super) async fn read_range(
    store: &Events,
    stream: &StreamId,
    range: VersionRange,
    direction: Direction,
) -> Vec<RecordedEvent> {
    store.read(stream, range, direction).try_concat().await.unwrap()
}

pub(super) async fn log(store: &Events, after: Position, filter: Filter) -> Vec<RecordedEvent> {
    store.read_all_to_vec(after, filter).await.unwrap()
}

/// As [`log`], without what other cases on the same server left: their tombstones and markers match a filter by tag alone.
pub(super) async fn log_of(
    store: &Events,
    spaces: &[&Space],
    after: Position,
    filter: Filter,
) -> Vec<RecordedEvent> {
    let ours = |event: &RecordedEvent| spaces.iter().any(|space| space.category == event.stream.category());
    log(store, after, filter).await.into_iter().filter(ours).collect()
}

/// What the log holds of one stream after a position, by that filter; `None` where the store cannot find
/// events by tag.
pub(super) async fn log_of_stream(
    store: &Events,
    stream: &StreamId,
    after: Position,
    filter: Filter,
) -> Option<Vec<RecordedEvent>> {
    let by_tag = filter.clauses().iter().any(|clause| !clause.tags.is_empty());
    let mut found = store.read_all_to_vec(after, filter).await;
    if by_tag && !store.capabilities().tag_index && found.is_err() {
        assert_unsupported(found);
        return None;
    }
    found.as_mut().unwrap().retain(|event| event.stream == *stream);
    found.ok()
}

/// Goes on with a read whose events are removed meanwhile: it gives what was there when it began, whole and
/// in order, or an error that says that the same read may be tried again. Never less, and never what was
/// recorded since.
pub(super) async fn assert_whole_or_failed(
    mut seen: Vec<RecordedEvent>,
    mut rest: EventBatches,
    expected: &[RecordedEvent],
) {
    loop {
        match rest.try_next().await {
            Ok(Some(batch)) => seen.extend(batch),
            Ok(None) => {
                let (read, all) = (seen.len(), expected.len());
                assert_eq!(
                    read, all,
                    "a read beside a removal ended without an error after {read} of {all} events"
                );
                break;
            }
            Err(error) => {
                let again = ErrorKind::Unavailable(Outcome::NotDone);
                assert_eq!(error.kind(), &again, "the kind of a read whose events were removed: {error}");
                break;
            }
        }
    }
    let begun_in = &expected[..seen.len().min(expected.len())];
    assert_events(&seen, begun_in, "a read beside a removal, of what was there when it began");
}

/// Appends a commit with a boundary, past the tombstones and markers of other cases on the same server.
pub(super) async fn append_in(store: &Events, space: &Space, mut commit: Commit) -> Result<Committed> {
    loop {
        let result = store.append(commit.clone()).await;
        let Err(error) = &result else { return result };
        let ErrorKind::Conflict(Conflict::Changed { position }) = *error.kind() else { return result };
        let mut batches = store.read_all(Position(position.0 - 1), Filter::all(), Follow::ToEnd);
        let event = batches.try_next().await.unwrap().unwrap().events.remove(0);
        let foreign = event.data.event_type.tells_of_removal() && event.stream.category() != space.category;
        match &mut commit.unchanged {
            Some(unchanged) if foreign && event.position == position => unchanged.after = position,
            _ => return result,
        }
    }
}

/// The stream holds exactly these events, byte for byte, and nothing was erased before them.
pub(super) async fn assert_history(
    store: &Events,
    stream: &StreamId,
    expected: &[NewEvent],
) -> Vec<RecordedEvent> {
    let events = read(store, stream).await;
    assert_follows(&events, stream, Head { version: Version::ZERO, chain: Chain::genesis(stream) }, expected);
    assert_eq!(
        store.head(stream).await.unwrap(),
        events.last().map(RecordedEvent::head),
        "head of `{stream}`"
    );
    events
}

/// The events are exactly these, byte for byte, follow a head without gaps, and their chain is what anybody computes.
pub(super) fn assert_follows(events: &[RecordedEvent], stream: &StreamId, base: Head, expected: &[NewEvent]) {
    assert_eq!(events.len(), expected.len(), "number of events of `{stream}` after version {}", base.version);
    let (mut head, mut position) = (base, Position::ZERO);
    for (event, expected) in events.iter().zip(expected) {
        head = Head { version: head.version.next(), chain: head.chain.link(expected.digest()) };
        assert_eq!(&event.stream, stream);
        assert_eq!(event.version, head.version, "version in `{stream}`");
        assert_eq!(&event.data, expected.data(), "version {} of `{stream}`", head.version);
        assert_eq!(event.chain, head.chain, "chain at version {} of `{stream}`", head.version);
        assert!(event.position > position, "position of version {} of `{stream}`", head.version);
        position = event.position;
    }
}

/// The append was refused because of that stream, whose head is told.
pub(super) fn assert_conflict<T: std::fmt::Debug>(
    result: Result<T>,
    stream: &StreamId,
    actual: Option<Head>,
) {
    let error = result.expect_err("must be a conflict");
    let expected = ErrorKind::Conflict(Conflict::Stream { stream: stream.clone(), actual });
    // The kind is non-exhaustive for users, so that this comparison is by value.
    assert_eq!(error.kind(), &expected, "{error}");
}

pub(super) fn assert_changed<T: std::fmt::Debug>(result: Result<T>, position: Position) {
    let error = result.expect_err("must be a conflict");
    assert_eq!(error.kind(), &ErrorKind::Conflict(Conflict::Changed { position }), "{error}");
}

pub(super) fn assert_invalid<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.expect_err("must be invalid");
    assert_eq!(error.kind(), &ErrorKind::Invalid, "{error}");
}

/// What a store says it cannot do, it refuses: never a silent no-op.
pub(super) fn assert_unsupported<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.expect_err("must be unsupported");
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
}

/// Runs all of them at the same time, on as many threads as there are.
pub(super) async fn at_once<T, F>(tasks: impl IntoIterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::new();
    for result in join_all(tasks).await {
        results.push(result.unwrap_or_else(|error| fail_as(error)));
    }
    results
}

/// Waits for a task of the case, and fails as it has failed: what that was about is told, and not that a task
/// ended.
pub(super) async fn joined<T>(task: tokio::task::JoinHandle<T>) -> T {
    task.await.unwrap_or_else(|error| fail_as(error))
}

fn fail_as(error: tokio::task::JoinError) -> ! {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => panic!("a task of the case did not end by itself: {error}"),
    }
}

/// The events are exactly these, in this order; fails with the first that is missing, too many, or another
/// one.
pub(super) fn assert_events(seen: &[RecordedEvent], expected: &[RecordedEvent], what: &str) {
    let differ = |index: &usize| seen.get(*index) != expected.get(*index);
    let Some(index) = (0..seen.len().max(expected.len())).find(differ) else { return };
    let told = |event: Option<&RecordedEvent>| match event {
        Some(event) => {
            format!("version {} of `{}` at position {}", event.version, event.stream, event.position)
        }
        None => "nothing".to_owned(),
    };
    let (found, wanted) = (seen.get(index), expected.get(index));
    let (found, wanted, counts) = (told(found), told(wanted), (seen.len(), expected.len()));
    if found == wanted {
        panic!(
            "{what}: event {index}, {found}, has other contents: {:?} instead of {:?}",
            seen[index], expected[index]
        );
    }
    panic!(
        "{what}: {} events where {} are recorded; after {index} that are right came {found}, not {wanted}",
        counts.0, counts.1
    );
}

/// Fails where something waits that must not.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(result) => result,
        Err(_) => panic!("{what} took more than 30 seconds"),
    }
}
