//! Projections: what is kept of them, and rebuilds.

use std::sync::Arc;

use clap::Parser as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tailfold::{
    ByPosition, Commit, Day, Delivery, Erased, Event, EventData, EventMeta, EventStore as _, EventType,
    Expected, Filter, Fold, Keep, NewEvent, Policy, Position, Projection, Removal, Repository, Retry, Save,
    SlotFilter, SnapshotConfig, SnapshotStore as _, SnapshotStoreExt as _, Source, State, Store, StreamId,
    Subscription, Tag, Timestamp,
};
use tailfold_cli::{Args, Projections};
use tailfold_sqlite::SqliteReadModel;

use crate::support::{Desk, events_of, first_rows, on_every_kind_of_store};

on_every_kind_of_store!(
    what_is_kept_of_a_projection_is_listed_with_how_far_behind_it_is,
    a_rebuild_folds_what_is_new_and_anew_from_the_start,
    a_program_that_embeds_the_command_line_rebuilds_its_own_projections,
    where_read_models_stand_is_listed,
);

const DASHBOARD: &str = "delays-by-carrier";

/// The one line of `projections`.
fn listed(desk: &Desk) -> Value {
    let all = desk.run(&["projections", "--json"]).succeeded().objects();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

fn rebuild(desk: &Desk, args: &[&str]) -> Value {
    desk.run(&[&["project", "rebuild", DASHBOARD, "--json"], args].concat()).succeeded().object()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

/// Cancels so many flights of an airport, and records a thing beside that the dashboard does not look at.
fn cancel(desk: &Desk, flights: usize) {
    let cancelled = r#"{"carrier":"UA","flight":17,"tail":null,"destination":"IAH"}"#;
    let events = |name: &str, payload: &'static str, count| -> Vec<NewEvent> {
        let event = || NewEvent::new(EventData::new(EventType::new(name).unwrap(), payload)).unwrap();
        std::iter::repeat_with(event).take(count).collect()
    };
    block_on(async {
        let store = desk.open("tailfold").await;
        for (stream, events) in [
            ("airport/XYZ", events("airport.cancelled", cancelled, flights)),
            ("thing/1", events("thing.seen", "{}", 1)),
        ] {
            store.append(Commit::new(stream.parse().unwrap(), Expected::NoStream, events)).await.unwrap();
        }
    });
}

fn what_is_kept_of_a_projection_is_listed_with_how_far_behind_it_is(desk: &Desk) {
    desk.write("nothing.csv", &first_rows(0));
    desk.run(&["demo", "--input", "nothing.csv", "--store", &desk.store("tailfold")]).succeeded();
    assert!(desk.run(&["projections"]).succeeded().stdout.contains("no snapshots of projections"));
    desk.record_flights(60);
    let seen = listed(desk);
    assert_eq!(
        (&seen["kind"], &seen["fold"], &seen["key"]),
        (&"snapshot".into(), &DASHBOARD.into(), &Value::Null)
    );
    assert_eq!((&seen["current"], &seen["snapshots"]), (&true.into(), &1.into()));
    assert_eq!((&seen["events_behind"], &seen["matching_behind"]), (&0.into(), &0.into()));
    assert_eq!(seen["position"], seen["looked"]);
    assert!(seen["latest_recorded_at"].as_str().unwrap().starts_with("2013-01-01T"), "{seen}");
    assert!(seen["bytes"].as_u64().unwrap() > 100);
    let position = seen["position"].as_u64().unwrap();

    cancel(desk, 30);
    let seen = listed(desk);
    assert_eq!((&seen["events_behind"], &seen["matching_behind"]), (&31.into(), &30.into()));
    assert_eq!(seen["position"], position);
    let text = desk.run(&["projections"]).succeeded().stdout;
    assert!(text.starts_with("fold ") && text.contains("  30  2013-01-01T"), "{text}");
    assert_eq!(desk.run(&["projections", "--fold", "other", "--json"]).succeeded().stdout, "");
    desk.run(&["verify"]).succeeded();
}

fn a_rebuild_folds_what_is_new_and_anew_from_the_start(desk: &Desk) {
    desk.record_flights(60);
    let all = events_of(&first_rows(60));
    cancel(desk, 30);
    let rebuilt = rebuild(desk, &[]);
    assert_eq!((&rebuilt["replayed_events"], &rebuilt["source"]), (&30.into(), &"snapshot".into()));
    assert_eq!(rebuilt["before"][0]["position"], rebuilt["began_at"]);
    assert_eq!(rebuilt["after"][0]["position"], rebuilt["last_event"]);
    assert_eq!(rebuilt["after"][0]["serial"], rebuilt["serial"]);
    assert_eq!((&listed(desk)["events_behind"], &listed(desk)["matching_behind"]), (&1.into(), &0.into()));
    // Again: nothing is new.
    assert_eq!(rebuild(desk, &[])["replayed_events"], 0);
    let anew = rebuild(desk, &["--from-start"]);
    assert_eq!((&anew["replayed_events"], &anew["source"]), (&(all + 30).into(), &"replay".into()));
    assert_eq!(anew["after"], rebuilt["after"]);
    let text = desk.run(&["project", "rebuild", DASHBOARD]).succeeded().stdout;
    assert!(text.contains("replayed 0 events") && text.contains("after: serial"), "{text}");

    let message = desk.run(&["project", "rebuild", "sold"]).failed(1);
    assert!(
        message.contains("rebuild projection `sold`: this program knows `delays-by-carrier`"),
        "{message}"
    );
    let message = desk.run(&["project", "rebuild", DASHBOARD, "--key", "UA"]).failed(1);
    assert!(message.contains("there is one instance, without a key"), "{message}");
}

#[test]
fn a_rebuild_goes_to_the_tier_as_well() {
    let desk = Desk::with_flights(60);
    let tier = desk.tier();
    let rebuilt = rebuild(&desk, &["--snapshots", &tier]);
    let tiers = |slots: &Value| -> Vec<String> {
        slots.as_array().unwrap().iter().map(|slot| slot["tier"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tiers(&rebuilt["before"]), ["own"]);
    assert_eq!(tiers(&rebuilt["after"]), ["redis", "own"]);
    let listed = desk.run(&["projections", "--snapshots", &tier, "--json"]).succeeded().objects();
    assert_eq!(listed.iter().map(|one| one["tier"].as_str().unwrap()).collect::<Vec<_>>(), ["redis", "own"]);
}

#[test]
fn a_snapshot_behind_the_end_of_a_log_is_found() {
    let desk = Desk::with_flights(60);
    // The log that was restored ends before the snapshot.
    assert!(
        desk.sql("tailfold.db", "DELETE FROM events WHERE position > (SELECT max(position) - 1 FROM events)")
            > 0
    );
    let run = desk.run(&["verify", "--json"]);
    let seen = run.object();
    let wrong = &seen["snapshots_rejected"][0];
    assert_eq!((&wrong["slot"]["key"], &wrong["reason"]), (&"*".into(), &"ahead".into()));
    run.failed(3);
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "order")]
enum OrderEvent {
    #[event(tag = "sku:{sku}")]
    Placed { sku: String, quantity: u32 },
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "order")]
struct Order {}

impl Fold for Order {
    type Event = OrderEvent;

    fn apply(&mut self, _event: OrderEvent, _meta: &EventMeta<'_>) {}
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "sold", projection)]
struct Sold {
    quantity: u32,
}

impl Fold for Sold {
    type Event = OrderEvent;

    fn apply(&mut self, OrderEvent::Placed { quantity, .. }: OrderEvent, _meta: &EventMeta<'_>) {
        self.quantity += quantity;
    }
}

impl Projection for Sold {
    type Key = String;

    /// No order that the tests erase could be folded.
    fn erased(&mut self, _stream: &StreamId) -> Erased {
        Erased::Forgotten
    }

    fn query(sku: &String) -> tailfold::Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("sku:{sku}"))?))
    }
}

