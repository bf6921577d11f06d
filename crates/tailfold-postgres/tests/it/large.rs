//! Reads of events that do not fit into a page with a thousand others.

use crate::support::*;

#[tokio::test]
async fn large_events_are_read_in_their_places_both_ways_and_behind_a_snapshot() {
    let (store, _) = fresh_store().await;
    let large = |byte: u8| event(vec![byte; 300_000]);
    let with_large_metadata = {
        let mut data = event("small").into_data();
        data.metadata = format!("{{\"note\":\"{}\"}}", "x".repeat(5000)).into();
        NewEvent::new(data).unwrap()
    };
    let mut wanted = vec![large(1), event("2"), large(3), large(4), large(5), large(6), event("7")];
    wanted.extend([with_large_metadata, event("9"), large(10)]);
    let id = stream("large/1");
    let head = {
        let commit = Commit::new(id.clone(), Expected::NoStream, wanted.clone());
        store.append(commit).await.unwrap().writes[0].head
    };
    let matches = |read: &[RecordedEvent], wanted: &[NewEvent]| {
        assert_eq!(read.len(), wanted.len());
        for (read, wanted) in read.iter().zip(wanted) {
            assert_eq!(read.data, *wanted.data(), "version {}", read.version);
        }
    };
    let read = async |direction| -> Vec<RecordedEvent> {
        store.read(&id, VersionRange::ALL, direction).try_concat().await.unwrap()
    };
    matches(&read(Direction::Forward).await, &wanted);
    let mut backward = read(Direction::Backward).await;
    backward.reverse();
    matches(&backward, &wanted);
    for from in [1, 2, 3, 6, 10] {
        let slot =
            Slot::new("fold", "1-9f86d081884c7d65".parse().unwrap(), &format!("large/1-{from}")).unwrap();
        let anchor = Head { version: Version(from as u64), ..head };
        let save = Save { head: anchor, bytes: "state".into(), keep: Keep::Newest, day: Day(1) };
        store.save(&slot, save).await.unwrap();
        let (found, tail) = store.newest_with_tail(&slot, &id, None).await.unwrap();
        assert_eq!(found.unwrap().head, anchor);
        let tail: Vec<_> = tail.try_concat().await.unwrap();
        matches(&tail, &wanted[from - 1..]);
    }
}
