//! Random histories x policies x codecs x faults: every outcome equals that of a plain replay.
//!
//! Two repositories are told the same: the subject, with snapshots in tiers that misbehave at random, and the oracle,
//! in memory and without snapshots. Whatever they answer must be equal.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tailfold::{
    Aggregate, Breaker, Compression, ErrorKind, EventMeta, EventStore as _, EventType, Fold, Keep,
    MemoryStore, Moment, Policy, Removal, Repository, RepositoryBuilder, SnapshotConfig, SnapshotMode, State,
    Store, StreamId, Tier, Timestamp,
};

use super::folds::{Ledger, LedgerEvent, Overdrawn, actor, event};
use super::tiers::{far, near};
use crate::FaultySnapshots;

macro_rules! coded {
    ($($name:ident $fold:literal $codec:ident),*) => {$(
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
        #[state(name = $fold, codec = $codec)]
        struct $name {
            ledger: Ledger,
        }

        impl Fold for $name {
            type Event = LedgerEvent;

            fn apply(&mut self, event: LedgerEvent, meta: &EventMeta<'_>) {
                self.ledger.apply(event, meta);
            }
        }

        impl AsRef<Ledger> for $name {
            fn as_ref(&self) -> &Ledger {
                &self.ledger
            }
        }
    )*};
}

coded! {
    InMessagePack "random-msgpack" message_pack,
    InJson "random-json" json,
    InPostcard "random-postcard" postcard
}

trait Subject: Aggregate<Event = LedgerEvent> + PartialEq + fmt::Debug + AsRef<Ledger> {}
impl<F: Aggregate<Event = LedgerEvent> + PartialEq + fmt::Debug + AsRef<Ledger>> Subject for F {}

/// Histories in one run; each takes some milliseconds.
const HISTORIES: u64 = 60;

/// A few dozen random histories. `TAILFOLD_SEED` repeats one that failed; `TAILFOLD_HISTORIES` asks for more.
pub async fn every_outcome_of_random_histories_equals_the_plain_replay(store: Arc<dyn Store>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("TAILFOLD_SEED") {
        return one_history(&store, seed).await;
    }
    for _ in 0..number("TAILFOLD_HISTORIES").unwrap_or(HISTORIES) {
        let seed = fastrand::u64(..);
        eprintln!("TAILFOLD_SEED={seed}");
        one_history(&store, seed).await;
    }
}

async fn one_history(store: &Arc<dyn Store>, seed: u64) {
    match seed % 3 {
        0 => history_of::<InMessagePack>(store, seed).await,
        1 => history_of::<InJson>(store, seed).await,
        _ => history_of::<InPostcard>(store, seed).await,
    }
}

async fn history_of<F: Subject>(store: &Arc<dyn Store>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let oracle_store = MemoryStore::new();
    let oracle = Repository::<F>::builder(oracle_store.clone()).build().expect("build");
    let tiers = FaultyTiers { near: near(), far: far(store) };
    tiers.near.at_random(seed ^ 1, *pick(&mut random, &[0.0, 0.05, 0.5]));
    tiers.far.at_random(seed, *pick(&mut random, &[0.0, 0.05, 0.5]));
    let (id, mut second) = (actor(), 0);
    let stream = StreamId::new("ledger", &id).expect("a good id");
    let mut subject = repository::<F>(store, &tiers, &mut random);
    for step in 0..random.u64(20..60) {
        let told = format!("seed {seed}, step {step}");
        match random.u32(..100) {
            // Commands, some of them refused.
            0..40 => {
                let cents = random.i64(0..30);
                let decide = |state: &F| {
                    let events = [LedgerEvent::Credited { cents: 7 }, state.as_ref().debit(cents)?];
                    Ok::<_, Overdrawn>(events)
                };
                let key = random.bool().then(|| format!("key {}", random.u32(..20)));
                let run = |repository: &Repository<F>| {
                    let command = repository.execute(&id, decide);
                    match &key {
                        Some(key) => command.idempotency_key(key.clone()).into_future(),
                        None => command.into_future(),
                    }
                };
                let (ours, theirs) = (run(&subject).await, run(&oracle).await);
                let (ours, theirs) = (ours.expect(&told), theirs.expect(&told));
                match (ours, theirs) {
                    (Ok(ours), Ok(theirs)) => {
                        assert_eq!(ours.state(), theirs.state(), "{told}");
                        assert_eq!(ours.is_repeated(), theirs.is_repeated(), "{told}");
                        let version = |head: Option<tailfold::Head>| head.map(|head| head.version);
                        assert_eq!(version(ours.head()), version(theirs.head()), "{told}");
                    }
                    (Err(ours), Err(theirs)) => assert_eq!(ours, theirs, "{told}"),
                    (ours, theirs) => panic!("{told}: {ours:?} against {theirs:?}"),
                }
            }
            // Appends of several events, by clocks that are not in step.
            40..60 => {
                let count = random.u64(1..25);
                let events: Vec<_> = (0..count).map(|_| event(random.u64(..1000))).collect();
                second += random.i64(-2..6);
                let time = Timestamp::from_micros(second * 1_000_000);
                for repository in [&subject, &oracle] {
                    let loaded = repository.load(&id).await.expect(&told);
                    let receipt =
                        repository.append(loaded, events.clone()).recorded_at(time).await.expect(&told);
                    let again = repository.load(&id).await.expect(&told);
                    assert_eq!(receipt.state(), again.state(), "{told}");
                }
            }
            // Loads of every kind.
            60..80 => {
                let version = oracle.load(&id).await.expect(&told).version().0;
                let truncated = first_version(&oracle_store, &stream).await;
                let (ours, theirs) = match random.u32(..3) {
                    0 => (subject.load(&id).await, oracle.load(&id).await),
                    1 if version >= truncated => {
                        let at = random.u64(truncated..=version);
                        (subject.load(&id).at(at).await, oracle.load(&id).at(at).await)
                    }
                    _ => {
                        let time = Timestamp::from_micros(random.i64(0..200) * 1_000_000);
                        (subject.load(&id).as_of(time).await, oracle.load(&id).as_of(time).await)
                    }
                };
                match (ours, theirs) {
                    (Ok(ours), Ok(theirs)) => {
                        assert_eq!(
                            (ours.state(), ours.version()),
                            (theirs.state(), theirs.version()),
                            "{told}"
                        );
                        let _ = subject.save_snapshot(&ours).await;
                    }
                    // A moment that was cut off: told, whatever snapshots are there.
                    (Err(ours), Err(theirs)) if truncated > 1 => {
                        assert_eq!(
                            (ours.kind(), theirs.kind()),
                            (&ErrorKind::Invalid, &ErrorKind::Invalid),
                            "{told}"
                        );
                    }
                    (ours, theirs) => panic!("{told}: {ours:?} against {theirs:?}"),
                }
            }
            // Another release, or another process, with another policy.
            80..88 => {
                if random.bool() {
                    subject.flush().await;
                }
                subject = repository::<F>(store, &tiers, &mut random);
            }
            88..94 => subject.flush().await,
            // Closing the books.
            94..98 => {
                for (store, repository) in
                    [(store, &subject), (&(Arc::new(oracle_store.clone()) as _), &oracle)]
                {
                    let loaded = repository.load(&id).await.expect(&told);
                    let close = loaded.state().as_ref().close();
                    let head = repository.append(loaded, close).await.expect(&told).head().expect("a head");
                    store
                        .remove(&stream, Removal::before_origin(head.version, Timestamp::from_micros(0)))
                        .await
                        .expect(&told);
                }
            }
            // Erasing. The snapshots may stay behind, if their store looks away.
            _ => {
                for store in [store, &(Arc::new(oracle_store.clone()) as Arc<dyn Store>)] {
                    store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.expect(&told);
                }
                second = 0;
            }
        }
    }
    let (ours, theirs) = (subject.load(&id).await.expect("load"), oracle.load(&id).await.expect("load"));
    assert_eq!(ours.state(), theirs.state(), "seed {seed}, at the end: {:?}", ours.report());
    subject.flush().await;
}

