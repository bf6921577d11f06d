//! A log that is not the one that this process knows: made again, gone back, or told by a server that lacks the end of it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::*;

/// Time after which a process looks again whether its log is still there, and some more.
const LOOKED_AGAIN: Duration = Duration::from_millis(1_500);

/// Deletes the streams of a store behind its back, and makes them again as another process would.
async fn made_again(url: &str, name: &str) -> NatsStore {
    let raw = Raw::connect(url).await;
    for kind in ["EVENTS", "SNAPSHOTS"] {
        let stream = format!("{}_{kind}", name.to_uppercase());
        let deleted = raw.api(&format!("STREAM.DELETE.{stream}"), json!({})).await;
        assert!(deleted["error"].is_null(), "{deleted}");
    }
    open(url, name).await
}

fn is_another_log(error: &Error) {
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("start this process again"), "{error}");
}

/// The next append to a store that was deleted and made again is an error, and so is everything after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_made_again_is_noticed_at_the_next_append() {
    let url = shared_server().await;
    for known in [true, false] {
        let (store, name) = fresh_store().await;
        append(&store, &stream("a/1"), events(1)).await;
        append(&store, &stream("a/2"), events(1)).await;
        let other = made_again(&url, &name).await;
        assert_ne!(other.store_id().await.unwrap(), store.store_id().await.unwrap());
        let stream = stream(if known { "a/1" } else { "a/3" });
        let commit = Commit::new(stream.clone(), Expected::Any, events(1));
        is_another_log(&store.append(commit.clone()).await.unwrap_err());
        is_another_log(&store.append(commit.clone()).await.unwrap_err());
        is_another_log(&store.head(&stream).await.unwrap_err());
        is_another_log(&store.read_to_vec(&stream, VersionRange::ALL).await.unwrap_err());
        is_another_log(&store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap_err());
        // A process that is started again goes on.
        open(&url, &name).await.append(commit).await.unwrap();
    }
}

/// The other store has outgrown what this process knows: nothing is recorded in it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recorded_in_a_store_that_was_made_again_and_is_longer() {
    let url = shared_server().await;
    let (store, name) = fresh_store().await;
    append(&store, &stream("a/1"), events(1)).await;
    let other = made_again(&url, &name).await;
    for _ in 0..5 {
        append(&other, &stream("a/1"), events(1)).await;
    }
    tokio::time::sleep(LOOKED_AGAIN).await;
    for to in ["a/1", "a/2"] {
        let commit = Commit::new(stream(to), Expected::Any, events(1));
        is_another_log(&store.append(commit).await.unwrap_err());
    }
    assert_eq!(other.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap().len(), 5);
}

/// Also at once: nothing that lands in another log is told as done, whether that is longer or not.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_as_done_that_lands_in_a_store_that_was_just_made_again() {
    let url = shared_server().await;
    for (to, expected) in [("a/1", Expected::Any), ("a/2", Expected::Any), ("a/3", Expected::NoStream)] {
        let (store, name) = fresh_store().await;
        append(&store, &stream("a/1"), events(1)).await;
        let other = made_again(&url, &name).await;
        for _ in 0..5 {
            append(&other, &stream("a/1"), events(1)).await;
        }
        is_another_log(&store.append(Commit::new(stream(to), expected, events(1))).await.unwrap_err());
        is_another_log(&store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap_err());
    }
}

/// A live reader of a store that was made again is told, whether the other log is shorter or longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_reader_of_a_store_that_was_made_again_is_told() {
    let url = shared_server().await;
    for longer in [false, true] {
        let (store, name) = fresh_store().await;
        append(&store, &stream("a/1"), events(1)).await;
        append(&store, &stream("a/1"), events(1)).await;
        let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
        let mut seen = 0;
        while seen < 2 {
            seen += live.try_next().await.unwrap().unwrap().events.len();
        }
        let other = made_again(&url, &name).await;
        if longer {
            for _ in 0..5 {
                append(&other, &stream("a/1"), events(1)).await;
            }
        }
        let told = async {
            loop {
                match live.try_next().await {
                    Ok(Some(batch)) => assert!(batch.events.is_empty(), "an event of another store"),
                    Ok(None) => panic!("a live read ended"),
                    Err(error) => return error,
                }
            }
        };
        is_another_log(&tokio::time::timeout(Duration::from_secs(25), told).await.unwrap());
    }
}

