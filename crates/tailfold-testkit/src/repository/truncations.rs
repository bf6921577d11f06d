//! Truncations: loads, projections, read models and commands agree with what is left, and with each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tailfold::{
    BoxError, ByPosition, Delivery, ErrorKind, Event, EventMeta, EventStore as _, EventStoreExt as _, Filter,
    Fold, ManualClock, Policy, Position, Projection, Rejection, Removal, Repository, Result, Source, State,
    Store, StreamId, Subscription, Tag, Timestamp, Truncated, Version,
};

/// What happens at a till.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "till")]
pub enum TillEvent {
    /// Something was sold.
    #[event(tag = "item:{item}")]
    Took {
        /// What.
        item: String,
        /// For how much.
        cents: i64,
    },
    /// The till was counted: a history may begin here.
    #[event(origin)]
    Counted {
        /// What was in it.
        cents: i64,
    },
}

pub(super) fn took(item: &str, cents: i64) -> TillEvent {
    TillEvent::Took { item: item.to_owned(), cents }
}

/// What is in a till.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "till")]
pub struct Till {
    cents: i64,
}

impl Fold for Till {
    type Event = TillEvent;

    fn apply(&mut self, event: TillEvent, _: &EventMeta<'_>) {
        match event {
            TillEvent::Took { cents, .. } => self.cents += cents,
            TillEvent::Counted { cents } => self.cents = cents,
        }
    }
}

/// A fold that does not start from empty at its origin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "sloppy-till")]
struct SloppyTill {
    cents: i64,
    events: u64,
}

impl Fold for SloppyTill {
    type Event = TillEvent;

    fn apply(&mut self, event: TillEvent, _: &EventMeta<'_>) {
        self.events += 1;
        match event {
            TillEvent::Took { cents, .. } => self.cents += cents,
            TillEvent::Counted { cents } => self.cents = cents,
        }
    }
}

/// What was taken, of all tills: what was cut off counts no more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "takings", projection)]
pub(super) struct Takings {
    cents: i64,
    events: u64,
}

impl Fold for Takings {
    type Event = TillEvent;

    fn apply(&mut self, event: TillEvent, _: &EventMeta<'_>) {
        self.events += 1;
        if let TillEvent::Took { cents, .. } = event {
            self.cents += cents;
        }
    }
}

impl Projection for Takings {
    type Key = ();

    fn query((): &()) -> Result<Filter> {
        Ok(Filter::category("till"))
    }
}

/// What was taken for an item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "takings-of", projection)]
struct TakingsOf {
    cents: i64,
}

impl Fold for TakingsOf {
    type Event = TillEvent;

    fn apply(&mut self, event: TillEvent, _: &EventMeta<'_>) {
        if let TillEvent::Took { cents, .. } = event {
            self.cents += cents;
        }
    }
}

impl Projection for TakingsOf {
    type Key = String;

    fn query(item: &String) -> Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("item:{item}"))?))
    }
}

/// What is in each till: what was cut off is in the count that follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "tills", projection)]
struct Tills {
    cents: BTreeMap<String, i64>,
}

impl Fold for Tills {
    type Event = TillEvent;

    fn apply(&mut self, event: TillEvent, meta: &EventMeta<'_>) {
        let till = self.cents.entry(meta.stream().to_string()).or_default();
        match event {
            TillEvent::Took { cents, .. } => *till += cents,
            TillEvent::Counted { cents } => *till = cents,
        }
    }
}

impl Projection for Tills {
    type Key = String;

    fn query(till: &String) -> Result<Filter> {
        match till.as_str() {
            "all" => Ok(Filter::category("till")),
            till => Ok(Filter::stream(StreamId::new("till", till)?)),
        }
    }

    fn truncated(&mut self, _: &StreamId, _: Version) -> Truncated {
        Truncated::Keep
    }
}

fn every<F: Fold>(store: &Arc<dyn Store>, n: u64) -> Repository<F> {
    Repository::builder(store.clone()).snapshots(Policy::every(n)).build().expect("the store can do that")
}

/// Three tills: 10 cents a sale; the first is counted after ten of twenty.
async fn fill(store: &Arc<dyn Store>) -> Repository<Till> {
    let tills = every::<Till>(store, 1_000);
    for till in ["1", "2", "3"] {
        for sale in 0..20 {
            let item = if sale % 2 == 0 { "tea" } else { "cup" };
            let mut events = vec![took(item, 10)];
            if sale == 9 {
                events.push(TillEvent::Counted { cents: 100 });
            }
            let done = tills.execute(till, |_| Ok::<_, ()>(events.clone())).await;
            done.expect("execute").expect("no refusal");
        }
    }
    tills
}

