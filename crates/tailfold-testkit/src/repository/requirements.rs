//! The requirements that tailfold grew from, one test each, by name.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tailfold::{
    Aggregate, Codec, Commit, Compression, Envelope, ErrorKind, EventData, EventMeta, EventStore as _,
    EventStoreExt as _, EventType, Expected, Fold, Keep, MemoryStore, NewEvent, Policy, Repository, Rule,
    SlotFilter, SnapshotConfig, SnapshotMode, SnapshotStore as _, SnapshotStoreExt as _, Source, State,
    Store, Version, VersionRange,
};

use super::folds::{Ledger, LedgerEvent, actor, event, events};
use super::support::{clock, every, feed, load_right, plain, stored, stream, truth};

/// Versions at which an actor's snapshots stand while a policy runs over single-event commits.
async fn taken(store: &Arc<dyn Store>, policy: Policy<Ledger>, total: u64, commit: usize) -> Vec<u64> {
    let id = actor();
    let config = SnapshotConfig { keep: Keep::All, ..Default::default() };
    let repository =
        Repository::<Ledger>::builder(store.clone()).snapshots((policy, config)).build().expect("build");
    let mut loaded = repository.load(&id).await.expect("load");
    for commit in events(total).chunks(commit) {
        loaded = repository.append(loaded, commit.to_vec()).await.expect("append").into_loaded();
        repository.flush().await;
    }
    let listed = store.list_to_vec(SlotFilter::key(stream(&id).as_str())).await.expect("list");
    listed.into_iter().map(|info| info.head.version.0).collect()
}

/// Capture of state by replay over a range of versions.
pub async fn capture_of_state_by_replay_over_a_range_of_versions(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(100), 1).await;
    let captured = repository.capture(&id, ..=40).await.expect("capture");
    assert_eq!(captured.version(), Version(40));
    assert_eq!(captured.report().source, Source::Replay);
    let at = repository.load(&id).at(40).await.expect("load at");
    assert_eq!(captured.state(), at.state());
    // A range that begins later folds these events alone.
    let part = repository.capture(&id, 41..=60).await.expect("capture");
    assert_eq!((part.state().count, part.report().replayed_events), (20, 20));
    assert_eq!(repository.capture(&id, ..).await.expect("capture").state(), &truth(&store, &id).await);
    let beyond = repository.capture(&id, ..=101).await.expect_err("there is no version 101");
    assert_eq!(*beyond.kind(), ErrorKind::Invalid);
    // A state of a part is never kept.
    assert!(repository.save_snapshot(&part).await.is_err());
}

/// Snapshots at a configured interval.
pub async fn snapshots_at_configured_intervals(store: Arc<dyn Store>) {
    assert_eq!(taken(&store, Policy::every(10), 35, 1).await, [10, 20, 30]);
    // Counted from the last snapshot: commits of seven cross the interval at 14, 28, 42.
    assert_eq!(taken(&store, Policy::every(10), 42, 7).await, [14, 28, 42]);
}

/// Snapshots at configured versions.
pub async fn snapshots_at_configured_versions(store: Arc<dyn Store>) {
    assert_eq!(taken(&store, Policy::at_versions(10), 35, 1).await, [10, 20, 30]);
    assert_eq!(taken(&store, Policy::at_versions(10), 42, 7).await, [14, 21, 35, 42]);
}

/// Hybrid: at versions, with bounds on the events since the last snapshot.
pub async fn hybrid_snapshots_with_bounds(store: Arc<dyn Store>) {
    assert_eq!(taken(&store, Policy::at_versions(10).at_least(15), 60, 1).await, [20, 40, 60]);
    assert_eq!(taken(&store, Policy::at_versions(30).at_most(12), 60, 1).await, [12, 24, 30, 42, 54, 60]);
}

