//! How long a load waits for tiers, to the millisecond: in paused time, over the reference store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use tailfold::{Breaker, MemoryStore, Policy, Rejection, Repository, SnapshotConfig, Source, Tier, Version};
use tailfold_testkit::repository::folds::{Ledger, events};
use tailfold_testkit::{Fault, FaultySnapshots};
use tokio::time::Instant;

const FOREVER: Duration = Duration::from_secs(3600);

struct Setting {
    near: FaultySnapshots<MemoryStore>,
    far: FaultySnapshots<MemoryStore>,
    repository: Repository<Ledger>,
}

/// Two tiers with the defaults, before the store of events; a snapshot at version 10 of actor `1` in all of them.
async fn setting(breaker: Breaker) -> Setting {
    let near = FaultySnapshots::new(MemoryStore::new());
    let far = FaultySnapshots::new(MemoryStore::new());
    let config = SnapshotConfig { unused_days: None, ..Default::default() };
    let repository = Repository::<Ledger>::builder(MemoryStore::new())
        .snapshots((Policy::every(10), config))
        .snapshots_in([
            Tier::new("near", near.clone()).breaker(breaker),
            Tier::new("far", far.clone()).breaker(breaker),
        ])
        .build()
        .unwrap();
    let loaded = repository.load("1").await.unwrap();
    repository.append(loaded, events(10)).await.unwrap();
    repository.flush().await;
    Setting { near, far, repository }
}

impl Setting {
    /// Loads, and answers how long that took and why which tier did not serve.
    async fn load(&self) -> (Duration, Source, Vec<(String, Rejection)>) {
        let started = Instant::now();
        let loaded = self.repository.load("1").await.unwrap();
        assert_eq!(loaded.state().count, 10);
        let report = loaded.report();
        let rejected = report.rejected.iter().map(|one| (one.tier.to_string(), one.reason)).collect();
        (started.elapsed(), report.source, rejected)
    }
}

fn about(took: Duration, expected: u64) -> bool {
    let expected = Duration::from_millis(expected);
    // Timers are a millisecond coarse.
    took >= expected && took <= expected + Duration::from_millis(5)
}

#[tokio::test(start_paused = true)]
async fn a_load_waits_for_all_tiers_timeouts_together_at_most() {
    let setting = setting(Breaker::NEVER).await;
    setting.near.always(Some(Fault::Hang(FOREVER)));
    let (took, source, rejected) = setting.load().await;
    assert!(about(took, 100), "a nearer tier's default: {took:?}");
    assert_eq!(source, Source::Snapshot(Version(10)));
    assert_eq!(rejected, [("near".to_owned(), Rejection::TimedOut)]);
    setting.far.always(Some(Fault::Hang(FOREVER)));
    let (took, source, rejected) = setting.load().await;
    assert!(about(took, 100 + 1000), "and the farthest one's: {took:?}");
    assert_eq!(source, Source::Replay);
    let reasons = [("near".to_owned(), Rejection::TimedOut), ("far".to_owned(), Rejection::TimedOut)];
    assert_eq!(rejected, reasons);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_for_an_hour_costs_few_loads_anything_and_comes_back_by_itself() {
    let setting = setting(Breaker::default()).await;
    setting.near.always(Some(Fault::Hang(FOREVER)));
    let (mut waited, mut slow) = (Duration::ZERO, 0);
    let outage = Instant::now();
    while outage.elapsed() < FOREVER {
        let (took, source, _) = setting.load().await;
        assert_eq!(source, Source::Snapshot(Version(10)));
        waited += took;
        slow += u32::from(took >= Duration::from_millis(50));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Five until it opens, six while the pause grows, then one in 15 to 30 s.
    assert!((100..=270).contains(&slow), "{slow} of 70,000 loads waited");
    assert!(waited < Duration::from_millis(110) * slow, "{waited:?}");
    setting.near.always(None);
    let back = Instant::now();
    loop {
        let loaded = setting.repository.load("1").await.unwrap();
        if loaded.report().tier.as_deref() == Some("near") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(back.elapsed() <= Duration::from_secs(31), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_the_slowest_tier_and_close_no_longer_than_its_deadline() {
    let setting = setting(Breaker::NEVER).await;
    setting.near.always(Some(Fault::Hang(FOREVER)));
    let loaded = setting.repository.load("1").await.unwrap();
    setting.repository.append(loaded, events(10)).await.unwrap();
    let started = Instant::now();
    setting.repository.flush().await;
    assert!(started.elapsed() >= Duration::from_secs(30), "the write timeout: {:?}", started.elapsed());
    let loaded = setting.repository.load("1").await.unwrap();
    assert_eq!(loaded.report().source, Source::Snapshot(Version(20)));
    setting.repository.append(loaded, events(10)).await.unwrap();
    let started = Instant::now();
    let _ = setting.repository.close().await;
    assert!(started.elapsed() <= Duration::from_secs(31), "{:?}", started.elapsed());
    let stats = setting.repository.stats().await.unwrap();
    assert_eq!(stats.written.get("stored"), Some(&3), "{stats:?}");
}