async fn agrees<P>(projection: &Repository<P>, key: &str) -> (P, Source)
where
    P: Projection<Key = String> + Clone + PartialEq + std::fmt::Debug,
{
    let loaded = projection.load(key).await.expect("load");
    let replayed = projection.load(key).without_snapshots().await.expect("replay");
    assert_eq!(loaded.state(), replayed.state(), "{:?}", loaded.report());
    projection.flush().await;
    let again = projection.load(key).await.expect("load");
    assert_eq!(again.state(), replayed.state(), "{:?}", again.report());
    (loaded.state().clone(), loaded.report().source)
}

/// After a truncation, and after the next, a projection answers the same from its snapshot and by replay: by rebuilding, or by
/// keeping what the origin sets. With a cursor, too.
pub async fn a_truncated_stream_changes_every_projection_alike(store: Arc<dyn Store>) {
    let tills = fill(&store).await;
    let (takings, of_item, states) =
        (every::<Takings>(&store, 1), every::<TakingsOf>(&store, 1), every::<Tills>(&store, 1));
    assert_eq!(takings.load(()).await.expect("load").state().cents, 600);
    assert_eq!(agrees(&of_item, "tea").await.0.cents, 300);
    agrees(&states, "all").await;
    agrees(&states, "1").await;
    takings.flush().await;

    for (till, left) in [("1", 500), ("2", 400)] {
        let removed = tills.truncate(till, 11).await.expect("truncate");
        assert_eq!(removed.events, 10);
        let loaded = takings.load(()).await.expect("load");
        let replayed = takings.load(()).without_snapshots().await.expect("replay");
        assert_eq!((loaded.state(), loaded.state().cents), (replayed.state(), left));
        assert_eq!(loaded.report().source, Source::Replay);
        assert_eq!(loaded.report().rejected[0].reason, Rejection::Truncated, "{:?}", loaded.report());
        takings.flush().await;
        let again = takings.load(()).await.expect("load");
        assert!(matches!(again.report().source, Source::Snapshot(_)), "{:?}", again.report());
        assert!(again.report().rejected.is_empty() && again.state() == replayed.state());

        assert_eq!(agrees(&of_item, "tea").await.0.cents, left / 2);
        assert_eq!(agrees(&of_item, "cup").await.0.cents, left / 2);
        for key in ["all", "1"] {
            let (state, source) = agrees(&states, key).await;
            assert_eq!(state.cents["till/1"], 200);
            assert!(matches!(source, Source::Snapshot(_)), "kept: {source:?}");
        }
    }
    // A cursor that says that nothing matches does not hide the next marker.
    let other = super::sales::Shop::over(&store);
    other.remark(1_500).await;
    takings.load(()).await.expect("load");
    takings.flush().await;
    tills.truncate("3", 11).await.expect("truncate");
    other.remark(1_500).await;
    for _ in 0..2 {
        assert_eq!(takings.load(()).await.expect("load").state().cents, 300);
        takings.flush().await;
    }
    let late = store.read_all_to_vec(Position::ZERO, Filter::category("till")).await.expect("read");
    assert_eq!(late.iter().filter(|event| event.data.event_type.is_truncation()).count(), 3);
}

/// The state at a position is what is left of that time, whatever a snapshot before it holds.
pub async fn a_projection_at_a_position_before_a_removal_is_what_is_left(store: Arc<dyn Store>) {
    let tills = fill(&store).await;
    let takings = every::<Takings>(&store, 1);
    let then = takings.load(()).await.expect("load").position();
    takings.flush().await;
    let snapshot = takings.load(()).at(then).await.expect("load");
    assert_eq!((snapshot.state().cents, snapshot.report().rejected.len()), (600, 0));
    tills.execute("4", |_| Ok::<_, ()>(took("pot", 5))).await.expect("execute").expect("no refusal");
    tills.truncate("1", 11).await.expect("truncate");
    for expected in [500, 300] {
        let at = takings.load(()).at(then).await.expect("load");
        let replayed = takings.load(()).at(then).without_snapshots().await.expect("replay");
        assert_eq!((at.state(), at.state().cents), (replayed.state(), expected), "{:?}", at.report());
        if expected == 300 || !store.capabilities().erase {
            break;
        }
        tills.erase("2").await.expect("erase");
    }
}

