//! Forgetting a person by dropping their key: what no state and no snapshot may tell afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tailfold::{
    Aggregate, ByPosition, Delivery, Envelope, ErrorKind, Event, EventMeta, Filter, Fold, Keep, MemoryStore,
    Projection, Rejection, Repository, Result, Rule, SlotFilter, SnapshotConfig, SnapshotStore,
    SnapshotStoreExt as _, Source, State, Store, Subscription, Tag, Tier, Unreadable, Version, VersionRange,
    remove_forgotten,
};

use super::folds::actor;
use super::keys::Keys;
use super::tiers::patient;

/// What is known of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "person")]
pub enum PersonEvent {
    /// They told their name.
    #[event(tag = "club:{club}")]
    Joined {
        /// Whom to forget.
        name: String,
        /// Of which club.
        club: String,
    },
    /// They came by.
    #[event(tag = "club:{club}")]
    Came {
        /// Where.
        club: String,
    },
}

/// One person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "person")]
pub struct Person {
    names: Vec<String>,
    visits: u64,
}

impl Fold for Person {
    type Event = PersonEvent;

    fn apply(&mut self, event: PersonEvent, _: &EventMeta<'_>) {
        match event {
            PersonEvent::Joined { name, .. } => self.names.push(name),
            PersonEvent::Came { .. } => self.visits += 1,
        }
    }
}

/// Everybody, by stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "people", projection)]
pub struct People {
    names: BTreeMap<String, String>,
    visits: BTreeMap<String, u64>,
}

impl Fold for People {
    type Event = PersonEvent;

    fn apply(&mut self, event: PersonEvent, meta: &EventMeta<'_>) {
        let stream = meta.stream().to_string();
        match event {
            PersonEvent::Joined { name, .. } => {
                self.names.insert(stream, name);
            }
            PersonEvent::Came { .. } => *self.visits.entry(stream).or_default() += 1,
        }
    }
}

impl Projection for People {
    type Key = ();

    fn query((): &()) -> Result<Filter> {
        Ok(Filter::all())
    }
}

/// The people of one club.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "club", projection)]
pub struct Club {
    names: BTreeSet<String>,
    visits: u64,
}

impl Fold for Club {
    type Event = PersonEvent;

    fn apply(&mut self, event: PersonEvent, _: &EventMeta<'_>) {
        match event {
            PersonEvent::Joined { name, .. } => {
                self.names.insert(name);
            }
            PersonEvent::Came { .. } => self.visits += 1,
        }
    }
}

impl Projection for Club {
    type Key = String;

    fn query(club: &String) -> Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("club:{club}"))?))
    }
}

const ADA: &str = "Ada Lovelace";
const GRACE: &str = "Grace Hopper";

fn joined(name: &str) -> PersonEvent {
    PersonEvent::Joined { name: name.to_owned(), club: "chess".to_owned() }
}

fn came() -> PersonEvent {
    PersonEvent::Came { club: "chess".to_owned() }
}

fn name_of(id: &str) -> String {
    format!("person/{id}")
}

/// A repository with a snapshot after every second event, several of each slot, in these tiers.
fn over<F: Fold>(store: &Arc<dyn Store>, keys: &Keys, tiers: &[Tier]) -> Repository<F> {
    let keep = Keep::Last(std::num::NonZeroU32::MIN.saturating_add(3));
    let config = SnapshotConfig { policy: Rule::Every(2), keep, ..SnapshotConfig::default() };
    Repository::builder(store.clone())
        .snapshots(config)
        .snapshots_in(tiers.to_vec())
        .encryption(keys.clone())
        .build()
        .expect("the chain is good")
}

fn own<F: Fold>(store: &Arc<dyn Store>, keys: &Keys) -> Repository<F> {
    over(store, keys, &[Tier::own().timeout(Duration::from_secs(10))])
}

fn plain<F: Fold>(store: &Arc<dyn Store>, keys: &Keys) -> Repository<F> {
    Repository::builder(store.clone()).encryption(keys.clone()).build().expect("nothing can be wrong")
}

async fn record<F: Aggregate<Event = PersonEvent>>(people: &Repository<F>, id: &str, event: PersonEvent) {
    let done = people.execute(id, |_| Ok::<_, ()>(event.clone())).await;
    done.expect("execute").expect("no refusal");
    people.flush().await;
}