/// A position that the log has not reached is the caller's mistake, and proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_from_beyond_the_end_does_not_make_the_log_another_one() {
    let (store, _) = fresh_store().await;
    append(&store, &stream("a/1"), events(1)).await;
    let mut live = store.read_all(Position(1 << 40), Filter::all(), Follow::Live);
    let waiting = tokio::time::timeout(Duration::from_secs(7), live.try_next()).await;
    assert!(waiting.is_err(), "{:?}", waiting.map(|batch| batch.map(|_| ())));
    assert!(store.read_all_to_vec(Position(1 << 40), Filter::all()).await.unwrap().is_empty());
    append(&store, &stream("a/1"), events(1)).await;
    assert_eq!(read(&store, &stream("a/1")).await.len(), 2);
}

/// Passes connections on to a server, and to another one when it is told to.
struct Switch {
    port: u16,
    target: Arc<AtomicU16>,
    cut: watch::Sender<()>,
}

impl Switch {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU16::new(target)));
        let (cut, cuts) = watch::channel(());
        let chosen = target.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (chosen, mut cuts) = (chosen.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let target = (Ipv4Addr::LOCALHOST, chosen.load(Ordering::SeqCst));
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { port, target, cut }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn turn_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
        self.cut.send_replace(());
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// An append that waits for its server to come back is not sent to another store that is there instead.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_outlasts_an_outage_is_not_recorded_in_another_store() {
    let (first, second) = (own_server(NatsVersion::V2_15_1).await, own_server(NatsVersion::V2_15_1).await);
    let other = open(&second.url(), "tf").await;
    rounds(&other, 5).await;
    let switch = Switch::to(first.port()).await;
    let config = NatsConfig::new([switch.url()]).deadline(Duration::from_secs(20));
    let store = config.connect().await.unwrap();
    append(&store, &stream("a/1"), events(1)).await;
    // Nobody listens there.
    switch.turn_to(9);
    let glance = Duration::from_millis(500);
    while tokio::time::timeout(glance, store.head(&stream("a/1"))).await.is_ok() {}
    let commit = Commit::new(stream("c/1"), Expected::NoStream, events(1));
    let appending = tokio::spawn({
        let store = store.clone();
        async move { store.append(commit).await }
    });
    tokio::time::sleep(LOOKED_AGAIN).await;
    switch.turn_to(second.port());
    is_another_log(&appending.await.unwrap().unwrap_err());
    assert_eq!(other.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap().len(), 10);
}

/// Two servers with one log, of which the second lacks what was appended last, and what stands in front of them.
struct Behind {
    whole: NatsServer,
    short: NatsServer,
    _directory: tempfile::TempDir,
}

impl Behind {
    /// Each round is an event of `a/1` and one of `b/1`.
    async fn by(common: usize, missing: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("whole"), directory.path().join("short"));
        let start = async |directory: &Path| {
            let builder = NatsServer::builder(NatsVersion::V2_15_1).directory(directory);
            tokio::task::spawn_blocking(move || builder.start().unwrap()).await.unwrap()
        };
        let whole = start(&first).await;
        rounds(&open(&whole.url(), "tf").await, common).await;
        tokio::task::spawn_blocking(move || drop(whole)).await.unwrap();
        copy(&first, &second);
        let (whole, short) = (start(&first).await, start(&second).await);
        rounds(&open(&whole.url(), "tf").await, missing).await;
        Self { whole, short, _directory: directory }
    }
}

async fn rounds(store: &NatsStore, count: usize) {
    for _ in 0..count {
        append(store, &stream("a/1"), events(1)).await;
        append(store, &stream("b/1"), events(1)).await;
    }
}

