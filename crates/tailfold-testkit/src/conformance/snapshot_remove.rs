//! Snapshots: removing what was rejected, what is unused, what is to be forgotten.

use super::support::*;

fn save_on(version: u64, bytes: &'static [u8], day: Day) -> Save {
    let head = Head { version: Version(version), chain: Chain::from_bytes([1; 16]) };
    Save { head, bytes: Bytes::from_static(bytes), keep: Keep::All, day }
}

fn save(version: u64, bytes: &'static [u8]) -> Save {
    save_on(version, bytes, Day(20_000))
}

async fn count(store: &Snapshots, slot: &Slot) -> u64 {
    store.count(SlotFilter::key(slot.key())).await.unwrap().snapshots
}

/// The snapshot that was read is removed; once.
pub async fn what_was_read_is_removed_once(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    for version in [3, 5] {
        store.save(&slot, save(version, b"state")).await.unwrap();
    }
    let read = store.newest(&slot, None).await.unwrap().unwrap();
    assert!(store.compare_and_remove(&slot, &read).await.unwrap(), "what was read is removed");
    assert!(!store.compare_and_remove(&slot, &read).await.unwrap(), "it is removed twice");
    let older = store.newest(&slot, None).await.unwrap().unwrap();
    assert_eq!(older.head.version, Version(3));
    // Those above it stay.
    store.save(&slot, save(4, b"state")).await.unwrap();
    assert!(store.compare_and_remove(&slot, &older).await.unwrap());
    let newer = store.newest(&slot, None).await.unwrap();
    assert_eq!(
        newer.as_ref().map(|newer| newer.head.version),
        Some(Version(4)),
        "a newer one than was removed"
    );
    assert!(store.compare_and_remove(&slot, &newer.unwrap()).await.unwrap());
    assert_eq!(store.newest(&slot, None).await.unwrap(), None);
}

/// Another snapshot at the same version stays: somebody has repaired it meanwhile. So does one of another slot.
pub async fn what_somebody_has_replaced_stays(store: Snapshots) {
    let space = Space::fresh();
    let (slot, other) = (space.slot("fold", 1, "a"), space.slot("fold", 2, "a"));
    for (damaged, repaired) in
        [(&b"bad"[..], &b"god"[..]), (b"cut", b"cut whole"), (b"", b"\0"), (b"ab\0", b"ab")]
    {
        store.save(&slot, save(5, damaged)).await.unwrap();
        let read = store.newest(&slot, None).await.unwrap().unwrap();
        store.save(&slot, save(5, repaired)).await.unwrap();
        let removed = store.compare_and_remove(&slot, &read).await.unwrap();
        assert!(!removed, "{repaired:?} is removed, but {damaged:?} was read");
        let left = store.newest(&slot, None).await.unwrap().map(|left| left.bytes);
        assert_eq!(left.as_deref(), Some(repaired), "what somebody has put in place of {damaged:?}");
    }
    let read = store.newest(&slot, None).await.unwrap().unwrap();
    assert!(!store.compare_and_remove(&other, &read).await.unwrap(), "removed from another slot");
    let later = StoredSnapshot { head: Head { version: Version(6), ..read.head }, ..read.clone() };
    assert!(!store.compare_and_remove(&slot, &later).await.unwrap(), "removed at another version");
    let other_history = Head { chain: Chain::from_bytes([2; 16]), ..read.head };
    let moved = Save { head: other_history, bytes: read.bytes.clone(), keep: Keep::All, day: read.used };
    store.save(&slot, moved).await.unwrap();
    let removed = store.compare_and_remove(&slot, &read).await.unwrap();
    assert!(!removed, "equal bytes, but anchored in another history than was read");
    assert_eq!(count(&store, &slot).await, 1, "snapshots of the key");
}

/// A snapshot that was used since it was read is still the same.
pub async fn use_does_not_change_what_was_read(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    store.save(&slot, save(5, b"state")).await.unwrap();
    let read = store.newest(&slot, None).await.unwrap().unwrap();
    store.mark_used(&[(slot.clone(), Version(5))], Day(20_001)).await.unwrap();
    let removed = store.compare_and_remove(&slot, &read).await.unwrap();
    assert!(removed, "a snapshot that was used since it was read is another one");
}