/// What a tier keeps, as a thief of the tier sees it who has every key that still exists.
async fn readable(tier: &dyn SnapshotStore, keys: &Keys) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for info in tier.list_to_vec(SlotFilter::all()).await.expect("list") {
        let stored = tier.newest(&info.slot, Some(info.head.version)).await.expect("read");
        let Some(stored) = stored.filter(|stored| stored.head == info.head) else { continue };
        let envelope = Envelope::parse(&stored.bytes).expect("an envelope");
        let mut bytes = stored.bytes.to_vec();
        if let Ok(payload) = envelope.payload(u64::MAX, Some(keys)) {
            bytes.extend_from_slice(&payload);
        }
        found.push((format!("{} {}", info.slot, info.head.version), bytes));
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn told(tier: &dyn SnapshotStore, keys: &Keys, name: &str) -> Vec<String> {
    let all = readable(tier, keys).await;
    all.into_iter().filter(|(_, bytes)| holds(bytes, name)).map(|(place, _)| place).collect()
}

/// Drops the key of one stream: nothing that is loaded afterwards, and nothing that is left in any tier,
/// tells of the person; everybody else is there, and commands go on.
pub async fn a_forgotten_person_is_in_no_state_and_in_no_snapshot_of_any_tier(store: Arc<dyn Store>) {
    let (keys, near, ada, grace) = (Keys::default(), MemoryStore::new(), actor(), actor());
    let tiers = [patient("near", near.clone()), Tier::own().timeout(Duration::from_secs(10))];
    let (people, all, club) = (
        over::<Person>(&store, &keys, &tiers),
        over::<People>(&store, &keys, &tiers),
        over::<Club>(&store, &keys, &tiers),
    );
    let load_all = async || {
        for id in [&ada, &grace] {
            people.load(id).await.expect("load a person");
        }
        let everybody = all.load(()).await.expect("load everybody");
        let members = club.load("chess").await.expect("load a club");
        people.flush().await;
        all.flush().await;
        club.flush().await;
        (everybody, members)
    };
    for (id, name) in [(&ada, ADA), (&grace, GRACE)] {
        for event in [joined(name), came(), came(), came()] {
            record(&people, id, event).await;
            load_all().await;
        }
    }
    let tiers: [&dyn SnapshotStore; 2] = [&near, &store];
    for tier in tiers {
        for name in [ADA, GRACE] {
            // Of the person, of everybody, and of the club, several each.
            assert!(told(tier, &keys, name).await.len() > 3, "{name}: {:?}", told(tier, &keys, name).await);
        }
    }

    keys.forget(&name_of(&ada));

    // No key opens what her own snapshots hold; those of the projections are found out by the number of
    // forgotten keys.
    let person = people.load(&ada).await.expect("load");
    assert_eq!(*person.state(), Person::default());
    let report = person.report();
    assert_eq!((report.source, report.replayed_events, report.forgotten_events), (Source::Replay, 0, 4));
    assert!(report.rejected.iter().any(|one| one.reason == Rejection::Forgotten), "{report:?}");
    assert!(report.skipped.is_empty(), "{report:?}");
    assert_eq!(person.version(), Version(4), "versions count on");
    let (everybody, members) = load_all().await;
    for report in [everybody.report(), members.report()] {
        assert_eq!((report.source, report.replayed_events), (Source::Replay, 4), "{report:?}");
        assert_eq!(report.forgotten_events, 4, "{report:?}");
        assert!(report.rejected.iter().any(|one| one.reason == Rejection::Forgotten), "{report:?}");
    }
    assert_eq!(everybody.state().names, BTreeMap::from([(name_of(&grace), GRACE.to_owned())]));
    assert_eq!(everybody.state().visits, BTreeMap::from([(name_of(&grace), 3)]));
    assert_eq!(members.state().names, BTreeSet::from([GRACE.to_owned()]));
    for tier in tiers {
        assert_eq!(told(tier, &keys, ADA).await, Vec::<String>::new());
        assert!(!told(tier, &keys, GRACE).await.is_empty());
    }

    // Snapshots are made anew, and serve.
    let (everybody, members) = load_all().await;
    for report in [everybody.report(), members.report()] {
        assert!(matches!(report.source, Source::Snapshot(_)), "{report:?}");
        assert!(report.rejected.is_empty(), "{report:?}");
        assert_eq!(report.forgotten_events, 0, "{report:?}");
    }
    assert_eq!(everybody.state(), all.load(()).without_snapshots().await.expect("replay").state());

    // Commands go on, in the same state as a replay.
    record(&people, &grace, came()).await;
    let loaded = people.load(&grace).await.expect("load");
    assert_eq!((loaded.state().visits, loaded.report().forgotten_events), (4, 0));

    // The history has a place for each event, and its chain holds.
    let history: Vec<_> = people.history(&ada, ..).try_collect().await.expect("history");
    assert_eq!(history.len(), 4);
    assert!(history.iter().all(|item| item.event == Err(Unreadable::Forgotten)), "{history:?}");
    let captured = people.capture(&ada, ..=4).await.expect("capture");
    assert_eq!((captured.state(), captured.report().forgotten_events), (&Person::default(), 4));
    crate::verify_chain_where(&store, Filter::stream(name_of(&ada).parse().expect("a stream")))
        .await
        .expect("sound");

    // Whoever comes back gets another key.
    record(&people, &ada, came()).await;
    assert_eq!(people.load(&ada).await.expect("load").state(), &Person { names: Vec::new(), visits: 1 });
    load_all().await;
    for tier in tiers {
        assert_eq!(told(tier, &keys, ADA).await, Vec::<String>::new());
    }
}

/// A service that has the keys and is away makes loads fail as unavailable: nothing is left out, nothing
/// counts as malformed, no snapshot is removed.
pub async fn a_key_that_cannot_be_had_is_unavailable_and_never_forgotten(store: Arc<dyn Store>) {
    let (keys, id) = (Keys::default(), actor());
    let (people, all) = (own::<Person>(&store, &keys), own::<People>(&store, &keys));
    for event in [joined(ADA), came(), came()] {
        record(&people, &id, event).await;
    }
    let before = (people.load(&id).await.expect("load"), all.load(()).await.expect("load"));
    people.flush().await;
    all.flush().await;
    let kept = store.list_to_vec(SlotFilter::all()).await.expect("list");

    keys.set_away(true);
    let errors = [
        people.load(&id).await.err(),
        people.load(&id).without_snapshots().await.err(),
        people.load(&id).skip_malformed().await.err(),
        people.capture(&id, ..).await.err(),
        people.history(&id, ..).try_collect::<Vec<_>>().await.err(),
        people.catch_up(&id, Version(1)).await.err(),
        people.execute(&id, |_| Ok::<_, ()>(came())).await.err(),
        all.load(()).await.err(),
        all.load(()).skip_malformed().await.err(),
    ];
    for (number, error) in errors.iter().enumerate() {
        let error = error.as_ref().unwrap_or_else(|| panic!("number {number} answers"));
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{number}: {error}");
        assert!(error.to_string().contains("away"), "{error}");
    }

    keys.set_away(false);
    assert_eq!(store.list_to_vec(SlotFilter::all()).await.expect("list"), kept, "a snapshot was removed");
    assert_eq!(people.load(&id).await.expect("load").state(), before.0.state());
    assert_eq!(all.load(()).await.expect("load").state(), before.1.state());
}

/// A state that was loaded before a key was forgotten is not kept afterwards, by hand or by policy, whatever
/// key would seal it.
pub async fn a_state_that_waits_while_a_key_is_forgotten_is_never_kept(store: Arc<dyn Store>) {
    let (keys, ada, grace) = (Keys::default(), actor(), actor());
    let (people, all) = (own::<Person>(&store, &keys), own::<People>(&store, &keys));
    record(&plain::<Person>(&store, &keys), &ada, joined(ADA)).await;
    record(&plain::<Person>(&store, &keys), &grace, joined(GRACE)).await;
    let loaded = people.load(&ada).await.expect("load");
    assert_eq!(loaded.state().names, [ADA]);

    keys.forget(&name_of(&ada));

    let refused = people.save_snapshot(&loaded).await.expect_err("it holds her name");
    assert_eq!(*refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("load it again"), "{refused}");
    // The next key of the stream would seal it; the policy says that a snapshot is due.
    let receipt = people.append(loaded, [came(), came()]).await.expect("append");
    assert_eq!(receipt.state().names, [ADA], "the caller's own");
    people.flush().await;
    let stats = people.stats().await.expect("stats");
    assert_eq!(stats.written.get("forgotten"), Some(&1), "{stats:?}");
    assert_eq!(told(&store, &keys, ADA).await, Vec::<String>::new());
    let loaded = people.load(&ada).await.expect("load");
    assert_eq!(*loaded.state(), Person { names: Vec::new(), visits: 2 });
    assert_eq!(loaded.report().forgotten_events, 1);

    // What a decision hands on to the next one is looked at in the same way.
    let club = own::<Club>(&store, &keys);
    let decisions = (0..8).map(|number| {
        let (club, keys, grace) = (club.clone(), keys.clone(), grace.clone());
        tokio::spawn(async move {
            let decided = club.decide("chess", move |club| {
                if number == 3 {
                    keys.forget(&name_of(&grace));
                }
                Ok::<_, ()>((format!("{grace}-{number}-{}", club.names.len()), came()))
            });
            decided.await.expect("decide").map(|_| ())
        })
    });
    futures_util::future::join_all(decisions).await;
    let left = club.load("chess").await.expect("load");
    assert_eq!(left.state(), club.load("chess").without_snapshots().await.expect("replay").state());
    assert!(left.state().names.is_empty(), "{left:?}");
    club.flush().await;
    let everybody = all.load(()).await.expect("load");
    assert!(everybody.state().names.is_empty(), "{everybody:?}");
    assert_eq!(told(&store, &keys, GRACE).await, Vec::<String>::new());
}

/// Where the events of one stream have keys of their own, the stream's snapshot can be opened after one of
/// them is gone. It is found out by the number.
pub async fn keys_finer_than_the_stream_leave_no_trace_in_an_aggregate(store: Arc<dyn Store>) {
    let (keys, id) = (Keys::for_each_event(), actor());
    let people = own::<Person>(&store, &keys);
    for event in [joined(ADA), came(), joined(GRACE), came()] {
        record(&people, &id, event).await;
    }
    people.flush().await;
    assert_eq!(people.load(&id).await.expect("load").report().source, Source::Snapshot(Version(4)));
    let other = actor();
    record(&people, &other, joined(GRACE)).await;
    record(&people, &other, came()).await;

    let history: Vec<_> = people.history(&id, ..).try_collect().await.expect("history");
    let first = history.first().expect("the first event");
    keys.forget(&format!("{} {}", name_of(&id), first.recorded.data.id));

    let loaded = people.load(&id).await.expect("load");
    assert_eq!(*loaded.state(), Person { names: vec![GRACE.to_owned()], visits: 2 });
    assert_eq!(loaded.report().forgotten_events, 1);
    people.flush().await;
    assert_eq!(told(&store, &keys, ADA).await, Vec::<String>::new());
    let again = people.load(&id).await.expect("load");
    assert_eq!((again.state(), again.report().source), (loaded.state(), Source::Snapshot(Version(4))));
    // Nothing of another stream was forgotten: its snapshots stay.
    let other = people.load(&other).await.expect("load");
    assert_eq!(other.report().source, Source::Snapshot(Version(2)));
}

/// A load during which a key is forgotten answers what was before or what is after, never a person of whom
/// some events count and others do not.
pub async fn a_key_that_is_forgotten_during_a_load_never_halves_a_person(store: Arc<dyn Store>) {
    let ids = (actor(), actor());
    let events = [joined(ADA), came(), came(), came()];
    for opened in 0..8 {
        let keys = Keys::default();
        let (ada, grace) = (format!("{}-{opened}", ids.0), format!("{}-{opened}", ids.1));
        let people = plain::<Person>(&store, &keys);
        for event in &events {
            record(&people, &ada, event.clone()).await;
            record(&people, &grace, event.clone()).await;
        }
        keys.forget_after(opened, &name_of(&ada));
        let person = people.load(&ada).await.expect("load");
        let whole = Person { names: vec![ADA.to_owned()], visits: 3 };
        assert!([&whole, &Person::default()].contains(&person.state()), "{opened}: {person:?}");
        keys.forget_after(opened, &name_of(&grace));
        let person = own::<Person>(&store, &keys).load(&grace).await.expect("load");
        assert!([&whole, &Person::default()].contains(&person.state()), "{opened}: {person:?}");
    }
}

/// A process that does not know of a forgotten key yet does not use the snapshots of those that do, and does
/// not remove them.
pub async fn a_snapshot_that_knows_of_more_forgotten_keys_is_left_alone(store: Arc<dyn Store>) {
    let (keys, ada, grace) = (Keys::default(), actor(), actor());
    let people = plain::<Person>(&store, &keys);
    for id in [&ada, &grace] {
        record(&people, id, joined(if *id == ada { ADA } else { GRACE })).await;
        record(&people, id, came()).await;
    }
    keys.forget(&name_of(&ada));
    let all = own::<People>(&store, &keys);
    all.load(()).await.expect("load");
    all.flush().await;
    let kept = store.list_to_vec(SlotFilter::fold("people")).await.expect("list");
    assert!(!kept.is_empty());

    keys.set_behind(1);
    let behind = all.load(()).at(tailfold::Position(u64::MAX)).await.expect("load");
    assert_eq!(behind.report().source, Source::Replay);
    assert_eq!(behind.report().rejected.first().map(|one| one.reason), Some(Rejection::Sealed));
    keys.set_behind(0);
    assert_eq!(store.list_to_vec(SlotFilter::fold("people")).await.expect("list"), kept);
    assert!(matches!(all.load(()).await.expect("load").report().source, Source::Snapshot(_)));
}

/// Snapshots of instances and releases that nobody loads any more are removed from a tier by hand, and no
/// others.
pub async fn snapshots_that_nobody_loads_are_removed_by_hand(store: Arc<dyn Store>) {
    let (keys, ada, grace) = (Keys::default(), actor(), actor());
    let people = own::<Person>(&store, &keys);
    let all = own::<People>(&store, &keys);
    for (id, name) in [(&ada, ADA), (&grace, GRACE)] {
        for event in [joined(name), came(), came(), came()] {
            record(&people, id, event).await;
        }
    }
    all.load(()).prewarm().await.expect("prewarm");
    own::<Club>(&store, &keys).load("chess").prewarm().await.expect("prewarm");
    people.flush().await;
    let before = told(&store, &keys, ADA).await;
    assert_eq!(before.len(), 4, "two of her own, everybody, and the club: {before:?}");

    let nothing = remove_forgotten(&store, &keys, SlotFilter::all()).await.expect("remove");
    assert_eq!(nothing.snapshots, 0);
    keys.forget(&name_of(&ada));
    let removed = remove_forgotten(&store, &keys, SlotFilter::all()).await.expect("remove");
    assert_eq!(removed.snapshots, 4, "{removed:?}");
    assert!(removed.bytes > 0, "{removed:?}");
    assert_eq!(told(&store, &keys, ADA).await, Vec::<String>::new());
    let loaded = people.load(&grace).await.expect("load");
    assert_eq!(loaded.report().source, Source::Snapshot(Version(4)), "hers alone were removed");
    assert!(all.load(()).await.expect("load").report().rejected.is_empty(), "nothing was left to reject");
    let again = remove_forgotten(&store, &keys, SlotFilter::all()).await.expect("remove");
    assert_eq!(again.snapshots, 0);
}

/// A read model never sees an event whose key was forgotten, and no event is parked while keys cannot be had.
pub async fn a_subscription_passes_over_what_was_forgotten_and_waits_for_keys(store: Arc<dyn Store>) {
    let (keys, ada, grace) = (Keys::default(), actor(), actor());
    let people = plain::<Person>(&store, &keys);
    for (id, name) in [(&ada, ADA), (&grace, GRACE)] {
        record(&people, id, joined(name)).await;
        record(&people, id, came()).await;
    }
    keys.forget(&name_of(&ada));
    keys.set_away(true);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let seen = seen.clone();
        move |delivery: &Delivery<PersonEvent>| {
            seen.lock().expect("no handler panics").extend(delivery.event().cloned());
            Ok(())
        }
    };
    let model = ByPosition::new(store.clone(), "people", handler).expect("a good name");
    let subscription = Subscription::builder(store.clone(), "people", model).encryption(keys.clone()).start();
    let subscription = subscription.expect("start");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(seen.lock().expect("no handler panics").is_empty());
    keys.set_away(false);
    let stream = name_of(&grace).parse().expect("a stream");
    let last = tailfold::EventStoreExt::read_to_vec(&store, &stream, VersionRange::ALL).await.expect("read");
    let last = last.last().expect("recorded").position;
    subscription.wait_for(last).await.expect("handled");
    assert_eq!(*seen.lock().expect("no handler panics"), [joined(GRACE), came()]);
    subscription.stop().await.expect("stop");
    let parked = store.list_to_vec(SlotFilter::fold("tailfold-subscription")).await.expect("list");
    assert!(parked.iter().all(|info| !info.slot.key().contains('!')), "{parked:?}");
}