/// A command line that knows `sold`.
fn embedded(desk: &Desk, args: &[&str]) -> impl Future<Output = tailfold_cli::Result<()>> + use<> {
    let store = match desk.store("tailfold") {
        file if file.ends_with(".db") => desk.path(&file).to_str().unwrap().to_owned(),
        url => url,
    };
    let args = Args::parse_from([&["mine", "--store", &store, "--json"], args].concat());
    let config = SnapshotConfig { checkpoint_events: 100, ..SnapshotConfig::default() };
    let projections =
        Projections::new().with::<Sold>(move |sold| sold.snapshots((Policy::every(10), config.clone())));
    async move { tailfold_cli::run(args, &projections).await }
}

fn a_program_that_embeds_the_command_line_rebuilds_its_own_projections(desk: &Desk) {
    desk.record_flights(20);
    let run = |args: &[&str]| embedded(desk, args);
    block_on(async {
        let opened = desk.open("tailfold").await;
        let orders = Repository::<Order>::builder(opened.clone()).build().unwrap();
        for (order, sku) in [("1", "tea"), ("2", "cup"), ("3", "tea")] {
            let placed = OrderEvent::Placed { sku: sku.to_owned(), quantity: 2 };
            orders.execute(order, move |_| Ok::<_, String>(placed.clone())).await.unwrap().unwrap();
        }
        run(&["project", "rebuild", "sold", "--key", "tea"]).await.unwrap();
        run(&["projections"]).await.unwrap();
        let message = run(&["project", "rebuild", "sold"]).await.unwrap_err().to_string();
        assert!(message.contains("--key"), "{message}");
        let kept = opened.list_to_vec(SlotFilter::fold("sold")).await.unwrap();
        assert_eq!(kept.iter().map(|info| info.slot.key()).collect::<Vec<_>>(), ["*tea"]);
        let sold = Repository::<Sold>::builder(opened).snapshots(Policy::every(10)).build().unwrap();
        let loaded = sold.load("tea").await.unwrap();
        assert_eq!((loaded.state().quantity, loaded.report().replayed_events), (4, 0));
    });
    // A program that does not know it says so in its number.
    let seen = desk.run(&["projections", "--fold", "sold", "--json"]).succeeded().objects();
    assert_eq!((&seen[0]["key"], &seen[0]["current"]), (&"tea".into(), &Value::Null));
    assert_eq!((&seen[0]["events_behind"], &seen[0]["matching_behind"]), (&0.into(), &Value::Null));
    assert!(desk.run(&["projections"]).succeeded().stdout.contains("<= 0"));
}

