//! Event stores that answer wrongly: what they say is refused, and never reaches a snapshot.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tailfold::{
    Capabilities, Commit, Committed, Direction, ErrorKind, Event, EventBatches, EventMeta, EventStore,
    EventStoreExt as _, Filter, Fold, Follow, Head, LogBatches, MemoryStore, Outcome, Position, Projection,
    RecordedEvent, Removal, Removed, Repository, Result, Retry, Rule, SlotFilter, SnapshotAndTail,
    SnapshotConfig, SnapshotStoreExt as _, State, StoreId, StreamBatches, StreamId, Tag, VersionRange,
};

/// Answers reads of one stream with something missing, or loses acknowledgements of appends.
#[derive(Clone, Debug)]
struct Wrong {
    inner: MemoryStore,
    way: Arc<AtomicU8>,
    acknowledgements_lost: Arc<AtomicU8>,
    /// Whether the commit is lost as well.
    before: bool,
    /// Appends that nobody takes, after those whose acknowledgements are lost.
    refused: Arc<AtomicU8>,
}

impl Wrong {
    fn new() -> Self {
        Self {
            inner: MemoryStore::new(),
            way: Arc::default(),
            acknowledgements_lost: Arc::default(),
            before: false,
            refused: Arc::default(),
        }
    }
}

const RIGHT: u8 = 0;
const WITHOUT_THE_SEVENTH: u8 = 1;
const WITHOUT_THE_FIRST: u8 = 2;
const TWICE: u8 = 3;
const FAILING_IN_THE_MIDDLE: u8 = 4;

#[async_trait]
impl EventStore for Wrong {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn store_id(&self) -> Result<StoreId> {
        self.inner.store_id().await
    }

    async fn append(&self, commit: Commit) -> Result<Committed> {
        let one_less = |left: u8| left.checked_sub(1);
        let lost =
            self.acknowledgements_lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        let broken = || tailfold::Error::unavailable(Outcome::Unknown, "broken pipe");
        if lost && self.before {
            return Err(broken());
        }
        if !lost && self.refused.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Err(tailfold::Error::unavailable(Outcome::NotDone, "nobody is there"));
        }
        let committed = self.inner.append(commit).await?;
        if lost { Err(broken()) } else { Ok(committed) }
    }

    fn read(&self, stream: &StreamId, range: VersionRange, direction: Direction) -> EventBatches {
        let way = self.way.load(Ordering::SeqCst);
        let lose = move |batch: Vec<RecordedEvent>| match way {
            WITHOUT_THE_SEVENTH => Ok(batch.into_iter().filter(|event| event.version.0 != 7).collect()),
            WITHOUT_THE_FIRST => Ok(batch.into_iter().filter(|event| event.version.0 != 1).collect()),
            TWICE => Ok(batch.into_iter().flat_map(|event| [event.clone(), event]).collect()),
            FAILING_IN_THE_MIDDLE => Err(tailfold::Error::unavailable(Outcome::NotDone, "gone")),
            _ => Ok(batch),
        };
        let batches = self.inner.read(stream, range, direction);
        Box::pin(batches.and_then(move |batch| std::future::ready(lose(batch))))
    }

    fn read_all(&self, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        self.inner.read_all(after, filter, follow)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        self.inner.head(stream).await
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        self.inner.streams(filter, after)
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed> {
        self.inner.remove(stream, removal).await
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        None
    }
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    Added { amount: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "counter")]
struct Counter {
    total: u64,
}

impl Fold for Counter {
    type Event = CounterEvent;

    fn apply(&mut self, CounterEvent::Added { amount }: CounterEvent, _: &EventMeta<'_>) {
        self.total += amount;
    }
}

