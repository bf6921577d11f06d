//! Snapshots: listing what is kept.

use super::support::*;

fn save(version: u64) -> Save {
    let head = Head { version: Version(version), chain: Chain::from_bytes([version as u8; 16]) };
    Save {
        head,
        bytes: vec![b'x'; version as usize].into(),
        keep: Keep::All,
        day: Day(20_000 + version as i64),
    }
}

/// A list tells slot, head, size and day, ordered by slot and version.
pub async fn a_list_is_ordered_by_slot_and_version(store: Snapshots) {
    let space = Space::fresh();
    let mut slots = Vec::new();
    for fold in ["two", "one", "One"] {
        for serial in [2, 1] {
            for key in ["b", "a", "B", "é", "a b"] {
                slots.push(space.slot(fold, serial, key));
            }
        }
    }
    for slot in &slots {
        for version in [10, 2, 9] {
            store.save(slot, save(version)).await.unwrap();
        }
    }
    slots.sort();
    let mut expected = Vec::new();
    for slot in &slots {
        for version in [2, 9, 10] {
            let Save { head, bytes, day, .. } = save(version);
            expected.push(SnapshotInfo { slot: slot.clone(), head, bytes: bytes.len() as u64, used: day });
        }
    }
    let everything = store.list_to_vec(SlotFilter::all()).await.unwrap();
    let ours = |info: &SnapshotInfo| info.slot.fold().ends_with(space.category());
    let ours_of_all: Vec<_> = everything.into_iter().filter(ours).collect();
    assert_eq!(ours_of_all, expected, "the list of everything, by slot and version");
    for filter in [
        SlotFilter::fold(space.fold("one")),
        SlotFilter::key(slots[0].key()),
        SlotFilter { serial: Some(serial_of(2)), ..SlotFilter::fold(space.fold("two")) },
        SlotFilter { key: Some(slots[3].key().to_owned()), ..SlotFilter::fold(space.fold("One")) },
        SlotFilter::fold(space.fold("three")),
        SlotFilter { serial: Some(serial_of(3)), ..SlotFilter::key(slots[0].key()) },
    ] {
        let matching: Vec<_> = expected.iter().filter(|info| filter.matches(&info.slot)).cloned().collect();
        assert_eq!(store.list_to_vec(filter.clone()).await.unwrap(), matching, "{filter:?}");
    }
    let by_serial =
        store.list_to_vec(SlotFilter { serial: Some(serial_of(1)), ..SlotFilter::all() }).await.unwrap();
    let found = by_serial.into_iter().filter(ours).count();
    assert_eq!(found, expected.len() / 2, "snapshots of one serial of two");
}

/// Long lists, of many slots or many versions of one, come in pages without loss.
pub async fn long_lists_come_in_pages_without_loss(store: Snapshots) {
    let space = Space::fresh();
    for (slots, versions) in [(520, 1), (1, 520), (40, 13)] {
        let fold = format!("f{slots}");
        for slot in 0..slots {
            let slot = space.slot(&fold, 1, &format!("{slot:04}"));
            for version in 1..=versions {
                store.save(&slot, Save { bytes: Bytes::from_static(b"xy"), ..save(version) }).await.unwrap();
            }
        }
        let filter = SlotFilter::fold(space.fold(&fold));
        let mut listed = Vec::new();
        let mut batches = store.list(filter.clone());
        while let Some(batch) = batches.try_next().await.unwrap() {
            assert!(!batch.is_empty() && batch.len() <= 4096, "a batch of {}", batch.len());
            listed.extend(batch.into_iter().map(|info| (info.slot, info.head.version)));
        }
        let all = slots * versions;
        assert_eq!(listed.len() as u64, all, "listed of {slots} slots with {versions} versions each");
        assert!(listed.is_sorted_by(|a, b| a < b), "not by slot and version, or some twice");
        let count = store.count(filter).await.unwrap();
        assert_eq!(count, Swept { snapshots: all, bytes: 2 * all }, "what counting tells of them");
    }
}