async fn order(store: &Arc<dyn Store>, orders: std::ops::Range<u32>) -> Position {
    let repository = Repository::<Order>::builder(store.clone()).build().unwrap();
    let mut position = None;
    for number in orders {
        let placed = OrderEvent::Placed { sku: "tea".to_owned(), quantity: number };
        let executed = repository.execute(number.to_string(), move |_| Ok::<_, String>(placed.clone())).await;
        position = executed.unwrap().unwrap().position();
    }
    position.unwrap()
}

fn where_read_models_stand_is_listed(desk: &Desk) {
    desk.record_flights(10);
    let file = desk.path("orders.sqlite").to_str().unwrap().to_owned();
    let last = block_on(async {
        let store = desk.open("tailfold").await;
        let last = order(&store, 0..5).await;
        let poisoned = |delivery: &Delivery<OrderEvent>| match delivery.event() {
            Some(OrderEvent::Placed { quantity: 3, .. }) => Err("too few".into()),
            _ => Ok(()),
        };
        let model = ByPosition::new(store.clone(), "mailed", poisoned).unwrap();
        let at_once = Retry { limit: 0, ..Retry::default() };
        let mailed = Subscription::builder(store.clone(), "mailed", model).retry(at_once).start().unwrap();
        let model = SqliteReadModel::<OrderEvent, _>::open(&file, |_, _| Ok(())).unwrap();
        let listed = Subscription::builder(store.clone(), "listed", model).start().unwrap();
        for subscription in [mailed, listed] {
            // Of what was parked in this moment it is told, of what was parked before it is not.
            if let Err(error) = subscription.wait_for(last).await {
                assert!(error.to_string().contains("is parked"), "{error}");
            }
            subscription.stop().await.unwrap();
        }
        order(&store, 5..12).await;
        last.0
    });
    let listed = |args: &[&str]| {
        let all = desk.run(&[&["projections", "--json"], args].concat()).succeeded().objects();
        all.into_iter().filter(|object| object["kind"] == "subscription").collect::<Vec<_>>()
    };
    let beside = listed(&[]);
    assert_eq!(beside.len(), 1);
    assert_eq!((&beside[0]["name"], &beside[0]["kept_in"]), (&"mailed".into(), &"own".into()));
    let all = listed(&["--read-models", &file]);
    assert_eq!(all.len(), 2);
    assert_eq!((&all[1]["name"], &all[1]["kept_in"]), (&"listed".into(), &file.as_str().into()));
    for (standing, parked) in all.iter().zip([1, 0]) {
        assert!(standing["position"].as_u64().unwrap() >= last, "{standing}");
        assert_eq!((&standing["events_behind"], &standing["parked"]), (&7.into(), &parked.into()));
        assert!(standing["behind_since"].is_string() && standing["leased_until"].is_null(), "{standing}");
    }
    let text = desk.run(&["projections", "--read-models", &file]).succeeded().stdout;
    assert!(text.contains("\nsubscription ") && text.contains("  <= 7  "), "{text}");
    assert_eq!(desk.run(&["projections", "--fold", "sold", "--json"]).succeeded().stdout, "");
    // What subscriptions keep is no snapshot of anybody's.
    let kinds = desk.run(&["snapshots", "--fold", "tailfold-subscription", "--json"]).succeeded().objects();
    let kinds: Vec<_> = kinds.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["checkpoint", "parked"]);
    let stats = desk.run(&["stats", "--json"]).succeeded().object();
    assert_eq!((&stats["checkpoints"], &stats["parked"]), (&1.into(), &1.into()));
    desk.run(&["verify"]).succeeded();
    // Neither is swept as one, though nobody has used it for long.
    block_on(async {
        let store = desk.open("tailfold").await;
        for info in store.list_to_vec(SlotFilter::all()).await.unwrap() {
            let stored = store.newest(&info.slot, None).await.unwrap().unwrap();
            let (head, bytes, day) = (stored.head, stored.bytes, Day(info.used.0 - 91));
            store.save(&info.slot, Save { head, bytes, keep: Keep::Newest, day }).await.unwrap();
        }
    });
    desk.run(&["sweep", "--unused-for", "90"]).succeeded();
    let left = desk.run(&["snapshots", "--json"]).succeeded().objects();
    let left: Vec<_> = left.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(left, ["checkpoint", "parked"]);
    what_is_parked_is_listed_tried_again_and_dropped(desk, &file);
}