/// What was cut off is named by whoever asks for it: no state of then, no end of the stream at 0.
pub async fn a_load_of_what_was_cut_off_is_refused(store: Arc<dyn Store>) {
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().expect("a time"));
    let build = |snapshots: bool| {
        let builder = Repository::<Till>::builder(store.clone()).clock(clock.clone());
        let builder = if snapshots { builder.snapshots(Policy::every(2)) } else { builder };
        builder.build().expect("build")
    };
    let tills = build(true);
    let mut times = Vec::new();
    for event in
        [took("tea", 1), took("tea", 2), took("tea", 3), TillEvent::Counted { cents: 6 }, took("tea", 4)]
    {
        tills.execute("1", |_| Ok::<_, ()>(event.clone())).await.expect("execute").expect("no refusal");
        times.push(tailfold::Clock::now(&clock));
        clock.advance(std::time::Duration::from_secs(60));
        tills.flush().await;
    }
    tills.truncate("1", 4).await.expect("truncate");
    for tills in [tills, build(false)] {
        let error = tills.load("1").at(2).await.expect_err("cut off");
        assert_eq!(*error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().ends_with("version 2 was truncated: the stream starts at 4"), "{error}");
        for (from, to) in [(0, 2), (1, 3), (2, 3)] {
            let error = tills.capture("1", from..=to).await.expect_err("cut off").to_string();
            assert!(error.contains("was truncated: the stream starts at 4"), "{error}");
        }
        for time in [times[0], times[2]] {
            let error = tills.load("1").as_of(time).await.expect_err("cut off");
            assert_eq!(*error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("was truncated: the stream starts at 4"), "{error}");
        }
        let error = tills.load("1").at(6).await.expect_err("beyond").to_string();
        assert!(error.ends_with("there is no version 6: the stream ends at 5"), "{error}");
        assert_eq!(tills.load("1").at(4).await.expect("load").state().cents, 6);
        assert_eq!(tills.load("1").as_of(times[3]).await.expect("load").state().cents, 6);
        assert_eq!(tills.capture("1", ..=5).await.expect("capture").state().cents, 10);
        assert_eq!(tills.load("1").at(0).await.expect("load").state(), &Till::default());
        assert_eq!(tills.load("nobody").as_of(times[0]).await.expect("load").state(), &Till::default());
    }
}

/// A truncation that would change the state is refused, with what to do, and removes nothing.
pub async fn a_truncation_that_would_change_the_state_is_refused(store: Arc<dyn Store>) {
    let tills = fill(&store).await;
    let sloppy = every::<SloppyTill>(&store, 1_000);
    let error = sloppy.truncate("1", 11).await.expect_err("the fold does not reset");
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("does not start from empty at its origin"), "{error}");
    for (before, why) in [(5, "is no origin"), (99, "there is no event of that version")] {
        let error = tills.truncate("1", before).await.expect_err("no origin");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(tills.capture("1", ..).await.expect("capture").report().replayed_events, 21);
    let removed = tills.truncate("1", 11).await.expect("truncate");
    assert_eq!((removed.events, removed.marker.is_some()), (10, true));
    let again = tills.truncate("1", 11).await.expect("truncate");
    assert_eq!((again.events, again.marker), (0, None));
    assert_eq!(tills.load("1").await.expect("load").state().cents, 200);
}

/// A command whose events were cut off happens once all the same, after one truncation and after two; erasing forgets it.
pub async fn keys_of_commands_that_were_cut_off_are_remembered(store: Arc<dyn Store>) {
    let tills = every::<Till>(&store, 5);
    let send = async |key: &str, events: Vec<TillEvent>| {
        let command = tills.execute("1", |_| Ok::<_, ()>(events.clone())).idempotency_key(key);
        command.await.expect("execute").expect("no refusal")
    };
    let two = || vec![took("tea", 1), took("cup", 2)];
    let first = send("one", two()).await;
    // Its second event is an origin: a truncation there leaves half of it.
    let half = send("half", vec![took("tea", 1), TillEvent::Counted { cents: 4 }]).await;
    send("three", two()).await;
    send("count", vec![TillEvent::Counted { cents: 7 }]).await;
    tills.flush().await;
    for before in [4, 7, 7] {
        tills.truncate("1", before).await.expect("truncate");
        let head = tills.load("1").await.expect("load").head();
        let again = send("one", two()).await;
        assert!(again.is_repeated());
        assert_eq!((again.position(), again.events()), (first.position(), 2));
        assert_eq!((again.head(), again.state().cents), (head, 7), "the present state");
        let rest = send("half", two()).await;
        assert!(rest.is_repeated());
        if before == 4 {
            assert_eq!((rest.position(), rest.events(), rest.head()), (half.position(), 2, half.head()));
        }
        assert!(send("three", two()).await.is_repeated() && send("count", two()).await.is_repeated());
        assert_eq!(tills.load("1").await.expect("load").head(), head, "nothing happened again");
    }
    assert!(!send("new", two()).await.is_repeated());
    if !store.capabilities().erase {
        return;
    }
    tills.erase("1").await.expect("erase");
    let again = send("one", two()).await;
    assert!(!again.is_repeated(), "an erase forgets");
    assert_eq!(again.state().cents, 3);
}