/// A read of the log begins with a server that knows its end and goes on with one that does not: a leader that was deposed, or a
/// server that lost what it had acknowledged. What is missing there is never passed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_to_the_end_never_passes_over_what_a_server_lacks() {
    let Behind { whole, short, _directory } = Behind::by(1_800, 3).await;
    // More than is on its way at once, whatever the filter.
    for filter in [Filter::all(), Filter::category("a"), Filter::category("a").or(Filter::category("b"))] {
        let switch = Switch::to(whole.port()).await;
        let config = NatsConfig::new([switch.url()]).deadline(Duration::from_secs(3));
        let store = config.connect().await.unwrap();
        let all = store.read_all_to_vec(Position::ZERO, filter.clone()).await.unwrap();
        let mut batches = store.read_all(Position::ZERO, filter, Follow::ToEnd);
        let mut read = Vec::new();
        let mut checked_to = Position::ZERO;
        let error = loop {
            match batches.try_next().await {
                Ok(Some(batch)) => {
                    read.extend(batch.events);
                    checked_to = batch.checked_to;
                    switch.turn_to(short.port());
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let missed = all.iter().filter(|event| event.position <= checked_to).count();
        assert_eq!(read, all[..missed], "nothing is passed over");
        let error = error.expect("the end cannot be reached where it is not known");
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable(_)), "{error}");
    }
}

/// A log that lost what it had acknowledged, as after a power failure or where an older copy was put in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_back_is_noticed_by_appends_and_live_readers() {
    let Behind { whole, short, _directory } = Behind::by(10, 3).await;
    let switch = Switch::to(whole.port()).await;
    let connect = || NatsConfig::new([switch.url()]).deadline(Duration::from_secs(20)).connect();
    let mut stores = Vec::new();
    for _ in 0..3 {
        let store = connect().await.unwrap();
        // It knows the end of the log, and not each stream.
        append(&store, &stream("c/1"), events(1)).await;
        stores.push(store);
    }
    let mut live = stores[2].read_all(Position::ZERO, Filter::category("a"), Follow::Live);
    let mut seen = 0;
    while seen < 13 {
        seen += live.try_next().await.unwrap().unwrap().events.len();
    }
    switch.turn_to(short.port());
    for (store, to) in stores.iter().zip(["c/1", "d/1"]) {
        is_another_log(&store.append(Commit::new(stream(to), Expected::Any, events(1))).await.unwrap_err());
    }
    let told = async {
        loop {
            match live.try_next().await {
                Ok(Some(batch)) => assert!(batch.events.is_empty()),
                Ok(None) => panic!("a live read ended"),
                Err(error) => return error,
            }
        }
    };
    is_another_log(&tokio::time::timeout(Duration::from_secs(25), told).await.unwrap());
}

/// An older copy that has grown beyond what a process knows has the same id, and no less events.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_back_is_noticed_although_it_has_grown_since() {
    let Behind { whole, short, _directory } = Behind::by(10, 3).await;
    let grown = open(&short.url(), "tf").await;
    rounds(&grown, 20).await;
    let before = grown.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    let switch = Switch::to(whole.port()).await;
    let config = NatsConfig::new([switch.url()]).deadline(Duration::from_secs(20));
    let (by_append, by_read) = (config.clone().connect().await.unwrap(), config.connect().await.unwrap());
    append(&by_append, &stream("c/1"), events(1)).await;
    assert_eq!(by_read.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap().len(), 27);
    switch.turn_to(short.port());
    for store in [by_append, by_read] {
        is_another_log(
            &store.append(Commit::new(stream("d/1"), Expected::Any, events(1))).await.unwrap_err(),
        );
        is_another_log(&store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap_err());
    }
    assert_eq!(grown.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap(), before);
}

/// A read of the log that has begun in one store does not go on in another.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_to_the_end_never_goes_on_in_another_store() {
    let (first, second) = (own_server(NatsVersion::V2_15_1).await, own_server(NatsVersion::V2_15_1).await);
    // More than is on its way at once.
    rounds(&open(&first.url(), "tf").await, 900).await;
    rounds(&open(&second.url(), "tf").await, 1_000).await;
    let switch = Switch::to(first.port()).await;
    let config = NatsConfig::new([switch.url()]).deadline(Duration::from_secs(20));
    let store = config.connect().await.unwrap();
    let all = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    let mut batches = store.read_all(Position::ZERO, Filter::all(), Follow::ToEnd);
    let mut read = batches.try_next().await.unwrap().unwrap().events;
    switch.turn_to(second.port());
    let error = loop {
        match batches.try_next().await {
            Ok(Some(batch)) => read.extend(batch.events),
            Ok(None) => panic!("the read ended in another store, with {} events", read.len()),
            Err(error) => break error,
        }
    };
    is_another_log(&error);
    assert_eq!(read, all[..read.len()], "an event of another store");
}