#[test]
fn a_read_model_is_not_taken_for_a_store() {
    let desk = Desk::with_flights(10);
    block_on(async {
        let store = desk.open("tailfold").await;
        let last = order(&store, 0..2).await;
        let model =
            SqliteReadModel::<OrderEvent, _>::open(desk.path("orders.sqlite"), |_, _| Ok(())).unwrap();
        let listed = Subscription::builder(store, "listed", model).start().unwrap();
        listed.wait_for(last).await.unwrap();
        listed.stop().await.unwrap();
    });
    for command in [&["projections"][..], &["stats"], &["sweep", "--unused-for", "1"]] {
        let message = desk.run(&[&["--store", "orders.sqlite"], command].concat()).failed(1);
        for part in ["orders.sqlite", "read model", "--store STORE projections --read-models orders.sqlite"] {
            assert!(message.contains(part), "{message}");
        }
    }
    // Nobody has named a place, so nobody knows of it.
    let text = desk.run(&["projections"]).succeeded().stdout;
    assert!(text.contains("--read-models"), "{text}");
    let text = desk.run(&["projections", "--read-models", "orders.sqlite"]).succeeded().stdout;
    assert!(!text.contains("--read-models"), "{text}");
    let message = desk.run(&["projections", "--read-models", "tailfold.db"]).failed(1);
    assert!(message.contains("tailfold.db") && message.contains("is a tailfold store"), "{message}");
}

fn what_is_parked_is_listed_tried_again_and_dropped(desk: &Desk, file: &str) {
    let list = || desk.run(&["parked", "list", "--json"]).succeeded().objects();
    let listed = list();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["subscription"], &listed[0]["error"]), (&"mailed".into(), &"too few".into()));
    let position = listed[0]["position"].as_u64().unwrap();
    let at = position.to_string();
    let text = desk.run(&["parked", "list", "mailed"]).succeeded().stdout;
    assert!(text.contains("order.placed") && text.contains("too few"), "{text}");
    // A name that is spelled otherwise has nothing parked, which is no answer to what was meant.
    for args in
        [&["list", "mailde"][..], &["retry", "mailde", "--all"], &["drop", "mailde", "--position", "1"]]
    {
        let message = desk.run(&[&["parked"], args].concat()).failed(1);
        for part in ["no subscription `mailde`", "but `mailed`", "`tailfold projections`"] {
            assert!(message.contains(part), "{message}");
        }
    }
    let message = desk.run(&["parked", "retry", "mailed", "--position", "99999"]).failed(1);
    assert!(message.contains("no event at position 99999 parked"), "{message}");
    desk.run(&["parked", "retry", "mailed"]).failed(2);
    let asked = desk.run(&["parked", "retry", "mailed", "--position", &at, "--json"]).succeeded().object();
    assert_eq!(asked["events"], 1);
    assert_eq!(list()[0]["retry_requested"], true);
    // Nothing is parked in the tables of the other, and nothing changes there.
    let tables = ["--read-models", file];
    assert_eq!(
        desk.run(&[&["parked", "list"], &tables[..]].concat()).succeeded().stdout,
        "nothing is parked\n"
    );
    for action in ["retry", "drop"] {
        let args = [&["parked", action, "listed", "--all"], &tables[..]].concat();
        let text = desk.run(&args).succeeded().stdout;
        assert!(text.starts_with("0 events of `listed`"), "{text}");
    }
    // Tried again by one who can handle it; then there is nothing to drop.
    block_on(async {
        let store = desk.open("tailfold").await;
        let model = ByPosition::new(store.clone(), "mailed", |_: &Delivery<OrderEvent>| Ok(())).unwrap();
        let mailed = Subscription::builder(store.clone(), "mailed", model).start().unwrap();
        mailed.wait_until_current().await.unwrap();
        mailed.stop().await.unwrap();
    });
    assert!(list().is_empty());
    let dropped = desk.run(&["parked", "drop", "mailed", "--all", "--json"]).succeeded().object();
    assert_eq!(dropped["events"], 0);
}

