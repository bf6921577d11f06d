//! Snapshots of one place, which several processes have open. Here a process is a store that shares nothing
//! with the other in memory.

use futures_util::future::BoxFuture;

use super::support::*;
use crate::Fixture;

fn save(version: u64, text: &'static str) -> Save {
    let head = Head { version: Version(version), chain: Chain::from_bytes([1; 16]) };
    Save { head, bytes: Bytes::from_static(text.as_bytes()), keep: Keep::Newest, day: Day(20_000) }
}

/// The place as the first process has it open, and as the next one opens it.
fn two<S: SnapshotStore + ?Sized + 'static>(fixture: &Fixture<S>) -> BoxFuture<'static, [Snapshots; 2]> {
    let (one, two) = (fixture.store(), fixture.reopen());
    Box::pin(async move { [Arc::new(one) as Snapshots, Arc::new(two.await)] })
}

async fn newest(store: &Snapshots, slot: &Slot) -> Option<Bytes> {
    store.newest(slot, None).await.unwrap().map(|found| found.bytes)
}

/// What was saved is there for who opens the place after a process that was killed, and for every other that
/// has it open; no process replaces a newer snapshot of another.
pub async fn what_was_saved_is_there_when_opened_again<S: SnapshotStore + ?Sized + 'static>(
    fixture: Fixture<S>,
) {
    let [one, two] = two(&fixture).await;
    let space = Space::fresh();
    let slot = space.slot("fold", 1, "a");
    assert_eq!(newest(&two, &slot).await, None);
    one.save(&slot, save(5, "five")).await.unwrap();
    assert_eq!(newest(&two, &slot).await.as_deref(), Some(&b"five"[..]), "what another process has saved");
    assert_eq!(two.save(&slot, save(4, "four")).await.unwrap(), Saved::Superseded(save(5, "").head));
    assert_eq!(two.save(&slot, save(6, "six")).await.unwrap(), Saved::Stored { pruned: 1 });
    assert_eq!(newest(&one, &slot).await.as_deref(), Some(&b"six"[..]), "what another process has saved");
    two.mark_used(&[(slot.clone(), Version(6))], Day(20_003)).await.unwrap();
    let three: Snapshots = Arc::new(fixture.reopen().await);
    let expected = StoredSnapshot { head: save(6, "").head, bytes: "six".into(), used: Day(20_003) };
    assert_eq!(three.newest(&slot, None).await.unwrap(), Some(expected), "for who opens the place again");
    assert_eq!(three.list_to_vec(SlotFilter::key(slot.key())).await.unwrap().len(), 1);
}

/// What one process has removed, swept or forgotten, no other serves any more, even if it has served it
/// before: a stream that was erased must not live on in somebody's memory.
pub async fn what_one_process_removes_no_other_serves<S: SnapshotStore + ?Sized + 'static>(
    fixture: Fixture<S>,
) {
    let [one, two] = two(&fixture).await;
    let space = Space::fresh();
    for way in ["removed", "swept", "forgotten"] {
        let slot = space.slot(way, 1, way);
        one.save(&slot, save(5, "state")).await.unwrap();
        for store in [&one, &two] {
            assert_eq!(newest(store, &slot).await.as_deref(), Some(&b"state"[..]), "before it is {way}");
        }
        match way {
            "removed" => {
                let read = two.newest(&slot, None).await.unwrap().unwrap();
                assert!(two.compare_and_remove(&slot, &read).await.unwrap());
            }
            "swept" => {
                let swept = two.sweep(SlotFilter::fold(slot.fold()), Day(20_001)).await.unwrap();
                assert_eq!(swept, Swept { snapshots: 1, bytes: 5 });
            }
            _ => assert_eq!(two.forget(slot.key()).await.unwrap(), Swept { snapshots: 1, bytes: 5 }),
        }
        for store in [&one, &two] {
            assert_eq!(newest(store, &slot).await, None, "{way} by another process");
            assert!(store.list_to_vec(SlotFilter::key(slot.key())).await.unwrap().is_empty());
        }
    }
}