/// One store with events and snapshots: latest and save.
pub async fn one_store_with_events_and_snapshots_latest_and_save(store: Arc<dyn Store>) {
    let clock = clock();
    let repository = Repository::<Ledger>::builder(store.clone())
        .snapshots(Policy::never())
        .clock(clock.clone())
        .build()
        .expect("build");
    let id = actor();
    assert!(repository.latest_snapshot(&id).await.expect("read").is_none());
    let loaded = feed(&repository, &id, events(5), 1).await;
    assert!(repository.latest_snapshot(&id).await.expect("read").is_none(), "`never` takes none");
    repository.save_snapshot(&loaded).await.expect("save");
    let snapshot = repository.latest_snapshot(&id).await.expect("read").expect("saved");
    assert_eq!(snapshot.stream, stream(&id));
    assert_eq!(Some(snapshot.head), loaded.head());
    assert_eq!(*snapshot.state, *loaded.state());
    assert_eq!(snapshot.taken_at, tailfold::Clock::now(&clock));
    assert_eq!(load_right(&repository, &store, &id).await.report().source, Source::Snapshot(Version(5)));
    // An empty stream has nothing to save.
    let empty = repository.load(actor()).await.expect("load");
    assert_eq!(
        *repository.save_snapshot(&empty).await.expect_err("nothing there").kind(),
        ErrorKind::Invalid
    );
}

/// A reader at 899 gets the tail, a reader at 49 gets a snapshot, with snapshots every 100 and a head at 1000.
pub async fn catch_up_from_900_and_from_50_with_a_snapshot_at_1000(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 100), actor());
    feed(&repository, &id, events(1_000), 10).await;
    assert_eq!(stored(&store, &id).await.1.head.version, Version(1_000));

    let near = repository.catch_up(&id, 900).await.expect("catch up");
    assert!(near.base.is_none());
    let versions: Vec<_> = near.events.iter().map(|event| event.recorded.version.0).collect();
    assert_eq!(versions, (900..=1_000).collect::<Vec<_>>());
    assert_eq!(near.events.first().map(|first| first.event.clone()), Some(Ok(event(900))));

    let far = repository.catch_up(&id, 50).await.expect("catch up");
    let base = far.base.expect("a snapshot as new base");
    assert_eq!(base.version(), Version(1_000));
    assert_eq!(*base.state(), truth(&store, &id).await);
    assert!(far.events.is_empty());

    // A snapshot with a tail behind it.
    feed(&repository, &id, events(30), 1).await;
    let far = repository.catch_up(&id, 50).await.expect("catch up");
    assert_eq!(far.base.map(|base| base.version()), Some(Version(1_000)));
    assert_eq!(far.events.len(), 30);
    assert_eq!(far.head.map(|head| head.version), Some(Version(1_030)));

    let none = repository.catch_up(&id, 1_031).await.expect("nothing missed");
    assert!(none.base.is_none() && none.events.is_empty());
    let beyond = repository.catch_up(&id, 1_032).await.expect_err("beyond the stream");
    assert_eq!(*beyond.kind(), ErrorKind::Invalid);
}

/// Malformed events are reported with their positions while the rest is read.
pub async fn malformed_events_are_reported_with_their_positions_while_the_rest_is_read(
    store: Arc<dyn Store>,
) {
    let (repository, id) = (every(&store, 5), actor());
    feed(&repository, &id, events(4), 1).await;
    let bad = |name: &str, payload: &'static str| {
        NewEvent::new(EventData::new(EventType::new(name).expect("a name"), payload)).expect("small")
    };
    let commit = Commit::new(
        stream(&id),
        Expected::Version(Version(4)),
        vec![bad("ledger.credited", "{\"cents\":"), bad("ledger.sold", "{}")],
    );
    let committed = store.append(commit).await.expect("a store moves bytes");
    let good = bad("ledger.credited", "{\"cents\":3}");
    store.append(Commit::new(stream(&id), Expected::Version(Version(6)), vec![good])).await.expect("append");

    // Strict: the load fails and says where.
    let error = repository.load(&id).await.expect_err("an aggregate knows every event of its stream");
    assert_eq!(*error.kind(), ErrorKind::Codec);
    let recorded = store.read_to_vec(&stream(&id), VersionRange::ALL).await.expect("read");
    let position = recorded.get(4).expect("the fifth").position;
    assert!(error.to_string().contains(&format!("version 5 (position {position})")), "{error}");

    // On request: skipped, listed, never kept.
    let loaded = repository.load(&id).skip_malformed().await.expect("load");
    assert_eq!(loaded.state().count, 5);
    let skipped: Vec<_> = loaded.report().skipped.iter().map(|bad| (bad.version.0, bad.position)).collect();
    assert_eq!(skipped, [(5, position), (6, committed.position)]);
    assert!(loaded.report().skipped.iter().any(|bad| bad.reason.contains("unknown event type")));
    assert!(repository.save_snapshot(&loaded).await.is_err());
    repository.flush().await;
    assert!(repository.latest_snapshot(&id).await.expect("read").is_none());

    // The history: every event, the bad ones marked.
    let history: Vec<_> = repository.history(&id, ..).try_collect().await.expect("history");
    let marked: Vec<_> =
        history.iter().filter(|item| item.event.is_err()).map(|item| item.recorded.version.0).collect();
    assert_eq!((history.len(), marked), (7, vec![5, 6]));
}

