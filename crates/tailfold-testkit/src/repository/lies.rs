//! Nine ways in which snapshots have lied elsewhere, and some more. Every load must give the right state.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tailfold::{
    Aggregate, ErrorKind, EventMeta, EventStore as _, Fold, Keep, MemoryStore, Policy, Rejection, Removal,
    Repository, Save, SlotFilter, SnapshotStore as _, SnapshotStoreExt as _, Source, State, Store, Timestamp,
    Version,
};

use super::folds::{Ledger, LedgerEvent, actor, events};
use super::support::{every, feed, load_right, plain, replace, rewrite, stored, stream, truth};
use crate::{Fault, FaultySnapshots};

/// 1,000 commands through the snapshot path.
pub async fn a_thousand_commands_through_the_snapshot_path_are_right(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    let mut balance = 0;
    for n in 0..1_000i64 {
        let receipt = repository
            .execute(&id, |ledger: &Ledger| {
                assert_eq!(ledger.count, n as u64);
                if n % 3 == 2 { ledger.debit(1) } else { Ok(LedgerEvent::Credited { cents: 2 }) }
            })
            .await
            .expect("execute")
            .expect("the balance allows it");
        balance += if n % 3 == 2 { -1 } else { 2 };
        assert_eq!(receipt.state().balance, balance);
    }
    repository.flush().await;
    let loaded = load_right(&repository, &store, &id).await;
    assert!(matches!(loaded.report().source, Source::Snapshot(_)), "{:?}", loaded.report());
    assert_eq!(loaded.state().count, 1_000);
}

/// 143 commits of 7 events, with a policy that falls into the middle of commits.
pub async fn commits_of_seven_across_a_policy_of_a_hundred_are_right(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 100), actor());
    let mut loaded = repository.load(&id).await.expect("load");
    for commit in events(1_001).chunks(7) {
        loaded = repository.append(loaded, commit.to_vec()).await.expect("append").into_loaded();
        repository.flush().await;
        let fresh = load_right(&repository, &store, &id).await;
        assert_eq!(fresh.head(), loaded.head());
        assert!(fresh.report().replayed_events < 107, "{:?}", fresh.report());
    }
}

/// Every prefix of the stored bytes, nothing at all, and bytes of something else.
pub async fn truncated_emptied_and_foreign_snapshots_are_rejected_and_replaced(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(10), 1).await;
    let (slot, good) = stored(&store, &id).await;
    let cuts = (0..good.bytes.len()).step_by(7).map(|length| good.bytes.slice(..length));
    let foreign = [Bytes::from_static(b"{\"balance\":1000000}"), Bytes::from(vec![0xc0; 4096])];
    for bytes in cuts.chain(foreign) {
        replace(&store, &slot, &good, bytes).await;
        let loaded = load_right(&repository, &store, &id).await;
        assert_eq!(loaded.report().source, Source::Replay);
        assert_eq!(
            loaded.report().rejected.first().map(|rejected| rejected.reason),
            Some(Rejection::Corrupt)
        );
        // The replay was long enough for a snapshot, so the next load is served by one.
        repository.flush().await;
        let loaded = load_right(&repository, &store, &id).await;
        assert_eq!(loaded.report().source, Source::Snapshot(Version(10)));
    }
}

/// Every single bit of the stored snapshot.
pub async fn a_snapshot_with_any_bit_flipped_is_rejected(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(10), 1).await;
    let right = truth(&store, &id).await;
    let (slot, good) = stored(&store, &id).await;
    // A repository that repairs nothing, so that the flipped bytes stay until they are replaced.
    let reader =
        Repository::<Ledger>::builder(store.clone()).snapshots(Policy::never()).build().expect("build");
    for bit in 0..good.bytes.len() * 8 {
        let mut bytes = good.bytes.to_vec();
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        replace(&store, &slot, &good, bytes.into()).await;
        let loaded = reader.load(&id).await.expect("load");
        assert_eq!(*loaded.state(), right, "bit {bit}");
        assert_eq!(loaded.report().source, Source::Replay, "bit {bit}");
    }
}

macro_rules! release {
    ($release:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty = $value:expr),* $(,)? }) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
        #[state(name = "ledger-release")]
        struct $release {
            $($(#[$attribute])* $field: $kind,)*
        }

        impl Fold for $release {
            type Event = LedgerEvent;

            fn apply(&mut self, event: LedgerEvent, _meta: &EventMeta<'_>) {
                let cents = match event {
                    LedgerEvent::Credited { cents } => cents,
                    LedgerEvent::Debited { cents } => -cents,
                    LedgerEvent::Closed { .. } | LedgerEvent::Remarked { .. } => 0,
                };
                $($value(self, cents);)*
            }
        }
    };
}