/// A command that one truncation cuts and another cuts further is answered with all of its events, whatever is left of them.
pub async fn a_command_that_two_truncations_cut_is_remembered_whole(store: Arc<dyn Store>) {
    let tills = every::<Till>(&store, 1_000);
    let send = async || {
        let counted = TillEvent::Counted { cents: 1 };
        let events = vec![took("tea", 1), counted.clone(), took("cup", 1), counted];
        let command = tills.execute("1", |_| Ok::<_, ()>(events.clone())).idempotency_key("one");
        command.await.expect("execute").expect("no refusal")
    };
    let first = send().await;
    tills
        .execute("1", |_| Ok::<_, ()>([took("pot", 1), TillEvent::Counted { cents: 2 }]))
        .await
        .expect("execute")
        .expect("no refusal");
    for origin in [2, 4, 6] {
        let removal = Removal::before_origin(origin, Timestamp::from_micros(0));
        store.remove(&"till/1".parse().expect("an id"), removal).await.expect("truncate");
        let again = send().await;
        assert!(again.is_repeated(), "truncated before {origin}");
        assert_eq!((again.events(), again.position()), (4, first.position()), "truncated before {origin}");
    }
}

/// A read model hears of truncations if it wants to, keeps what it has otherwise, and goes on after a restart in any case.
pub async fn a_read_model_hears_of_truncations_if_it_wants_to(store: Arc<dyn Store>) {
    let tills = fill(&store).await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let start = |name: &'static str, wants: bool| {
        let seen = seen.clone();
        let handler = move |delivery: &Delivery<TillEvent>| -> Result<(), BoxError> {
            let mut seen = seen.lock().expect("no handler panics");
            match delivery.truncated()? {
                Some((stream, truncation)) => {
                    seen.push(format!("{name} {stream} {}", truncation.origin().version))
                }
                None if delivery.event().is_none() => seen.push(format!("{name} erased")),
                None => {}
            }
            Ok(())
        };
        let model = ByPosition::new(store.clone(), name, handler).expect("a good name");
        let builder = Subscription::builder(store.clone(), name, model);
        if wants { builder.truncations().start() } else { builder.start() }.expect("start")
    };
    for (till, before) in [("1", 11), ("2", 11)] {
        for (name, wants) in [("hears", true), ("deaf", false)] {
            let subscription = start(name, wants);
            subscription.wait_until_current().await.expect("wait");
            subscription.stop().await.expect("stop");
        }
        tills.truncate(till, before).await.expect("truncate");
    }
    for (name, wants) in [("hears", true), ("deaf", false), ("hears", true)] {
        let subscription = start(name, wants);
        subscription.wait_until_current().await.expect("wait");
        assert_eq!(subscription.lag().await.expect("lag").events, 0);
        subscription.stop().await.expect("stop");
    }
    assert_eq!(*seen.lock().expect("no handler panics"), ["hears till/1 11", "hears till/2 11"]);
    // The marker that was handled last is replaced.
    tills
        .execute("2", |_| Ok::<_, ()>(TillEvent::Counted { cents: 0 }))
        .await
        .expect("execute")
        .expect("fine");
    let removal = Removal::before_origin(22, Timestamp::from_micros(0));
    store.remove(&"till/2".parse().expect("an id"), removal).await.expect("truncate");
    let subscription = start("hears", true);
    subscription.wait_until_current().await.expect("wait");
    subscription.stop().await.expect("stop");
    assert_eq!(seen.lock().expect("no handler panics").len(), 3);
}
