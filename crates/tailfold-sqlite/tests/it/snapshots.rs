use std::num::NonZeroU32;

use futures_util::TryStreamExt as _;
use tailfold::{
    Day, EventStore as _, Expected, Keep, Saved, SlotFilter, SnapshotStore as _, SnapshotStoreExt as _,
    Swept, Version,
};

use crate::support::*;

#[tokio::test]
async fn the_newest_snapshot_wins_in_whatever_order_they_are_saved() {
    let place = Place::new();
    let store = place.open().await;
    let slot = slot("f", "a/1");
    assert_eq!(store.newest(&slot, None).await.unwrap(), None);
    assert_eq!(store.save(&slot, save(head(10, 1), "ten")).await.unwrap(), Saved::Stored { pruned: 0 });
    assert_eq!(store.save(&slot, save(head(9, 9), "nine")).await.unwrap(), Saved::Superseded(head(10, 1)));
    assert_eq!(store.save(&slot, save(head(10, 2), "ten again")).await.unwrap(), Saved::Stored { pruned: 0 });
    assert_eq!(store.save(&slot, save(head(11, 3), "eleven")).await.unwrap(), Saved::Stored { pruned: 1 });
    assert_eq!(store.newest(&slot, Some(Version(10))).await.unwrap(), None);
    let kept = store.newest(&slot, None).await.unwrap().unwrap();
    assert_eq!((kept.head, &*kept.bytes), (head(11, 3), &b"eleven"[..]));
    assert_eq!(count(&place, "snapshot_payloads"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_saves_leave_the_newest() {
    let place = Place::new();
    let store = place.open().await;
    let tasks: Vec<_> = (1..=64u64)
        .map(|version| {
            let store = store.clone();
            tokio::spawn(async move { store.save(&slot("f", "a/1"), save(head(version, 1), "s")).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.newest(&slot("f", "a/1"), None).await.unwrap().unwrap().head, head(64, 1));
    assert_eq!(count(&place, "snapshots"), 1);
}

#[tokio::test]
async fn the_last_n_are_kept_and_any_version_may_be_saved_among_them() {
    let place = Place::new();
    let store = place.open().await;
    let slot = slot("f", "a/1");
    let last = |version, keep| {
        let mut save = save(head(version, 1), version.to_string());
        save.keep = keep;
        save
    };
    let two = Keep::Last(NonZeroU32::new(2).unwrap());
    for version in [5, 10, 7] {
        assert!(matches!(store.save(&slot, last(version, two)).await.unwrap(), Saved::Stored { .. }));
    }
    let versions = || async {
        store
            .list_to_vec(SlotFilter::all())
            .await
            .unwrap()
            .iter()
            .map(|info| info.head.version.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(versions().await, [7, 10]);
    assert_eq!(store.save(&slot, last(6, two)).await.unwrap(), Saved::Superseded(head(10, 1)));
    for version in [3, 1] {
        store.save(&slot, last(version, Keep::All)).await.unwrap();
    }
    assert_eq!(versions().await, [1, 3, 7, 10]);
    assert_eq!(store.newest(&slot, Some(Version(6))).await.unwrap().unwrap().head, head(3, 1));
    assert_eq!(store.save(&slot, last(11, two)).await.unwrap(), Saved::Stored { pruned: 3 });
    assert_eq!(count(&place, "snapshot_payloads"), 2);
}

#[tokio::test]
async fn only_the_snapshot_that_was_read_is_removed() {
    let place = Place::new();
    let store = place.open().await;
    let slot = slot("f", "a/1");
    store.save(&slot, save(head(10, 1), "bad")).await.unwrap();
    let read = store.newest(&slot, None).await.unwrap().unwrap();
    store.save(&slot, save(head(10, 1), "repaired")).await.unwrap();
    assert!(!store.compare_and_remove(&slot, &read).await.unwrap());
    let read = store.newest(&slot, None).await.unwrap().unwrap();
    assert!(store.compare_and_remove(&slot, &read).await.unwrap());
    assert!(!store.compare_and_remove(&slot, &read).await.unwrap());
    store.save(&slot, save(head(4, 1), "the right lower one")).await.unwrap();
}

#[tokio::test]
async fn noting_the_use_of_10_000_snapshots_writes_no_payload() {
    let place = Place::new();
    let store = place.open().await;
    let mut used = Vec::new();
    for chunk in 0..100 {
        let saves = (0..100).map(|number| {
            let slot = slot("f", &format!("a/{}", chunk * 100 + number));
            used.push((slot.clone(), Version(1)));
            let store = &store;
            async move { store.save(&slot, save(head(1, 1), vec![7; 3000])).await }
        });
        futures_util::future::try_join_all(saves).await.unwrap();
    }
    store.close().await.unwrap();
    let store = place.open().await;
    let wal = place.path.with_extension("tailfold-wal");
    store.mark_used(&used, Day(5)).await.unwrap();
    let written = std::fs::metadata(&wal).unwrap().len();
    // 30 MB of payloads lie beside rows of about 100 bytes.
    assert!(written < 8 << 20, "{written} bytes");
    let listed = store.list_to_vec(SlotFilter::all()).await.unwrap();
    assert_eq!((listed.len(), listed.iter().filter(|info| info.used == Day(5)).count()), (10_000, 10_000));
    // An earlier day changes nothing; what is gone is skipped.
    used.push((slot("f", "a/gone"), Version(1)));
    store.mark_used(&used, Day(4)).await.unwrap();
    assert_eq!(store.newest(&used[0].0, None).await.unwrap().unwrap().used, Day(5));
}

#[tokio::test]
async fn what_is_unused_is_swept_with_its_payload() {
    let place = Place::new();
    let store = place.open().await;
    for (fold, key, day) in [("f", "a/1", 10), ("f", "a/2", 20), ("g", "a/1", 10)] {
        let mut save = save(head(1, 1), "state");
        save.day = Day(day);
        store.save(&slot(fold, key), save).await.unwrap();
    }
    let swept = |snapshots| Swept { snapshots, bytes: snapshots * 5 };
    assert_eq!(store.sweep(SlotFilter::fold("f"), Day(10)).await.unwrap(), swept(0));
    assert_eq!(store.sweep(SlotFilter::fold("f"), Day(20)).await.unwrap(), swept(1));
    assert_eq!(store.count(SlotFilter::all()).await.unwrap(), swept(2));
    assert_eq!(store.forget("a/1").await.unwrap(), swept(1));
    assert_eq!(store.sweep(SlotFilter::all(), Day(1000)).await.unwrap(), swept(1));
    assert_eq!(count(&place, "snapshot_payloads"), 0);
}

#[tokio::test]
async fn snapshots_are_listed_in_order_and_by_every_dimension() {
    let place = Place::new();
    let store = place.open().await;
    let saves = (0..2500).map(|number| {
        let slot = slot(if number % 2 == 0 { "f" } else { "g" }, &format!("a/{}", number / 2));
        let store = &store;
        async move { store.save(&slot, save(head(1, 1), "s")).await }
    });
    futures_util::future::try_join_all(saves).await.unwrap();
    let all = store.list_to_vec(SlotFilter::all()).await.unwrap();
    assert_eq!(all.len(), 2500);
    assert!(all.windows(2).all(|pair| pair[0].slot < pair[1].slot));
    let filters = [
        SlotFilter::fold("f"),
        SlotFilter::key("a/7"),
        SlotFilter { serial: Some("fedcba9876543210".parse().unwrap()), ..SlotFilter::all() },
    ];
    for filter in filters {
        let some = store.list_to_vec(filter.clone()).await.unwrap();
        let wanted: Vec<_> = all.iter().filter(|info| filter.matches(&info.slot)).cloned().collect();
        assert_eq!(some, wanted, "{filter:?}");
    }
}

#[tokio::test]
async fn snapshot_and_tail_come_together_and_the_tail_begins_at_the_snapshot() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(3500)).await;
    let all = read(&store, "a/1").await;
    let slot = slot("f", "a/1");
    let both = store.snapshot_and_tail().unwrap();
    for (snapshot, bound) in
        [(None, None), (Some(3490), None), (Some(100), None), (Some(100), Some(50)), (Some(100), Some(2500))]
    {
        if let Some(version) = snapshot {
            let mut save = save(all[version - 1].head(), "state");
            save.keep = Keep::All;
            store.save(&slot, save).await.unwrap();
        }
        let bound = bound.map(|bound: u64| Version(bound));
        let (found, tail) = both.newest_with_tail(&slot, &stream("a/1"), bound).await.unwrap();
        assert_eq!(found, store.newest(&slot, bound).await.unwrap());
        let from = found.map_or(1, |found| found.head.version.0) as usize;
        let to = bound.map_or(3500, |bound| bound.0) as usize;
        let tail: Vec<_> = tail.try_concat().await.unwrap();
        assert_eq!(tail, all[from - 1..to]);
    }
    let (found, tail) = both.newest_with_tail(&slot, &stream("a/empty"), None).await.unwrap();
    assert!(found.is_some());
    assert!(tail.try_concat().await.unwrap().is_empty());
}

fn count(place: &Place, table: &str) -> i64 {
    place.sqlite().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[derive(Clone, serde::Serialize, serde::Deserialize, tailfold::Event)]
#[event(category = "counter")]
enum CounterEvent {
    Added,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, tailfold::State)]
#[state(name = "counter")]
struct Counter {
    count: u64,
}

impl tailfold::Fold for Counter {
    type Event = CounterEvent;
    fn apply(&mut self, _: CounterEvent, _: &tailfold::EventMeta<'_>) {
        self.count += 1;
    }
}

/// Twice as many as would fit where the bound was a thousand, and each would be a commit of its own.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_fall_due_at_once_are_all_stored() {
    const ACTORS: u64 = 5_000;
    let place = Place::new();
    let store = place.open().await;
    let counters = tailfold::Repository::<Counter>::builder(store.clone())
        .snapshots(tailfold::Policy::every(1))
        .build()
        .unwrap();
    let commits = (0..ACTORS).map(|number| {
        let counters = counters.clone();
        tokio::spawn(async move {
            counters
                .execute(number.to_string(), |_| Ok::<_, ()>(CounterEvent::Added))
                .await
                .unwrap()
                .unwrap();
        })
    });
    futures_util::future::join_all(commits).await.into_iter().for_each(Result::unwrap);
    let due = std::time::Instant::now();
    counters.flush().await;
    println!("{ACTORS} snapshots were stored {:?} after the last commit", due.elapsed());
    let stats = counters.stats().await.unwrap();
    assert_eq!(stats.written.into_iter().collect::<Vec<_>>(), [("stored", ACTORS)]);
    assert_eq!(stats.snapshots, ACTORS);
}

#[tokio::test]
async fn snapshots_that_are_saved_together_share_commits_and_one_that_cannot_be_kept_harms_no_other() {
    let place = Place::new();
    let store = place.open().await;
    store.save(&slot("f", "b"), save(head(9, 1), "newer")).await.unwrap();
    let saves: Vec<_> =
        ["a", "b", "c"].iter().map(|key| (slot("f", key), save(head(3, 1), "state"))).collect();
    let saved: Vec<_> = store.save_many(&saves).await.into_iter().map(Result::unwrap).collect();
    let stored = Saved::Stored { pruned: 0 };
    assert_eq!(saved, [stored, Saved::Superseded(head(9, 1)), stored]);
    place
        .sqlite()
        .execute_batch(
            "CREATE TRIGGER refused BEFORE INSERT ON snapshots WHEN new.key = 'e' BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    let saves: Vec<_> =
        ["d", "e", "f"].iter().map(|key| (slot("f", key), save(head(3, 1), "state"))).collect();
    let saved: Vec<_> = store.save_many(&saves).await.into_iter().map(|saved| saved.is_ok()).collect();
    assert_eq!(saved, [true, false, true]);
    // Large ones come in several requests.
    let large = vec![7; 100 << 10];
    let saves: Vec<_> =
        (0..9).map(|number| (slot("g", &number.to_string()), save(head(3, 1), large.clone()))).collect();
    assert!(store.save_many(&saves).await.into_iter().all(|saved| saved.is_ok()));
    assert_eq!(store.save_many(&[]).await.len(), 0);
}