async fn a_release_after_another<Old: Aggregate<Event = LedgerEvent>, New: Aggregate<Event = LedgerEvent>>(
    store: Arc<dyn Store>,
    same: impl Fn(&New, &New) -> bool,
) {
    let id = actor();
    feed(&plain(&store), &id, events(20), 1).await;
    let old = Repository::<Old>::builder(store.clone()).snapshots(Policy::every(10)).build().expect("build");
    let new = Repository::<New>::builder(store.clone()).snapshots(Policy::every(10)).build().expect("build");
    assert_ne!(old.serial(), new.serial());
    old.load(&id).await.expect("load");
    old.flush().await;
    assert_ne!(old.load(&id).await.expect("load").report().source, Source::Replay);
    let first = new.load(&id).await.expect("load");
    assert_eq!(first.report().source, Source::Replay, "a snapshot of another serial was used");
    assert!(first.report().rejected.is_empty(), "another serial is not even tried: {:?}", first.report());
    let right = Repository::<New>::builder(store).build().expect("build").load(&id).await.expect("load");
    assert!(same(first.state(), right.state()));
    new.flush().await;
    // Two releases side by side: neither evicts the other's snapshots.
    assert_ne!(new.load(&id).await.expect("load").report().source, Source::Replay);
    assert_ne!(old.load(&id).await.expect("load").report().source, Source::Replay);
}

/// A state field renamed, without a label.
pub async fn a_renamed_field_makes_another_serial(store: Arc<dyn Store>) {
    release!(Old { sum: i64 = |state: &mut Old, cents| state.sum += cents });
    release!(New { total: i64 = |state: &mut New, cents| state.total += cents });
    a_release_after_another::<Old, New>(store, |a, b| a == b).await;
}

/// A state field renamed where a default would hide it.
pub async fn a_renamed_field_with_a_default_makes_another_serial(store: Arc<dyn Store>) {
    release!(Old {
        #[serde(default)]
        sum: i64 = |state: &mut Old, cents| state.sum += cents
    });
    release!(New {
        #[serde(default)]
        total: i64 = |state: &mut New, cents| state.total += cents
    });
    a_release_after_another::<Old, New>(store, |a, b| a == b).await;
}

/// Two fields of one type swapped.
pub async fn two_swapped_fields_make_another_serial(store: Arc<dyn Store>) {
    release!(Old {
        credits: i64 = |state: &mut Old, cents: i64| state.credits += cents.max(0),
        debits: i64 = |state: &mut Old, cents: i64| state.debits += cents.min(0),
    });
    release!(New {
        debits: i64 = |state: &mut New, cents: i64| state.debits += cents.min(0),
        credits: i64 = |state: &mut New, cents: i64| state.credits += cents.max(0),
    });
    a_release_after_another::<Old, New>(store, |a, b| a == b).await;
}

/// The same name, label and shape, another logic: each would be served the other's snapshots.
pub async fn two_folds_with_one_name_label_and_shape_do_not_live_side_by_side(store: Arc<dyn Store>) {
    release!(Sum { cents: i64 = |state: &mut Sum, cents| state.cents += cents });
    release!(Largest { cents: i64 = |state: &mut Largest, cents: i64| state.cents = state.cents.max(cents) });
    fn build<F: Fold>(store: &Arc<dyn Store>) -> tailfold::Result<Repository<F>> {
        Repository::<F>::builder(store.clone()).snapshots(Policy::every(10)).build()
    }
    let sums = build::<Sum>(&store).expect("the first");
    assert_eq!(build::<Sum>(&store).expect("a second of the same").serial(), sums.serial());
    let error = build::<Largest>(&store).expect_err("it would be served snapshots of sums");
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    let told = error.to_string();
    for part in ["`ledger-release`", "::Sum`", "::Largest`", "name = ", "serial = "] {
        assert!(told.contains(part), "`{part}` is missing: {told}");
    }
    // Neither what keeps no snapshots nor another store is in the way.
    Repository::<Largest>::builder(store.clone()).build().expect("without snapshots");
    build::<Largest>(&(Arc::new(MemoryStore::new()) as Arc<dyn Store>)).expect("over another store");
    // Nor what was there before, however many had it.
    let copy = sums.clone();
    drop(sums);
    assert!(build::<Largest>(&store).is_err(), "a clone lives");
    drop(copy);
    build::<Largest>(&store).expect("the others are gone");
}

/// Events cut back, as by a restored backup, while a newer snapshot is kept; then three commands.
pub async fn a_snapshot_ahead_of_a_restored_stream_is_replaced_and_commands_go_on(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(30), 1).await;
    rewrite(&store, &id, events(25)).await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.version(), Version(25));
    assert_eq!(loaded.report().rejected.first().map(|rejected| rejected.reason), Some(Rejection::Ahead));
    for _ in 0..3 {
        repository
            .execute(&id, |_: &Ledger| Ok::<_, ()>(LedgerEvent::Credited { cents: 1 }))
            .await
            .expect("commands go on")
            .expect("no refusal");
    }
    repository.flush().await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.version(), Version(28));
    assert!(matches!(loaded.report().source, Source::Snapshot(_)), "replaced: {:?}", loaded.report());
}