#[tokio::test]
async fn reads_with_gaps_repeats_or_errors_fail_the_load_and_never_reach_a_snapshot() {
    let snapshots = MemoryStore::new();
    let store = Wrong::new();
    let config = SnapshotConfig { policy: Rule::Every(5), checkpoint_events: 1, ..Default::default() };
    let repository = Repository::<Counter>::events_only(store.clone())
        .snapshots(config)
        .snapshots_in(snapshots.clone())
        .build()
        .unwrap();
    let writer = Repository::<Counter>::builder(store.inner.clone()).build().unwrap();
    let empty = writer.load("1").await.unwrap();
    writer
        .append(empty, (1..=20).map(|amount| CounterEvent::Added { amount }).collect::<Vec<_>>())
        .await
        .unwrap();

    for (way, kind) in [
        (WITHOUT_THE_SEVENTH, ErrorKind::Corrupt),
        (WITHOUT_THE_FIRST, ErrorKind::Corrupt),
        (TWICE, ErrorKind::Corrupt),
        (FAILING_IN_THE_MIDDLE, ErrorKind::Unavailable(Outcome::NotDone)),
    ] {
        store.way.store(way, Ordering::SeqCst);
        let error = repository.load("1").await.unwrap_err();
        assert_eq!(*error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with("load `counter/1`: "), "{error}");
        assert!(
            repository
                .execute("1", |_: &Counter| Ok::<_, ()>(CounterEvent::Added { amount: 1 }))
                .await
                .is_err()
        );
        repository.flush().await;
    }
    store.way.store(RIGHT, Ordering::SeqCst);
    assert_eq!(snapshots.count(SlotFilter::all()).await.unwrap().snapshots, 0);
    assert_eq!(repository.load("1").await.unwrap().state().total, 210);
    repository.flush().await;
    assert_eq!(snapshots.count(SlotFilter::all()).await.unwrap().snapshots, 1);

    // The tail after a snapshot is read with the same care.
    store.way.store(TWICE, Ordering::SeqCst);
    assert_eq!(*repository.load("1").await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// An append whose acknowledgement is lost is settled by sending the same commit again; the decision runs once.
#[tokio::test]
async fn an_unknown_outcome_is_settled_without_deciding_again() {
    for before in [true, false] {
        let store = Wrong { acknowledgements_lost: Arc::new(AtomicU8::new(3)), before, ..Wrong::new() };
        let repository = Repository::<Counter>::events_only(store.clone()).build().unwrap();
        let runs = AtomicU8::new(0);
        let receipt = repository
            .execute("1", |_: &Counter| {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok::<_, ()>([CounterEvent::Added { amount: 1 }, CounterEvent::Added { amount: 2 }])
            })
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (runs.load(Ordering::SeqCst), receipt.state().total, receipt.is_repeated()),
            (1, 3, !before)
        );
        let loaded = repository.load("1").await.unwrap();
        assert_eq!((loaded.state().total, loaded.version().0), (3, 2));
        // With no answer at all the caller learns that the outcome is unknown, and nothing was decided twice.
        store.acknowledgements_lost.store(u8::MAX, Ordering::SeqCst);
        let error = repository
            .execute("1", |_: &Counter| Ok::<_, ()>(CounterEvent::Added { amount: 1 }))
            .await
            .unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
    }
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "seat")]
enum SeatEvent {
    #[event(tag = "seat:{seat}")]
    Taken {
        seat: u64,
    },
    Noted,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "seat", projection)]
struct Seat {
    taken: bool,
}

impl Fold for Seat {
    type Event = SeatEvent;

    fn apply(&mut self, _: SeatEvent, _: &EventMeta<'_>) {
        self.taken = true;
    }
}

impl Projection for Seat {
    type Key = u64;

    fn query(seat: &u64) -> Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("seat:{seat}"))?))
    }
}

/// A decision over many streams expects no heads: it neither runs into its own facts nor records them twice.
#[tokio::test]
async fn a_decision_whose_acknowledgement_is_lost_is_made_once() {
    for before in [true, false] {
        let store = Wrong { acknowledgements_lost: Arc::new(AtomicU8::new(3)), before, ..Wrong::new() };
        let seats = Repository::<Seat>::events_only(store.clone()).build().unwrap();
        let take = async |id: &str| {
            seats
                .decide(7_u64, |seat| match seat.taken {
                    true => Err("taken"),
                    false => Ok([
                        (id.to_owned(), SeatEvent::Taken { seat: 7 }),
                        ("log".to_owned(), SeatEvent::Noted),
                    ]),
                })
                .await
                .unwrap()
        };
        let decided = take("1").await.expect("nobody else took it");
        assert_eq!((decided.writes().len(), decided.position()), (2, Some(Position(2))));
        assert_eq!(take("2").await.err(), Some("taken"));
        // Facts that are not within the boundary do not run into it, and stand once as well.
        store.acknowledgements_lost.store(2, Ordering::SeqCst);
        let noted =
            seats.decide(8_u64, |_| Ok::<_, ()>([("log", SeatEvent::Noted), ("log", SeatEvent::Noted)]));
        let noted = noted.await.unwrap().unwrap();
        assert_eq!((noted.writes()[0].first.0, noted.writes()[0].head.version.0), (2, 3));
        assert_eq!(store.inner.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap().len(), 4);
    }
}

/// What a repetition was told says nothing about the attempt before it, which may have been recorded.
#[tokio::test]
async fn an_unknown_outcome_stays_unknown_when_the_repetition_is_not_done() {
    let append = async |refused| {
        let store = Wrong { acknowledgements_lost: Arc::new(AtomicU8::new(1)), ..Wrong::new() };
        store.refused.store(refused, Ordering::SeqCst);
        let retry = Retry { limit: 4, ..Retry::default() };
        let repository = Repository::<Counter>::events_only(store).retry(retry).build().unwrap();
        let added =
            repository.execute("1", |_: &Counter| Ok::<_, ()>(CounterEvent::Added { amount: 1 })).await;
        assert_eq!(repository.load("1").await.unwrap().state().total, 1);
        added.map(Result::unwrap)
    };
    assert!(append(3).await.unwrap().is_repeated());
    let error = append(u8::MAX).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "recorded, and told as: {error}");
}