async fn first_version(store: &MemoryStore, stream: &StreamId) -> u64 {
    let events = tailfold::EventStoreExt::read_to_vec(store, stream, tailfold::VersionRange::ALL).await;
    events.expect("read").first().map_or(0, |event| event.version.0)
}

fn repository<F: Subject>(
    store: &Arc<dyn Store>,
    tiers: &FaultyTiers,
    random: &mut fastrand::Rng,
) -> Repository<F> {
    let policy = match random.u32(..6) {
        0 => Policy::every(random.u64(1..20)),
        1 => Policy::at_versions(random.u64(1..20)).at_least(random.u64(0..5)),
        2 => Policy::after_bytes(random.u64(1..500)),
        3 => Policy::on_event(EventType::new("ledger.remarked").expect("a name")).at_most(30),
        4 => Policy::when(|moment: &Moment<'_, F>| moment.state.as_ref().balance % 3 == 0),
        _ => Policy::never(),
    };
    let keep = *pick(random, &[Keep::Newest, Keep::Last(NonZeroU32::MIN.saturating_add(2)), Keep::All]);
    let config = SnapshotConfig {
        keep,
        compression: *pick(random, &[Compression::None, Compression::Lz4, Compression::Zstd]),
        compress_from_bytes: *pick(random, &[0, 4096]),
        checkpoint_events: random.u64(1..50),
        read_timeout_ms: 1_000,
        ..Default::default()
    };
    let builder: RepositoryBuilder<F> = Repository::builder(store.clone());
    let inline = random.u32(..4) == 0 && store.capabilities().inline_snapshot;
    let mode = if inline { SnapshotMode::Inline } else { SnapshotMode::Background };
    let builder = builder.snapshots((policy, SnapshotConfig { mode, ..config }));
    match tiers.chain(inline, random) {
        Some(chain) => builder.snapshots_in(chain).build(),
        None => builder.build(),
    }
    .expect("build")
}

/// What stays while repositories come and go.
struct FaultyTiers {
    near: FaultySnapshots<MemoryStore>,
    far: FaultySnapshots<Arc<dyn Store>>,
}

impl FaultyTiers {
    /// One of the chains that can be made of them; `None`: the store of events, as it is by default.
    fn chain(&self, inline: bool, random: &mut fastrand::Rng) -> Option<Vec<Tier>> {
        let breaker = Breaker {
            failures: random.u32(0..4),
            first_pause: Duration::from_millis(random.u64(0..3)),
            longest_pause: Duration::from_millis(5),
        };
        let timeout = Duration::from_millis(*pick(random, &[2, 1_000]));
        let near = Tier::new("near", self.near.clone()).timeout(timeout).breaker(breaker);
        let far = Tier::new("far", self.far.clone()).breaker(breaker);
        match (inline, random.u32(..3)) {
            (true, 0) => None,
            (true, 1) => Some(vec![near, Tier::own()]),
            (true, _) => Some(vec![Tier::own(), near]),
            (false, 0) => Some(vec![far]),
            (false, 1) => Some(vec![near, far]),
            (false, _) => Some(vec![near, Tier::own()]),
        }
    }
}

fn pick<'a, T>(random: &mut fastrand::Rng, choices: &'a [T]) -> &'a T {
    choices.get(random.usize(..choices.len())).expect("within the choices")
}