/// Actors of 1,000 and 100,000 events: right, and served by a short tail.
pub async fn long_lived_actors_of_1_000_and_100_000_events(store: Arc<dyn Store>) {
    for length in [1_000u64, 100_000] {
        let (repository, id) = (every(&store, 100), actor());
        let loaded = feed(&repository, &id, events(length), 1_000).await;
        assert_eq!(loaded.state().count, length);
        let fresh = load_right(&repository, &store, &id).await;
        assert_eq!(fresh.version(), Version(length));
        assert!(fresh.report().replayed_events <= 100, "{:?}", fresh.report());
        let old = repository.load(&id).at(length / 2).await.expect("load at");
        assert_eq!(old.state().count, length / 2);
    }
}

/// Configuration from code and from a file.
pub async fn configuration_from_code_and_from_a_deserialisable_config(store: Arc<dyn Store>) {
    let file = r#"{
        "policy": { "any": [{ "every": 7 }, { "on_event": "ledger.closed" }] },
        "mode": "inline", "keep": { "last": 2 }, "unused_days": 30, "compression": "lz4", "compress_from_bytes": 1
    }"#;
    let from_file: SnapshotConfig = serde_json::from_str(file).expect("a good file");
    let closed = EventType::new("ledger.closed").expect("a name");
    let from_code = SnapshotConfig {
        policy: Rule::Any(vec![Rule::Every(7), Rule::OnEvent(closed)]),
        mode: SnapshotMode::Inline,
        keep: Keep::Last(NonZeroU32::new(2).expect("not zero")),
        unused_days: Some(30),
        compression: Compression::Lz4,
        compress_from_bytes: 1,
        ..Default::default()
    };
    assert_eq!(from_file, from_code);
    if !store.capabilities().inline_snapshot {
        let error = Repository::<Ledger>::builder(store).snapshots(from_file).build().expect_err("it cannot");
        assert_eq!(*error.kind(), ErrorKind::Unsupported);
        return;
    }
    let repository =
        Repository::<Ledger>::builder(store.clone()).snapshots(from_file).build().expect("build");
    let id = actor();
    let mut loaded = repository.load(&id).await.expect("load");
    for _ in 0..24 {
        // Alike, so that the state compresses.
        let event = LedgerEvent::Remarked { remark: "the same remark ".repeat(10) };
        loaded = repository.append(loaded, event).await.expect("append").into_loaded();
    }
    // Inline: kept without any flush, the last two of 7, 14, 21.
    let listed = store.list_to_vec(SlotFilter::key(stream(&id).as_str())).await.expect("list");
    assert_eq!(listed.iter().map(|info| info.head.version.0).collect::<Vec<_>>(), [14, 21]);
    let slot = &listed.first().expect("two").slot;
    let newest = store.newest(slot, None).await.expect("read").expect("there");
    assert_eq!(Envelope::parse(&newest.bytes).expect("good").compression, Compression::Lz4);
    assert_eq!(load_right(&repository, &store, &id).await.report().source, Source::Snapshot(Version(21)));
}

