//! Snapshots: saving and finding the newest.

use futures_util::FutureExt as _;

use super::support::*;

const TODAY: Day = Day(20_000);

fn head(version: u64) -> Head {
    head_of(version, 1)
}

fn head_of(version: u64, history: u8) -> Head {
    Head { version: Version(version), chain: Chain::from_bytes([history; 16]) }
}

fn save(version: u64, keep: Keep) -> Save {
    Save { head: head(version), bytes: format!("state {version}").into(), keep, day: TODAY }
}

async fn newest(store: &Snapshots, slot: &Slot, at_or_below: Option<u64>) -> Option<u64> {
    let found = store.newest(slot, at_or_below.map(Version)).await.unwrap()?;
    assert_eq!(found.bytes, format!("state {}", found.head.version.0), "bytes of another version");
    Some(found.head.version.0)
}

async fn kept(store: &Snapshots, slot: &Slot) -> Vec<u64> {
    let listed = store.list_to_vec(SlotFilter::key(slot.key())).await.unwrap();
    listed.into_iter().filter(|info| info.slot == *slot).map(|info| info.head.version.0).collect()
}

fn last(n: u32) -> Keep {
    Keep::Last(n.try_into().unwrap())
}

/// A slot without snapshots has no newest one: that is an answer, not an error.
pub async fn an_empty_slot_has_no_newest(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    for bound in [None, Some(Version(5))] {
        let found = store.newest(&slot, bound).await.unwrap();
        assert_eq!(found, None, "newest of a slot that nothing was saved in, at or below {bound:?}");
    }
}

/// Head, bytes and day come back as they were saved.
pub async fn a_snapshot_comes_back_as_it_was_saved(store: Snapshots) {
    let space = Space::fresh();
    for (number, version) in [0, 1, 7, 1 << 40, i64::MAX as u64].into_iter().enumerate() {
        let slot = space.slot("fold", 1, &number.to_string());
        let (head, bytes, day) =
            (head_of(version, number as u8), Bytes::from_static(b"\0\xffstate"), Day(19_000));
        let saved =
            store.save(&slot, Save { head, bytes: bytes.clone(), keep: Keep::Newest, day }).await.unwrap();
        assert_eq!(saved, Saved::Stored { pruned: 0 }, "the first save of a slot, at version {version}");
        let found = store.newest(&slot, None).await.unwrap();
        assert_eq!(found, Some(StoredSnapshot { head, bytes, used: day }), "saved at version {version}");
    }
}

/// Payloads from no bytes at all to 8 MiB are exact.
pub async fn payloads_up_to_8_mib_are_exact(store: Snapshots) {
    let space = Space::fresh();
    let mut random = vec![0u8; 8 * 1024 * 1024];
    fastrand::Rng::with_seed(11).fill(&mut random);
    let random = Bytes::from(random);
    for size in [0, 1, 255, 256, 4095, 4096, 65_535, 65_536, 1 << 20, (1 << 20) + 1, 8 << 20] {
        let (slot, bytes) = (space.slot("fold", 1, &size.to_string()), random.slice(..size));
        store.save(&slot, Save { bytes: bytes.clone(), ..save(1, Keep::Newest) }).await.unwrap();
        let found = store.newest(&slot, None).await.unwrap().unwrap();
        assert!(found.bytes == bytes, "{size} bytes came back as {} others", found.bytes.len());
        let listed = store.list_to_vec(SlotFilter::key(slot.key())).await.unwrap();
        assert_eq!(listed[0].bytes, size as u64, "the size that the list tells");
    }
}

/// A bound includes its version, and finds the newest snapshot that is not above it.
pub async fn a_bound_includes_its_version(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    // By number, not by text: 9 < 10 < 100.
    for version in [9, 10, 100] {
        store.save(&slot, save(version, Keep::All)).await.unwrap();
    }
    for (bound, expected) in [
        (None, Some(100)),
        (Some(u64::MAX), Some(100)),
        (Some(101), Some(100)),
        (Some(100), Some(100)),
        (Some(99), Some(10)),
        (Some(10), Some(10)),
        (Some(9), Some(9)),
        (Some(8), None),
        (Some(0), None),
    ] {
        assert_eq!(newest(&store, &slot, bound).await, expected, "at or below {bound:?}");
    }
}

/// Fold, serial and key each make a slot of their own: nothing is ever served to another one.
pub async fn slots_are_apart_by_fold_serial_and_key(store: Snapshots) {
    let space = Space::fresh();
    let longest = "k".repeat(200);
    let mut slots = vec![space.slot("fold", 2, "a"), space.slot("fold2", 1, "a"), space.slot("FOLD", 1, "a")];
    for key in ["a", "A", "a ", "a/b", "a:b", "a.b", "a*", "*", "a%", "_", "é", "'", "\\", &longest] {
        slots.push(space.slot("fold", 1, key));
    }
    slots.push(
        Slot::new(&space.fold("fold"), format!("x-{}", serial_of(1)).parse().unwrap(), slots[0].key())
            .unwrap(),
    );
    for (number, slot) in slots.iter().enumerate() {
        for other in &slots[number..] {
            assert_eq!(store.newest(other, None).await.unwrap(), None, "{other} before it was saved");
        }
        store.save(slot, save(number as u64 + 1, Keep::Newest)).await.unwrap();
    }
    for (number, slot) in slots.iter().enumerate() {
        assert_eq!(newest(&store, slot, None).await, Some(number as u64 + 1), "{slot}");
    }
}

