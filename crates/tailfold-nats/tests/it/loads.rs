//! Loads: what they cost, and that they never go back.

use serde::{Deserialize, Serialize};

use crate::support::*;

#[derive(Serialize, Deserialize, Event)]
#[event(category = "meter")]
enum MeterEvent {
    Turned { by: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "meter")]
struct Meter {
    total: u64,
    turns: u64,
}

impl Fold for Meter {
    type Event = MeterEvent;

    fn apply(&mut self, event: MeterEvent, _: &EventMeta<'_>) {
        let MeterEvent::Turned { by } = event;
        // Tells orders apart.
        self.total = self.total.wrapping_mul(3).wrapping_add(by);
        self.turns += 1;
    }
}

async fn meters(store: NatsStore, every: u64) -> Repository<Meter> {
    Repository::builder(store).snapshots(Policy::every(every)).build().unwrap()
}

async fn turn(meters: &Repository<Meter>, id: &str, times: u64) {
    for by in 0..times {
        meters
            .execute(id, |_| Ok::<_, std::convert::Infallible>([MeterEvent::Turned { by }]))
            .await
            .unwrap()
            .unwrap();
    }
}

/// What one process snapshots, another one uses: loads begin at the snapshot, and the tail is the rest.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_used_by_other_processes() {
    let (store, name) = fresh_store().await;
    let writer = meters(store, 100).await;
    turn(&writer, "1", 357).await;
    writer.flush().await;
    let other = meters(open(&shared_server().await, &name).await, 100).await;
    let loaded = other.load("1").await.unwrap();
    assert_eq!(loaded.report().source, Source::Snapshot(Version(300)));
    assert_eq!(loaded.report().replayed_events, 57);
    let replayed = other.load("1").without_snapshots().await.unwrap();
    assert_eq!(replayed.report().source, Source::Replay);
    assert_eq!(replayed.report().replayed_events, 357);
    assert_eq!(loaded.state(), replayed.state());
    assert_eq!((loaded.head(), loaded.state().turns), (replayed.head(), 357));
}

/// An ordinary load leaves nothing on the server: the tail comes by back pointers.
#[tokio::test(flavor = "multi_thread")]
async fn no_load_creates_a_consumer_unless_its_tail_is_very_long() {
    let server = own_server(NatsVersion::V2_15_1).await;
    let raw = Raw::connect(&server.url()).await;
    let mut created = raw.0.subscribe("$JS.API.CONSUMER.CREATE.TF_EVENTS").await.unwrap();
    let store = open(&server.url(), "tf").await;
    let repository = meters(store.clone(), 200).await;
    for (id, turns) in [("none", 0), ("short", 3), ("long", 190), ("snapshot", 250)] {
        turn(&repository, id, turns).await;
        repository.flush().await;
        let loaded = repository.load(id).await.unwrap();
        assert_eq!(loaded.state().turns, turns);
        repository.load(id).at(turns / 2).await.unwrap();
    }
    let quiet = tokio::time::timeout(Duration::from_millis(200), futures_util::StreamExt::next(&mut created));
    if let Ok(message) = quiet.await {
        panic!("a consumer was created for an ordinary load: {message:?}");
    }
    // More than a thousand commits are read by a scan.
    let stream = stream("meter/very-long");
    for _ in 0..1_300 {
        append(&store, &stream, vec![event("1")]).await;
    }
    assert_eq!(read(&store, &stream).await.len(), 1_300);
    let next = tokio::time::timeout(Duration::from_secs(5), futures_util::StreamExt::next(&mut created));
    assert!(next.await.is_ok(), "the test sees consumers");
}

/// After an acknowledged append, no load of the same process goes back, whichever replica answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_after_an_append_never_goes_back() {
    let urls = tokio::task::spawn_blocking(nats_cluster_urls).await.unwrap();
    let store = NatsConfig::new(urls).name(fresh_name()).replicas(3).connect().await.unwrap();
    let slot = Slot::new("meter", "0000000000000001".parse().unwrap(), "meter/1").unwrap();
    let tasks = (0..4u64).map(|task| {
        let (store, slot, stream) = (store.clone(), slot.clone(), stream(&format!("meter/{task}")));
        tokio::spawn(async move {
            let together = store.snapshot_and_tail().unwrap();
            for version in 1..=400u64 {
                append(&store, &stream, events(1)).await;
                let (_, tail) = together.newest_with_tail(&slot, &stream, None).await.unwrap();
                let seen = tail.try_concat().await.unwrap();
                assert_eq!(seen.last().map(|event| event.version), Some(Version(version)));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// A short tail is read although a part of the stream lies very far back, and any version is found.
#[tokio::test(flavor = "multi_thread")]
async fn any_version_of_a_long_stream_is_found() {
    let (store, _) = fresh_store().await;
    let (own, foreign) = (stream("meter/1"), stream("meter/2"));
    for round in 0..300u64 {
        append(&store, &own, events(round % 7 + 1)).await;
        if round % 3 == 0 {
            append(&store, &foreign, events(20)).await;
        }
    }
    let all = read(&store, &own).await;
    for first in (0..all.len()).step_by(37) {
        for count in [1, 2, 30] {
            let part = &all[first..(first + count).min(all.len())];
            let range = VersionRange::from(part[0].version).up_to(part.last().map(|event| event.version));
            assert_eq!(store.read_to_vec(&own, range).await.unwrap(), part);
            let mut backward: Vec<_> =
                store.read(&own, range, Direction::Backward).try_concat().await.unwrap();
            backward.reverse();
            assert_eq!(backward, part);
        }
    }
}

/// A stream that is erased in the middle of a read: the read fails, and is never short.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_a_stream_that_is_erased_meanwhile_fails() {
    let (store, _) = fresh_store().await;
    let stream = stream("meter/1");
    for direction in [Direction::Forward, Direction::Backward] {
        for _ in 0..12 {
            append(&store, &stream, events(400)).await;
        }
        let mut batches = store.read(&stream, VersionRange::ALL, direction);
        let mut count = batches.try_next().await.unwrap().unwrap().len();
        store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
        append(&store, &stream, events(5)).await;
        let error = loop {
            match batches.try_next().await {
                Ok(Some(batch)) => count += batch.len(),
                Ok(None) if count == 4800 => break None,
                Ok(None) => panic!("{direction:?}: a short read of {count} events"),
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = error {
            assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone));
            assert!(error.to_string().starts_with("read stream `meter/1` from version "), "{error}");
        }
        store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    }
}