/// Snapshot count and average replay size.
pub async fn metrics_of_snapshot_count_and_average_replay_size(store: Arc<dyn Store>) {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
    #[state(name = "ledger-counted")]
    struct Counted {
        count: u64,
    }
    impl Fold for Counted {
        type Event = LedgerEvent;
        fn apply(&mut self, _: LedgerEvent, _: &EventMeta<'_>) {
            self.count += 1;
        }
    }
    let repository =
        Repository::<Counted>::builder(store.clone()).snapshots(Policy::every(10)).build().expect("build");
    let before = repository.stats().await.expect("stats");
    let ids: Vec<_> = (0..4).map(|_| actor()).collect();
    for id in &ids {
        feed(&plain(&store), id, events(25), 5).await;
        repository.load(id).await.expect("load");
        repository.flush().await;
        feed(&plain(&store), id, events(5), 5).await;
        repository.load(id).await.expect("load");
    }
    let stats = repository.stats().await.expect("stats");
    assert_eq!(stats.snapshots - before.snapshots, 4);
    assert!(stats.snapshot_bytes > before.snapshot_bytes);
    assert_eq!(stats.loads.get("replay"), Some(&4));
    assert_eq!(stats.loads.get("snapshot"), Some(&4));
    // Four loads of 25 events and four of 5.
    assert_eq!(stats.replayed_events, 120);
    assert!((stats.average_replay_events - 15.0).abs() < 1e-9);
    assert_eq!(stats.written.get("stored"), Some(&4));
}

macro_rules! coded {
    ($name:ident, $fold:literal $(, $codec:ident)?) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
        #[state(name = $fold $(, codec = $codec)?)]
        struct $name {
            count: u64,
            ratio: f64,
        }

        impl Fold for $name {
            type Event = LedgerEvent;
            fn apply(&mut self, _: LedgerEvent, _: &EventMeta<'_>) {
                self.count += 1;
                self.ratio = 0.1 * self.count as f64 / 3.0;
            }
        }
    };
}

/// A serializer chosen for each projection, a default otherwise.
pub async fn a_serializer_chosen_per_projection_and_a_default_otherwise(store: Arc<dyn Store>) {
    coded!(Default_, "ledger-default-codec");
    coded!(Json, "ledger-json", json);
    coded!(Postcard, "ledger-postcard", postcard);
    async fn codec_of<F: Aggregate<Event = LedgerEvent> + PartialEq + std::fmt::Debug>(
        store: &Arc<dyn Store>,
    ) -> String {
        let id = actor();
        feed(&plain(store), &id, events(10), 10).await;
        let repository =
            Repository::<F>::builder(store.clone()).snapshots(Policy::every(10)).build().expect("build");
        let replayed = repository.load(&id).await.expect("load");
        repository.flush().await;
        let loaded = repository.load(&id).await.expect("load");
        assert_eq!(loaded.report().source, Source::Snapshot(Version(10)));
        assert_eq!(loaded.state(), replayed.state());
        Envelope::parse(&stored(store, &id).await.1.bytes).expect("good").codec
    }
    assert_eq!(codec_of::<Default_>(&store).await, Codec::process_default().id());
    assert_eq!(codec_of::<Json>(&store).await, "json");
    assert_eq!(codec_of::<Postcard>(&store).await, "postcard");
}

/// A serial by hand and a serial from the type.
pub async fn a_serial_by_hand_and_a_serial_from_the_type(store: Arc<dyn Store>) {
    macro_rules! serial_of {
        ($(#[$attribute:meta])* $kind:ty) => {{
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
            $(#[$attribute])*
            struct Counted {
                count: $kind,
            }
            impl Fold for Counted {
                type Event = LedgerEvent;
                fn apply(&mut self, _: LedgerEvent, _: &EventMeta<'_>) {
                    self.count += 1;
                }
            }
            let builder = Repository::<Counted>::builder(store.clone()).snapshots(Policy::every(10));
            builder.build().expect("build").serial().expect("snapshots are on").to_string()
        }};
    }
    let plain = serial_of!(
        #[state(name = "ledger-serial")]
        u64
    );
    let number = serial_of!(
        #[state(name = "ledger-serial", serial = 7)]
        u64
    );
    let text = serial_of!(
        #[state(name = "ledger-serial", serial = "june")]
        u64
    );
    let retyped = serial_of!(
        #[state(name = "ledger-serial")]
        u32
    );
    assert_eq!(plain.len(), 16);
    assert_eq!(number, format!("7-{plain}"));
    assert_eq!(text, format!("june-{plain}"));
    assert_ne!(plain, retyped);
}

/// Only snapshots of the same serial are used.
pub async fn only_snapshots_of_the_same_serial_are_used(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(10), 1).await;
    // A state under the next label, as a release with changed logic would have it.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
    #[state(name = "ledger", serial = 2)]
    struct Next {
        balance: i64,
        count: u64,
        trace: u64,
        remarks: Vec<String>,
    }
    impl Fold for Next {
        type Event = LedgerEvent;
        fn apply(&mut self, _: LedgerEvent, _: &EventMeta<'_>) {
            self.count += 2;
        }
    }
    let next =
        Repository::<Next>::builder(store.clone()).snapshots(Policy::every(10)).build().expect("build");
    let loaded = next.load(&id).await.expect("load");
    assert_eq!((loaded.report().source, loaded.state().count), (Source::Replay, 20));
    next.flush().await;
    assert_eq!(next.load(&id).await.expect("load").report().source, Source::Snapshot(Version(10)));
    assert_eq!(load_right(&repository, &store, &id).await.report().source, Source::Snapshot(Version(10)));
}