/// An older snapshot never replaces a newer one: the save is superseded, and tells the newer head.
pub async fn an_older_snapshot_never_replaces_a_newer_one(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    for version in (1..=20).rev() {
        let saved = store.save(&slot, save(version, Keep::Newest)).await.unwrap();
        let expected = if version == 20 { Saved::Stored { pruned: 0 } } else { Saved::Superseded(head(20)) };
        assert_eq!(saved, expected, "a save of version {version}, after those from 20 down");
    }
    assert_eq!(newest(&store, &slot, None).await, Some(20), "newest after saves of older ones");
    assert_eq!(kept(&store, &slot).await, [20], "versions that are kept after saves of older ones");
    let saved = store.save(&slot, save(21, Keep::Newest)).await.unwrap();
    assert_eq!(
        saved,
        Saved::Stored { pruned: 1 },
        "a save of a newer one, which takes the place of the other"
    );
    assert_eq!(kept(&store, &slot).await, [21], "versions that are kept after a newer one was saved");
}

/// 64 saves at the same time, in any order: the newest version is what stays, and whoever was superseded hears of a
/// newer one.
pub async fn of_64_racing_saves_the_newest_stays(store: Snapshots) {
    let space = Space::fresh();
    for (round, keep) in [Keep::Newest, last(1), last(3)].into_iter().enumerate() {
        let slot = space.slot("fold", 1, &round.to_string());
        let mut versions: Vec<_> = (1..=64).collect();
        fastrand::Rng::with_seed(round as u64).shuffle(&mut versions);
        at_once(versions.into_iter().map(|version| {
            let (store, slot) = (store.clone(), slot.clone());
            async move {
                if let Saved::Superseded(newer) = store.save(&slot, save(version, keep)).await.unwrap() {
                    assert!(newer.version > Version(version), "superseded by {newer}");
                }
            }
        }))
        .await;
        assert_eq!(newest(&store, &slot, None).await, Some(64), "newest of 64 racing saves, {keep:?}");
        let expected: &[u64] = if round == 2 { &[62, 63, 64] } else { &[64] };
        assert_eq!(kept(&store, &slot).await, expected, "versions kept of 64 racing saves, {keep:?}");
    }
}

/// A save at a version that is there replaces it: head, bytes and day.
pub async fn an_equal_version_replaces(store: Snapshots) {
    let space = Space::fresh();
    for keep in [Keep::Newest, last(2), Keep::All] {
        let slot = space.slot("fold", 1, &format!("{keep:?}").replace(['(', ')'], "-"));
        store.save(&slot, save(5, keep)).await.unwrap();
        let (bytes, tomorrow) = (Bytes::from_static(b"other"), Day(TODAY.0 + 1));
        let other = Save { head: head_of(5, 9), bytes: bytes.clone(), keep, day: tomorrow };
        let saved = store.save(&slot, other).await.unwrap();
        assert_eq!(saved, Saved::Stored { pruned: 0 }, "a save at the version that is there, {keep:?}");
        let found = store.newest(&slot, None).await.unwrap();
        assert_eq!(found, Some(StoredSnapshot { head: head_of(5, 9), bytes, used: tomorrow }), "{keep:?}");
        assert_eq!(kept(&store, &slot).await, [5], "versions after two saves at version 5, {keep:?}");
    }
}

/// `Keep::Last` keeps that many, by version and not by time; what finds no room is superseded.
pub async fn the_last_n_are_kept_by_version(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    for (version, expected, left) in [
        (10, Saved::Stored { pruned: 0 }, vec![10]),
        (30, Saved::Stored { pruned: 0 }, vec![10, 30]),
        (20, Saved::Stored { pruned: 0 }, vec![10, 20, 30]),
        (40, Saved::Stored { pruned: 1 }, vec![20, 30, 40]),
        (25, Saved::Stored { pruned: 1 }, vec![25, 30, 40]),
        (24, Saved::Superseded(head(40)), vec![25, 30, 40]),
        (25, Saved::Stored { pruned: 0 }, vec![25, 30, 40]),
    ] {
        assert_eq!(store.save(&slot, save(version, last(3))).await.unwrap(), expected, "version {version}");
        assert_eq!(kept(&store, &slot).await, left, "after version {version}");
    }
    assert_eq!(newest(&store, &slot, Some(39)).await, Some(30), "at or below 39, of 25, 30 and 40");
}

/// `Keep::All` keeps all, saved in any order.
pub async fn all_are_kept_if_asked(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    for version in [5, 3, 9, 1, 7] {
        let saved = store.save(&slot, save(version, Keep::All)).await.unwrap();
        assert_eq!(saved, Saved::Stored { pruned: 0 }, "a save of version {version} where all are kept");
    }
    assert_eq!(kept(&store, &slot).await, [1, 3, 5, 7, 9], "versions kept of five, saved in any order");
    assert_eq!(newest(&store, &slot, Some(6)).await, Some(5), "at or below 6, of 1, 3, 5, 7 and 9");
}