/// Use moves the day forward and never back, leaves the bytes alone, and skips what is not there.
pub async fn use_is_noted_by_day(store: Snapshots) {
    let space = Space::fresh();
    let (slot, other) = (space.slot("fold", 1, "a"), space.slot("fold", 1, "b"));
    for (slot, version) in [(&slot, 3), (&slot, 5), (&other, 5)] {
        store.save(slot, save(version, b"state")).await.unwrap();
    }
    let absent = (space.slot("fold", 9, "a"), Version(5));
    for (day, expected) in [(20_010, 20_010), (20_004, 20_010), (20_010, 20_010), (20_011, 20_011)] {
        let used = [absent.clone(), (slot.clone(), Version(5)), (slot.clone(), Version(4))];
        store.mark_used(&used, Day(day)).await.unwrap();
        let found = store.newest(&slot, None).await.unwrap().unwrap();
        assert_eq!(found.used, Day(expected), "the day of use after it was marked on {day}");
        assert_eq!(found.bytes, &b"state"[..], "a mark has changed the payload");
    }
    for (slot, version) in [(&slot, 3), (&other, 5)] {
        let found = store.newest(slot, Some(Version(version))).await.unwrap().unwrap();
        assert_eq!((found.head.version, found.used), (Version(version), Day(20_000)), "{slot}, never marked");
    }
    assert_eq!(store.newest(&absent.0, None).await.unwrap(), None, "a snapshot that was marked, never saved");
    store.mark_used(&[], Day(20_012)).await.unwrap();
    assert_eq!(count(&store, &slot).await, 2, "snapshots after marks");
    let all = [(other.clone(), Version(5)), (slot.clone(), Version(3)), (slot.clone(), Version(5))];
    store.mark_used(&all, Day(20_013)).await.unwrap();
    for (slot, version) in all {
        let found = store.newest(&slot, Some(version)).await.unwrap().unwrap();
        assert_eq!(found.used, Day(20_013), "{slot} at version {version}, marked with others");
    }
}

/// A sweep removes what was last used before the day, and keeps what was used on it; a save counts as use.
pub async fn a_sweep_keeps_what_was_used_on_the_day(store: Snapshots) {
    let space = Space::fresh();
    let slot = |key: &str| space.slot("fold", 1, key);
    let filter = SlotFilter::fold(space.fold("fold"));
    for (key, day) in
        [("old", 19_909), ("boundary", 19_910), ("new", 20_000), ("used", 19_000), ("marked", 19_000)]
    {
        store.save(&slot(key), save_on(1, b"state", Day(day))).await.unwrap();
    }
    store.save(&slot("used"), save_on(2, b"states", Day(19_950))).await.unwrap();
    store.mark_used(&[(slot("marked"), Version(1))], Day(19_910)).await.unwrap();
    let swept = store.sweep(filter.clone(), Day(20_000).minus(90)).await.unwrap();
    assert_eq!(swept, Swept { snapshots: 2, bytes: 10 }, "what was swept: two of five bytes each");
    let left = store.list_to_vec(filter.clone()).await.unwrap();
    let left: Vec<_> = left.iter().map(|info| (info.slot.key(), info.head.version.0)).collect();
    let (boundary, marked, new, used) = (slot("boundary"), slot("marked"), slot("new"), slot("used"));
    assert_eq!(left, [(boundary.key(), 1), (marked.key(), 1), (new.key(), 1), (used.key(), 2)]);
    let again = store.sweep(filter, Day(19_910)).await.unwrap();
    assert_eq!(again, Swept::default(), "what the same sweep finds once more");
}

/// A sweep removes only what its filter names.
pub async fn a_sweep_keeps_what_its_filter_does_not_name(store: Snapshots) {
    let space = Space::fresh();
    let slots = [("one", 1, "a"), ("one", 2, "a"), ("two", 1, "a"), ("one", 1, "b")]
        .map(|(f, s, k)| space.slot(f, s, k));
    for slot in &slots {
        store.save(slot, save_on(1, b"state", Day(1))).await.unwrap();
    }
    let filter = SlotFilter { serial: Some(serial_of(1)), ..SlotFilter::fold(space.fold("one")) };
    let filter = SlotFilter { key: Some(slots[0].key().to_owned()), ..filter };
    assert_eq!(store.sweep(filter, Day(2)).await.unwrap().snapshots, 1, "snapshots that were swept");
    assert_eq!(store.newest(&slots[0], None).await.unwrap(), None, "the one that the filter names");
    for slot in &slots[1..] {
        let left = store.newest(slot, None).await.unwrap();
        assert!(left.is_some(), "{slot} was swept, which the filter does not name");
    }
}

