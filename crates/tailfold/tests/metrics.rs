//! The names that dashboards are built on, through the `metrics` facade.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, MemoryStore, Policy, Repository, State, Tier};

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "counter")]
enum CounterEvent {
    Added { amount: u64 },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
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

#[test]
fn loads_replays_snapshots_and_rejections_are_told_by_name() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let repository = Repository::<Counter>::builder(MemoryStore::new())
                .snapshots(Policy::every(10))
                .snapshots_in([Tier::new("cache", MemoryStore::new()), Tier::own()])
                .build()
                .unwrap();
            let mut loaded = repository.load("1").await.unwrap();
            for amount in 0..12 {
                loaded =
                    repository.append(loaded, CounterEvent::Added { amount }).await.unwrap().into_loaded();
                repository.flush().await;
            }
            let stale = repository.load("1").at(3).await.unwrap();
            assert!(
                repository.append(stale, CounterEvent::Added { amount: 1 }).await.unwrap_err().is_conflict()
            );
            repository.flush().await;
            repository.load("1").await.unwrap();
            repository.stats().await.unwrap();
        });
    });
    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> =
            key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        assert!(
            !labels.iter().any(|label| label.contains("counter/1")),
            "a stream id is a label: {labels:?}"
        );
        let value = match value {
            DebugValue::Counter(n) => n as f64,
            DebugValue::Gauge(n) => n.into_inner(),
            DebugValue::Histogram(samples) => samples.iter().map(|sample| sample.into_inner()).sum(),
        };
        seen.insert(format!("{}{{{}}}", key.key().name(), labels.join(",")), value);
    }
    let is = |name: &str| seen.get(name).copied().unwrap_or_else(|| panic!("`{name}` is missing: {seen:#?}"));
    assert_eq!(is("tailfold_loads_total{fold=counter,source=replay}"), 2.0);
    assert_eq!(is("tailfold_loads_total{fold=counter,source=snapshot}"), 1.0);
    // 0 for the empty stream, 3 for the version, 2 after the snapshot at 10.
    assert_eq!(is("tailfold_replayed_events{fold=counter}"), 5.0);
    assert_eq!(is("tailfold_snapshots_written_total{fold=counter,outcome=stored}"), 1.0);
    assert_eq!(is("tailfold_conflicts_total{fold=counter}"), 1.0);
    assert!(is("tailfold_snapshot_bytes{fold=counter}") > 0.0);
    assert!(is("tailfold_append_seconds{fold=counter}") > 0.0);
    assert!(is("tailfold_load_seconds{fold=counter,source=replay}") > 0.0);
    assert_eq!(is("tailfold_snapshot_queue{fold=counter}"), 0.0);
    // The empty stream and the version before the snapshot are in no tier; the last load is served by the nearest.
    for (tier, outcome, count) in [
        ("cache", "hit", 1.0),
        ("cache", "miss", 2.0),
        ("cache", "stored", 1.0),
        ("own", "miss", 2.0),
        ("own", "stored", 1.0),
    ] {
        let name = format!("tailfold_tier_requests_total{{fold=counter,tier={tier},outcome={outcome}}}");
        assert_eq!(is(&name), count, "{name}");
    }
    assert_eq!(is("tailfold_tier_open{fold=counter,tier=cache}"), 0.0);
    let stored = seen.iter().find(|(name, _)| name.starts_with("tailfold_snapshots{fold=counter,serial="));
    assert_eq!(stored.map(|(_, count)| *count), Some(1.0), "{seen:#?}");
}