/// Each save prunes by its own retention; one that is superseded prunes nothing.
pub async fn only_a_save_that_is_kept_prunes(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    for version in 1..=6 {
        store.save(&slot, save(version, Keep::All)).await.unwrap();
    }
    for (version, keep, expected, left) in [
        (3, Keep::Newest, Saved::Superseded(head(6)), vec![1, 2, 3, 4, 5, 6]),
        (7, last(4), Saved::Stored { pruned: 3 }, vec![4, 5, 6, 7]),
        (7, Keep::Newest, Saved::Stored { pruned: 3 }, vec![7]),
    ] {
        let saved = store.save(&slot, save(version, keep)).await.unwrap();
        assert_eq!(saved, expected, "a save of version {version}, {keep:?}");
        assert_eq!(kept(&store, &slot).await, left, "versions after a save of version {version}, {keep:?}");
    }
}

/// A save replaces and prunes in one step: who reads beside saves always finds a snapshot, and never an older
/// one than before.
pub async fn a_reader_beside_saves_always_finds_the_newest(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    store.save(&slot, save(1, Keep::Newest)).await.unwrap();
    let writer = tokio::spawn({
        let (store, slot) = (store.clone(), slot.clone());
        async move {
            for version in 2..=60 {
                let saved = store.save(&slot, save(version, Keep::Newest)).await.unwrap();
                assert_eq!(saved, Saved::Stored { pruned: 1 }, "version {version}");
                tokio::task::yield_now().await;
            }
        }
    });
    let (mut seen, mut ended) = (1, false);
    while !ended {
        // A store that never waits would otherwise not let the writer begin.
        tokio::task::yield_now().await;
        ended = writer.is_finished();
        let found = newest(&store, &slot, None).await;
        assert!(
            found >= Some(seen),
            "found {found:?} after version {seen} was seen, beside saves of newer ones"
        );
        seen = found.unwrap_or(seen);
    }
    joined(writer).await;
    assert_eq!(newest(&store, &slot, None).await, Some(60), "newest after all saves");
}

/// A call whose future is dropped leaves nothing behind for the next one: on a connection that is used again,
/// who asks next gets the answer to its own question.
pub async fn a_dropped_call_leaves_no_answer_behind(store: Snapshots) {
    let space = Space::fresh();
    let slots: Vec<_> = (1..=32).map(|number| space.slot("fold", 1, &number.to_string())).collect();
    for (slot, version) in slots.iter().zip(1..) {
        store.save(slot, save(version, Keep::Newest)).await.unwrap();
    }
    for round in 0..8u64 {
        at_once(slots.iter().cloned().zip(1..).map(|(slot, version)| {
            let store = store.clone();
            async move {
                // Polled once, dropped a while later: the question may be asked by then, and the answer
                // there.
                let mut call = store.newest(&slot, None);
                let answered = (&mut call).now_or_never();
                tokio::time::sleep(Duration::from_micros((version * round) % 32 * 20)).await;
                drop(call);
                if let Some(answer) = answered {
                    let found = answer.unwrap().map(|found| found.head);
                    assert_eq!(
                        found,
                        Some(head(version)),
                        "round {round}: the answer to a call that was in time"
                    );
                }
                let found = newest(&store, &slot, None).await;
                assert_eq!(found, Some(version), "round {round}: the answer after a call that was dropped");
            }
        }))
        .await;
    }
}

/// Snapshots that are saved together are each kept, superseded or pruned as if they were saved alone, and answered in their order.
pub async fn saves_of_many_slots_are_each_as_one(store: Snapshots) {
    let space = Space::fresh();
    let slots: Vec<_> = (0..40).map(|number| space.slot("fold", 1, &number.to_string())).collect();
    for slot in slots.iter().step_by(4) {
        store.save(slot, save(9, Keep::Newest)).await.unwrap();
    }
    for slot in slots.iter().skip(1).step_by(4) {
        store.save(slot, save(3, Keep::Newest)).await.unwrap();
    }
    let saves: Vec<_> = slots.iter().map(|slot| (slot.clone(), save(5, Keep::Newest))).collect();
    let answers = store.save_many(&saves).await;
    assert_eq!(answers.len(), saves.len(), "one answer for each save");
    for (number, (slot, answer)) in slots.iter().zip(answers).enumerate() {
        let (expected, left) = match number % 4 {
            0 => (Saved::Superseded(head(9)), 9),
            1 => (Saved::Stored { pruned: 1 }, 5),
            _ => (Saved::Stored { pruned: 0 }, 5),
        };
        assert_eq!(answer.unwrap(), expected, "slot {number}");
        assert_eq!(kept(&store, slot).await, [left], "slot {number}");
        assert_eq!(newest(&store, slot, None).await, Some(left), "slot {number}");
    }
    assert!(store.save_many(&[]).await.is_empty(), "nothing is nothing");
}