/// Checkpoints and parked events lie among snapshots and are none: no sweep removes them, whatever its filter
/// names. A store that may lose them refuses them.
pub async fn what_is_no_snapshot_is_never_swept(store: Snapshots) {
    let slot = Space::fresh().slot("fold", 1, "a");
    let lasting = Slot::new(Slot::LASTING, serial_of(1), slot.key()).unwrap();
    if let Err(error) = store.save(&lasting, save_on(1, b"state", Day(1))).await {
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "the refusal of what is no snapshot: {error}");
        assert_eq!(store.newest(&lasting, None).await.unwrap(), None, "what was refused");
        return;
    }
    store.save(&slot, save_on(1, b"state", Day(1))).await.unwrap();
    for filter in [
        SlotFilter::fold(Slot::LASTING),
        SlotFilter { serial: Some(serial_of(1)), ..SlotFilter::fold(Slot::LASTING) },
    ] {
        assert_eq!(store.sweep(filter, Day(20_000)).await.unwrap(), Swept::default());
    }
    let swept = store.sweep(SlotFilter::key(slot.key()), Day(20_000)).await.unwrap();
    assert_eq!(swept, Swept { snapshots: 1, bytes: 5 });
    assert_eq!(store.newest(&slot, None).await.unwrap(), None);
    assert_eq!(store.newest(&lasting, None).await.unwrap().unwrap().bytes, "state");
}

/// Sweeps of many processes at once remove each snapshot once.
pub async fn sweeps_at_once_remove_each_snapshot_once(store: Snapshots) {
    let space = Space::fresh();
    for number in 0..300 {
        let slot = space.slot("fold", 1, &number.to_string());
        store.save(&slot, save_on(1, b"state", Day(1 + number % 2))).await.unwrap();
    }
    let swept = at_once((0..6).map(|_| {
        let (store, filter) = (store.clone(), SlotFilter::fold(space.fold("fold")));
        async move { store.sweep(filter, Day(2)).await.unwrap() }
    }))
    .await;
    let (snapshots, bytes) = swept.iter().fold((0, 0), |sum, one| (sum.0 + one.snapshots, sum.1 + one.bytes));
    assert_eq!(
        (snapshots, bytes),
        (150, 150 * 5),
        "snapshots and bytes that six sweeps at once tell together"
    );
    let left = store.count(SlotFilter::fold(space.fold("fold"))).await.unwrap();
    assert_eq!(left, Swept { snapshots: 150, bytes: 750 }, "what is left of 300");
}

/// A key is forgotten whole, every fold and serial and version; keys that begin alike stay.
pub async fn a_key_is_forgotten_whole(store: Snapshots) {
    let space = Space::fresh();
    let gone = [space.slot("one", 1, "a"), space.slot("one", 2, "a"), space.slot("two", 1, "a")];
    let stay = [space.slot("one", 1, "ab"), space.slot("one", 1, "A"), space.slot("one", 1, "a/b")];
    for slot in gone.iter().chain(&stay) {
        for version in [1, 2] {
            store.save(slot, save(version, b"state")).await.unwrap();
        }
    }
    let forgotten = store.forget(gone[0].key()).await.unwrap();
    assert_eq!(forgotten, Swept { snapshots: 6, bytes: 30 }, "three slots of two versions of five bytes");
    assert_eq!(store.forget(gone[0].key()).await.unwrap(), Swept::default(), "forgotten once more");
    for slot in &gone {
        assert_eq!(store.newest(slot, None).await.unwrap(), None, "{slot} of a key that was forgotten");
    }
    for slot in &stay {
        assert_eq!(count(&store, slot).await, 2, "{slot} of another key that begins alike");
    }
}
