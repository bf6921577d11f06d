//! What the tests share.

use std::convert::Infallible;
pub(crate) use std::time::{Duration, Instant};

use redis::FromRedisValue;
pub(crate) use serde::{Deserialize, Serialize};
pub(crate) use tailfold::*;
pub(crate) use tailfold_redis::{RedisConfig, RedisSnapshots};
pub(crate) use tailfold_testkit::servers::{Proxy, RedisServer, redis_url};

/// How long the tiers of these tests wait for their server.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(300);

/// Longest load while a server is ill: the timeout, and what a busy machine adds.
pub(crate) const BOUND: Duration = Duration::from_millis(1_500);

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "tally")]
pub(crate) enum TallyEvent {
    Added { number: i64 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "tally", serial = 1)]
pub(crate) struct Tally {
    sum: i64,
    count: u64,
}

impl Fold for Tally {
    type Event = TallyEvent;

    fn apply(&mut self, TallyEvent::Added { number }: TallyEvent, _: &EventMeta) {
        self.sum = self.sum.wrapping_mul(3).wrapping_add(number);
        self.count += 1;
    }
}

/// The next release: another shape, so another serial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "tally", serial = 2)]
pub(crate) struct NextTally {
    pub(crate) count: u32,
}

impl Fold for NextTally {
    type Event = TallyEvent;

    fn apply(&mut self, _: TallyEvent, _: &EventMeta) {
        self.count += 1;
    }
}

/// A repository with its events in memory, its snapshots on Redis, one every 10 events.
pub(crate) fn repository<F: Aggregate<Event = TallyEvent>>(
    events: &MemoryStore,
    redis: &RedisSnapshots,
) -> Repository<F> {
    let builder = Repository::builder(events.clone()).snapshots(Policy::every(10));
    builder.snapshots_in(redis.clone()).build().unwrap()
}

/// Adds that many numbers to a tally, in one commit, and waits for the snapshot.
pub(crate) async fn add<F: Aggregate<Event = TallyEvent>>(tallies: &Repository<F>, id: &str, count: u64) {
    let events: Vec<_> = (0..count as i64).map(|number| TallyEvent::Added { number }).collect();
    tallies.execute(id, |_| Ok::<_, Infallible>(events.clone())).await.unwrap().unwrap();
    tallies.flush().await;
}

/// Loads in bounded time, and compares the state with what a replay of every event gives.
pub(crate) async fn load(tallies: &Repository<Tally>, id: &str) -> Report {
    let began = Instant::now();
    let loaded = tallies.load(id).await.unwrap();
    assert!(began.elapsed() < BOUND, "a load took {:?}: {:?}", began.elapsed(), loaded.report());
    let replayed = tallies.load(id).without_snapshots().await.unwrap();
    assert_eq!((loaded.state(), loaded.head()), (replayed.state(), replayed.head()));
    loaded.report().clone()
}

pub(crate) fn reasons(report: &Report) -> Vec<Rejection> {
    report.rejected.iter().map(|rejected| rejected.reason).collect()
}

/// Whether the tier failed, and nothing else: by itself, at the time that the load gives it, or so often that it is left out.
pub(crate) fn is_unavailable(report: &Report) -> bool {
    report.source == Source::Replay
        && matches!(
            reasons(report)[..],
            [Rejection::Unavailable | Rejection::TimedOut | Rejection::BreakerOpen]
        )
}

/// Waits until the tier serves again, which its breaker tries after a pause.
pub(crate) async fn is_served_again(tallies: &Repository<Tally>, id: &str) {
    soon("a load from the tier", async || {
        let report = load(tallies, id).await;
        tallies.flush().await;
        matches!(report.source, Source::Snapshot(_)).then_some(())
    })
    .await;
}

/// The server that other tests use too.
pub(crate) async fn shared_server() -> String {
    tokio::task::spawn_blocking(redis_url).await.unwrap()
}

/// A server of its own.
pub(crate) async fn own_server() -> RedisServer {
    tokio::task::spawn_blocking(|| RedisServer::start().unwrap()).await.unwrap()
}

pub(crate) async fn tier(url: &str) -> RedisSnapshots {
    RedisConfig::new([url]).timeout(TIMEOUT).connect().await.unwrap()
}

/// A store of its own on the shared server, its name and the server's URL.
pub(crate) async fn fresh() -> (RedisSnapshots, String, String) {
    let (url, name) = (shared_server().await, EventId::fresh().to_string().replace('-', ""));
    (RedisConfig::new([url.clone()]).name(&name).connect().await.unwrap(), name, url)
}

/// Says something to a server without the tier.
pub(crate) async fn say<T: FromRedisValue>(url: &str, words: &[&str]) -> T {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}

pub(crate) fn slot(key: &str) -> Slot {
    Slot::new("tally", "00000000000000aa".parse().unwrap(), key).unwrap()
}

pub(crate) fn head(version: u64) -> Head {
    Head { version: Version(version), chain: Chain::from_bytes([7; 16]) }
}

pub(crate) fn save(version: u64, bytes: impl Into<Vec<u8>>) -> Save {
    Save { head: head(version), bytes: bytes.into().into(), keep: Keep::Newest, day: Day(20_000) }
}

/// Repeats what a server that recovers may refuse at first.
pub(crate) async fn soon<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = attempt().await {
            return done;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