/// The last version only, deleted after 90 days without a use.
pub async fn the_last_version_only_deleted_after_90_days_of_being_unused(store: Arc<dyn Store>) {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
    #[state(name = "ledger-unused")]
    struct Unused {
        count: u64,
    }
    impl Fold for Unused {
        type Event = LedgerEvent;
        fn apply(&mut self, _: LedgerEvent, _: &EventMeta<'_>) {
            self.count += 1;
        }
    }
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let clock = clock();
    let open = || {
        let builder = Repository::<Unused>::builder(store.clone()).snapshots(Policy::every(10));
        builder.clock(clock.clone()).build().expect("build")
    };
    let (used, unused, other) = (actor(), actor(), actor());
    for id in [&used, &unused, &other] {
        feed(&plain(&store), id, events(20), 20).await;
    }
    let repository = open();
    for id in [&used, &unused] {
        repository.load(id).await.expect("load");
        repository.flush().await;
    }
    // The last version only.
    feed(&plain(&store), &used, events(10), 10).await;
    repository.load(&used).await.expect("load");
    repository.flush().await;
    assert_eq!(stored(&store, &used).await.1.head.version, Version(30));

    // 60 days later one is used, in a process of its own; 90 days after the start nothing is due yet.
    clock.advance(60 * DAY);
    let later = open();
    assert_eq!(later.load(&used).await.expect("load").report().source, Source::Snapshot(Version(30)));
    later.flush().await;
    clock.advance(30 * DAY);
    let load = open();
    load.load(&other).await.expect("load");
    load.flush().await;
    assert_eq!(load.load(&other).await.expect("load").report().source, Source::Snapshot(Version(20)));
    assert_eq!(stored(&store, &unused).await.1.head.version, Version(20));

    // The 91st day: the next process that works sweeps what was not used.
    clock.advance(DAY);
    let last = open();
    assert!(matches!(last.load(&other).await.expect("load").report().source, Source::Snapshot(_)));
    last.flush().await;
    let left = |id: &str| store.list_to_vec(SlotFilter::key(stream(id).as_str()));
    assert!(left(&unused).await.expect("list").is_empty());
    assert_eq!(left(&used).await.expect("list").len(), 1);
    // Swept, not lost: the answer is the same.
    assert_eq!(last.load(&unused).await.expect("load").state().count, 20);
}

/// A snapshot store of one's own, beside the events.
pub async fn a_snapshot_store_of_ones_own_is_plugged_in(store: Arc<dyn Store>) {
    let (own, id) = (MemoryStore::new(), actor());
    let repository = Repository::<Ledger>::builder(store.clone())
        .snapshots(Policy::every(10))
        .snapshots_in(own.clone())
        .build()
        .expect("build");
    feed(&repository, &id, events(25), 1).await;
    let loaded = load_right(&repository, &store, &id).await;
    assert!(matches!(loaded.report().source, Source::Snapshot(_)));
    assert_eq!(own.count(SlotFilter::all()).await.expect("count").snapshots, 1);
    assert!(store.list_to_vec(SlotFilter::key(stream(&id).as_str())).await.expect("list").is_empty());
    // A store of events alone will do.
    let repository = Repository::<Ledger>::events_only(store)
        .snapshots(Policy::every(10))
        .snapshots_in(own)
        .build()
        .expect("build");
    assert!(matches!(repository.load(&id).await.expect("load").report().source, Source::Snapshot(_)));
}