/// Cut back, then regrown past the snapshot by a writer without snapshots.
pub async fn a_snapshot_of_another_history_is_diverged(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(30), 1).await;
    let other = (0..45).map(|n| LedgerEvent::Credited { cents: 1000 + n }).collect();
    rewrite(&store, &id, other).await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().source, Source::Replay);
    assert_eq!(loaded.report().rejected.first().map(|rejected| rejected.reason), Some(Rejection::Diverged));
    repository.flush().await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().source, Source::Snapshot(Version(45)));
}

/// A snapshot left over from an erased life, in a store that could not be reached when the stream was erased.
pub async fn a_snapshot_of_an_erased_life_never_serves_the_next(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(10), 1).await;
    // The same events again: versions, payloads and states are equal, the history is not.
    rewrite(&store, &id, events(12)).await;
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().rejected.first().map(|rejected| rejected.reason), Some(Rejection::Diverged));
}

/// A left-over higher snapshot must not block the right lower one for ever.
pub async fn a_rejected_snapshot_makes_room_for_a_lower_one(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(500), 10).await;
    rewrite(&store, &id, events(20)).await;
    load_right(&repository, &store, &id).await;
    repository.flush().await;
    assert_eq!(load_right(&repository, &store, &id).await.report().source, Source::Snapshot(Version(20)));
}

/// With more than one kept, an older generation serves where the newest is broken.
pub async fn the_next_older_candidate_serves_where_the_newest_is_broken(store: Arc<dyn Store>) {
    let id = actor();
    let config = tailfold::SnapshotConfig {
        policy: tailfold::Rule::Every(10),
        keep: Keep::Last(std::num::NonZeroU32::new(3).expect("not zero")),
        ..Default::default()
    };
    let repository = Repository::<Ledger>::builder(store.clone()).snapshots(config).build().expect("build");
    let mut loaded = repository.load(&id).await.expect("load");
    for event in events(35) {
        loaded = repository.append(loaded, event).await.expect("append").into_loaded();
        // Without this the queue would keep the newest only.
        repository.flush().await;
    }
    let listed = store.list_to_vec(SlotFilter::key(stream(&id).as_str()));
    let listed = listed.await.expect("list");
    assert_eq!(listed.iter().map(|info| info.head.version.0).collect::<Vec<_>>(), [10, 20, 30]);
    let newest = listed.last().expect("three");
    let broken =
        Save { head: newest.head, bytes: Bytes::from_static(b"broken"), keep: Keep::All, day: newest.used };
    store.save(&newest.slot, broken).await.expect("save");
    let loaded = load_right(&repository, &store, &id).await;
    assert_eq!(loaded.report().source, Source::Snapshot(Version(20)));
    assert_eq!(loaded.report().rejected.len(), 1);
    assert_eq!(loaded.report().replayed_events, 15);
}

/// A snapshot whose anchor was cut off cannot be checked, so it is not used.
pub async fn a_snapshot_before_a_truncation_is_not_used(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(10), 1).await;
    let (slot, old) = stored(&store, &id).await;
    let loaded = feed(&plain(&store), &id, events(5), 1).await;
    let close = loaded.state().close();
    let closed = plain(&store).append(loaded, close).await.expect("close the books").into_loaded();
    let whole = closed.state().clone();
    store
        .remove(&stream(&id), Removal::before_origin(closed.version(), Timestamp::from_micros(0)))
        .await
        .expect("truncate");
    replace(&store, &slot, &old, old.bytes.clone()).await;
    let loaded = repository.load(&id).await.expect("load");
    assert_eq!(*loaded.state(), whole);
    assert_eq!(loaded.version(), Version(16));
    assert_eq!(loaded.report().rejected.first().map(|rejected| rejected.reason), Some(Rejection::Truncated));
    let receipt = repository.append(loaded, LedgerEvent::Credited { cents: 5 }).await.expect("append");
    assert_eq!(receipt.head().expect("a head").version, Version(17));
}