#[test]
fn a_place_without_read_models_and_a_log_of_another_store_are_told() {
    let (desk, other) = (Desk::with_flights(10), Desk::with_flights(20));
    let file = desk.path("orders.sqlite").to_str().unwrap().to_owned();
    let message = desk.run(&["projections", "--read-models", &file]).failed(1);
    assert!(message.contains("orders.sqlite") && message.contains("no such file"), "{message}");
    let message = desk.run(&["projections", "--read-models", "nats://ada:geheim@h"]).failed(1);
    assert!(message.contains("no read models are kept on NATS") && !message.contains("geheim"), "{message}");
    let message = desk.run(&["projections", "--read-models", "mysql://ada:geheim@h"]).failed(2);
    assert!(message.contains("--read-models <PLACE>") && !message.contains("geheim"), "{message}");
    block_on(async {
        let store = other.open("tailfold").await;
        let last = order(&store, 0..2).await;
        let model = SqliteReadModel::<OrderEvent, _>::open(&file, |_, _| Ok(())).unwrap();
        let listed = Subscription::builder(store, "listed", model).start().unwrap();
        listed.wait_for(last).await.unwrap();
        listed.stop().await.unwrap();
    });
    let text = desk.run(&["projections", "--read-models", &file]).succeeded().stdout;
    assert!(text.contains("  other store  "), "{text}");
}

#[test]
fn a_rebuild_that_fails_keeps_its_last_checkpoint_and_the_next_goes_on_from_there() {
    let desk = Desk::with_flights(10);
    let orders = |payload: &'static str, count| -> Vec<NewEvent> {
        let order = || {
            let mut data = EventData::new(EventType::new("order.placed").unwrap(), payload);
            data.tags = vec![Tag::new("sku:tea").unwrap()];
            NewEvent::new(data).unwrap()
        };
        std::iter::repeat_with(order).take(count).collect()
    };
    block_on(async {
        let store = desk.open("tailfold").await;
        let (good, bad): (StreamId, StreamId) = ("order/1".parse().unwrap(), "order/2".parse().unwrap());
        let append =
            |stream: &StreamId, events| store.append(Commit::new(stream.clone(), Expected::Any, events));
        append(&good, orders(r#"{"sku":"tea","quantity":1}"#, 1_500)).await.unwrap();
        append(&bad, orders("not JSON", 1)).await.unwrap();
        let rebuild = ["project", "rebuild", "sold", "--key", "tea"];
        let message = embedded(&desk, &rebuild).await.unwrap_err().to_string();
        assert!(message.contains("stream `order/2`"), "{message}");
        let kept = store.list_to_vec(SlotFilter::fold("sold")).await.unwrap();
        assert_eq!(kept.len(), 1);

        store.remove(&bad, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
        let sold = Repository::<Sold>::builder(store.clone()).snapshots(Policy::never()).build().unwrap();
        let left = sold.load("tea").await.unwrap();
        assert!(left.report().source != Source::Replay && left.report().replayed_events < 1_500, "{left:?}");
        embedded(&desk, &rebuild).await.unwrap();
        let loaded = sold.load("tea").await.unwrap();
        assert_eq!((loaded.state().quantity, loaded.report().replayed_events), (1_500, 0));
    });
}