/// What a caller does with a state reaches neither a snapshot nor another caller.
pub async fn a_callers_later_changes_never_reach_a_snapshot(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    let mut loaded = repository.load(&id).await.expect("load");
    for event in events(10) {
        loaded = repository.append(loaded, event).await.expect("append").into_loaded();
    }
    // The snapshot at 10 is due, and may wait with a reference to the state while the state goes on.
    let before = loaded.clone();
    for event in events(9) {
        loaded = repository.append(loaded, event).await.expect("append").into_loaded();
    }
    assert_eq!(before.state().count, 10);
    repository.flush().await;
    let snapshot = repository.latest_snapshot(&id).await.expect("read").expect("taken");
    let captured = repository.capture(&id, ..=snapshot.head.version.0).await.expect("capture");
    assert_eq!((Some(snapshot.head), &*snapshot.state), (captured.head(), captured.state()));
    assert!(snapshot.head.version >= before.version());
    assert_eq!(*loaded.state(), truth(&store, &id).await);
}

/// Nothing is written where nothing was folded.
pub async fn a_load_that_folds_nothing_writes_nothing(store: Arc<dyn Store>) {
    let (repository, id) = (every(&store, 10), actor());
    feed(&repository, &id, events(10), 1).await;
    let (_, before) = stored(&store, &id).await;
    for _ in 0..10 {
        let loaded = load_right(&repository, &store, &id).await;
        assert_eq!(
            (loaded.report().source, loaded.report().replayed_events),
            (Source::Snapshot(Version(10)), 0)
        );
    }
    repository.flush().await;
    assert_eq!(stored(&store, &id).await.1.bytes, before.bytes);
    let stats = repository.stats().await.expect("stats");
    assert_eq!(stats.written.get("stored"), Some(&1), "{stats:?}");
}

/// A snapshot that is on its way in another repository of the process, in whatever state it is, is not kept of an erased actor,
/// and neither is one that is made of what was loaded before. Snapshots of the actor's next life are.
pub async fn a_snapshot_on_its_way_in_another_repository_is_not_kept_of_an_erased_actor(
    store: Arc<dyn Store>,
) {
    if !store.capabilities().erase {
        return;
    }
    let eraser = plain(&store);
    let slow = FaultySnapshots::new(MemoryStore::new());
    let other = Repository::<Ledger>::builder(store.clone())
        .snapshots(Policy::every(10))
        .snapshots_in(slow.clone())
        .build()
        .expect("build");
    let left = async |id: &str| {
        let filter = SlotFilter::key(stream(id).as_str());
        slow.inner().count(filter).await.expect("count").snapshots
    };
    // The first one is being written, and the others wait, when they are erased.
    let ids: Vec<_> = (0..4).map(|_| actor()).collect();
    for id in &ids {
        feed(&eraser, id, events(10), 10).await;
    }
    slow.always(Some(Fault::Hang(Duration::from_millis(300))));
    let mut loaded = Vec::new();
    for id in &ids {
        loaded.push(other.load(id).await.expect("load"));
    }
    for id in &ids {
        eraser.erase(id).await.expect("erase");
    }
    slow.always(None);
    other.flush().await;
    for (id, loaded) in ids.iter().zip(loaded) {
        assert_eq!(left(id).await, 0, "of what was on its way");
        let error = other.save_snapshot(&loaded).await.expect_err("its events are gone");
        assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
        feed(&other, id, events(10), 1).await;
        assert_eq!(left(id).await, 1, "of the next life");
        load_right(&other, &store, id).await;
    }
}

/// Erasing through a repository reaches every fold, every serial, and a snapshot store of its own.
pub async fn an_erased_actor_leaves_no_snapshot_anywhere(store: Arc<dyn Store>) {
    let (own, id) = (MemoryStore::new(), actor());
    let beside = every(&store, 10);
    let elsewhere = Repository::<Ledger>::builder(store.clone())
        .snapshots(Policy::every(10))
        .snapshots_in(own.clone())
        .build()
        .expect("build");
    feed(&beside, &id, events(10), 1).await;
    elsewhere.load(&id).await.expect("load");
    if !store.capabilities().erase {
        let error = elsewhere.erase(&id).await.expect_err("it cannot");
        assert_eq!(*error.kind(), tailfold::ErrorKind::Unsupported);
        return;
    }
    // One snapshot waits to be written when the actor is erased, or is written by then.
    let removed = elsewhere.erase(&id).await.expect("erase");
    assert!(removed.events == 10 && (1..=2).contains(&removed.snapshots), "{removed:?}");
    elsewhere.flush().await;
    assert_eq!(own.count(SlotFilter::all()).await.expect("count").snapshots, 0);
    let left = store.list_to_vec(SlotFilter::key(stream(&id).as_str())).await.expect("list");
    assert!(left.is_empty(), "{left:?}");
    for repository in [&beside, &elsewhere] {
        let loaded = load_right(repository, &store, &id).await;
        assert_eq!((loaded.head(), loaded.state()), (None, &Ledger::default()));
    }
    let again = elsewhere.erase(&id).await.expect("erase again");
    assert_eq!((again.events, again.snapshots, again.tombstone), (0, 0, None));
}
