//! Snapshots on Redis, in front of the store's own.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde_json::Value;
use tailfold::{Day, Keep, Save, SlotFilter, SnapshotStore as _, StoredSnapshot};
use tailfold_redis::{RedisConfig, RedisSnapshots};
use tailfold_testkit::servers::RedisServer;

use crate::support::{Desk, first_rows, on_every_kind_of_store};

on_every_kind_of_store!(
    a_demo_fills_both_tiers_and_loads_from_the_nearer,
    stats_verify_and_snapshots_say_which_is_which,
    a_wrong_snapshot_is_found_where_it_is,
    a_sweep_clears_both,
    a_flushed_tier_is_empty_and_fills_again,
);

/// Runs on a store with its tier.
struct Tiered<'a> {
    desk: &'a Desk,
    store: String,
    tier: String,
}

impl<'a> Tiered<'a> {
    fn with_flights(desk: &'a Desk, rows: usize) -> (Self, Value) {
        let tiered = Self { desk, store: desk.store("tailfold"), tier: desk.tier() };
        let summary = tiered.demo(rows);
        (tiered, summary)
    }

    fn demo(&self, rows: usize) -> Value {
        self.desk.write("flights.csv", &first_rows(rows));
        self.run(&["demo", "--input", "flights.csv", "--json"]).succeeded().object()
    }

    fn run(&self, command: &[&str]) -> crate::support::Run {
        let places = ["--store", &self.store, "--snapshots", &self.tier];
        self.desk.run(&[command, &places].concat())
    }

    async fn redis(&self) -> RedisSnapshots {
        self.tier.parse::<RedisConfig>().unwrap().connect().await.unwrap()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn a_demo_fills_both_tiers_and_loads_from_the_nearer(desk: &Desk) {
    let (tiered, summary) = Tiered::with_flights(desk, 400);
    assert_eq!(summary["snapshots"], 3);
    assert_eq!((&summary["snapshot_loads"], &summary["tier_loads"]), (&3.into(), &3.into()));
    assert_eq!(summary["airports_equal"], summary["airports"]);
    assert!(
        tiered.tier.starts_with(summary["tier"].as_str().unwrap().split('?').next().unwrap()),
        "{summary}"
    );
    desk.write("flights.csv", &first_rows(400));
    let text = tiered.run(&["demo", "--input", "flights.csv"]).succeeded().stdout;
    assert!(text.contains("from the tier") && text.contains("redis://"), "{text}");
    // Without the tier, the store has them too, and nothing speaks of tiers.
    let alone = desk
        .run(&["demo", "--input", "flights.csv", "--store", &tiered.store, "--json"])
        .succeeded()
        .object();
    assert_eq!(alone["snapshot_loads"], 3);
    assert_eq!((alone.get("tier"), alone.get("tier_loads")), (None, None));
}

fn stats_verify_and_snapshots_say_which_is_which(desk: &Desk) {
    let (tiered, _) = Tiered::with_flights(desk, 400);
    let names = |tiers: &Value| -> Vec<(String, u64)> {
        let tier =
            |tier: &Value| (tier["tier"].as_str().unwrap().to_owned(), tier["snapshots"].as_u64().unwrap());
        tiers.as_array().unwrap().iter().map(tier).collect()
    };
    let both = [("redis".to_owned(), 4), ("own".to_owned(), 4)];
    let stats = tiered.run(&["stats", "--json"]).succeeded().object();
    assert_eq!((names(&stats["tiers"]), stats["snapshots"].as_u64()), (both.to_vec(), Some(8)));
    assert_eq!(stats["tiers"][0]["folds"]["airport"], stats["tiers"][1]["folds"]["airport"]);
    let text = tiered.run(&["stats"]).succeeded().stdout;
    assert!(text.contains("in redis") && text.contains("in own") && text.contains("tier"), "{text}");

    let seen = tiered.run(&["verify", "--json"]).succeeded().object();
    assert_eq!((names(&seen["tiers"]), seen["snapshots"].as_u64()), (both.to_vec(), Some(8)));
    let text = tiered.run(&["verify"]).succeeded().stdout;
    assert!(text.contains("4 snapshots in redis") && text.contains("4 snapshots in own"), "{text}");

    let listed = tiered.run(&["snapshots", "--json"]).succeeded().objects();
    let tiers: Vec<_> = listed.iter().map(|one| one["tier"].as_str().unwrap()).collect();
    assert_eq!(tiers, ["redis", "redis", "redis", "redis", "own", "own", "own", "own"]);
    assert_eq!((&listed[0]["chain"], &listed[0]["key"]), (&listed[4]["chain"], &listed[4]["key"]));
    assert_eq!(tiered.run(&["snapshots", "airport/JFK", "--json"]).succeeded().objects().len(), 2);
    let text = tiered.run(&["snapshots"]).succeeded().stdout;
    assert!(text.starts_with("tier ") && text.contains("\nredis ") && text.contains("\nown "), "{text}");

    for command in [&["stats"][..], &["verify"], &["snapshots"], &["sweep", "--unused-for", "1"]] {
        let alone = [command, &["--json"]].concat();
        for object in desk.run(&alone).succeeded().objects() {
            assert_eq!((object.get("tier"), object.get("tiers")), (None, None), "{object}");
        }
    }
    // These do not touch snapshots.
    tiered.run(&["streams"]).succeeded();
    tiered.run(&["export", "all.jsonl"]).succeeded();
}

fn a_wrong_snapshot_is_found_where_it_is(desk: &Desk) {
    let (tiered, _) = Tiered::with_flights(desk, 400);
    block_on(async {
        let redis = tiered.redis().await;
        let kept: Vec<_> = redis.list(SlotFilter::key("airport/JFK")).try_concat().await.unwrap();
        let bytes = Bytes::from_static(b"foreign");
        let save = Save { head: kept[0].head, bytes, keep: Keep::Newest, day: kept[0].used };
        redis.save(&kept[0].slot, save).await.unwrap();
    });
    let run = tiered.run(&["verify", "--json"]);
    let seen = run.object();
    assert_eq!((seen["snapshots_wrong"].as_u64(), seen["damaged"].as_u64()), (Some(1), Some(0)));
    assert_eq!(seen["tiers"][0]["snapshots_rejected"][0]["slot"]["key"], "airport/JFK");
    assert_eq!(seen["tiers"][1]["snapshots_wrong"], 0);
    assert!(run.failed(3).contains("1 of 8 snapshots are wrong"));
    let listed = tiered.run(&["snapshots", "airport/JFK", "--json"]).succeeded().objects();
    assert_eq!((&listed[0]["rejected"], &listed[1]["rejected"]), (&"corrupt".into(), &Value::Null));
    // A load passes it by, and puts a sound one in its place.
    let summary = tiered.demo(400);
    assert_eq!(summary["airports_equal"], summary["airports"]);
    tiered.run(&["verify"]).succeeded();
}

fn a_sweep_clears_both(desk: &Desk) {
    let (tiered, _) = Tiered::with_flights(desk, 400);
    let sweep = |args: &[&str]| {
        tiered.run(&[&["sweep", "--unused-for", "90", "--json"], args].concat()).succeeded().object()
    };
    assert_eq!(sweep(&[])["snapshots"], 0);
    block_on(async {
        let store = desk.open("tailfold").await;
        let redis = tiered.redis().await;
        let kept: Vec<_> = redis.list(SlotFilter::all()).try_concat().await.unwrap();
        for info in kept.into_iter().filter(|info| info.slot.key() != "airport/JFK") {
            let StoredSnapshot { head, bytes, used } = redis.newest(&info.slot, None).await.unwrap().unwrap();
            let save = Save { head, bytes, keep: Keep::Newest, day: Day(used.0 - 91) };
            redis.save(&info.slot, save.clone()).await.unwrap();
            store.save(&info.slot, save).await.unwrap();
        }
    });
    assert_eq!(sweep(&["--fold", "aircraft"])["snapshots"], 0);
    let swept = sweep(&[]);
    assert_eq!(swept["snapshots"], 6);
    assert_eq!(
        (swept["tiers"][0]["snapshots"].as_u64(), swept["tiers"][1]["snapshots"].as_u64()),
        (Some(3), Some(3))
    );
    let text = tiered.run(&["sweep", "--unused-for", "90"]).succeeded().stdout;
    assert!(text.contains("from redis") && text.contains("from own"), "{text}");
    assert_eq!(tiered.run(&["snapshots", "--json"]).succeeded().objects().len(), 2);
}

fn a_flushed_tier_is_empty_and_fills_again(desk: &Desk) {
    let (tiered, _) = Tiered::with_flights(desk, 400);
    block_on(async {
        let redis = tiered.redis().await;
        for key in ["airport/EWR", "airport/JFK", "airport/LGA"] {
            redis.forget(key).await.unwrap();
        }
    });
    let kept = || tiered.run(&["stats", "--json"]).succeeded().object()["tiers"][0]["snapshots"].as_u64();
    assert_eq!(kept(), Some(1));
    let summary = tiered.demo(400);
    assert_eq!((summary["snapshot_loads"].as_u64(), summary["airports_equal"].as_u64()), (Some(3), Some(3)));
    assert_eq!(kept(), Some(4));
}

#[test]
fn nothing_of_a_passing_store_stays_in_the_tier() {
    let desk = Desk::new();
    let server = RedisServer::start().unwrap();
    desk.write("flights.csv", &first_rows(400));
    for _ in 0..2 {
        let demo = ["demo", "--input", "flights.csv", "--snapshots", &server.url(), "--json"];
        let summary = desk.run(&demo).succeeded().object();
        assert_eq!(
            (summary["tier_loads"].as_u64(), summary["snapshots_rejected"].as_u64()),
            (Some(3), Some(0))
        );
    }
    let kept: Vec<_> = block_on(async {
        let redis = server.url().parse::<RedisConfig>().unwrap().connect().await.unwrap();
        redis.list(SlotFilter::all()).try_concat().await.unwrap()
    });
    assert_eq!(kept, []);
}

#[test]
fn a_tier_that_is_not_there_is_named_at_once() {
    let desk = Desk::with_flights(10);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tier = format!("redis://:geheim@127.0.0.1:{port}");
    let started = Instant::now();
    for command in [&["stats"][..], &["verify"], &["snapshots"], &["sweep", "--unused-for", "1"], &["demo"]] {
        let message = desk.run(&[&["--snapshots", &tier], command].concat()).failed(1);
        assert!(message.contains(&format!("connect to redis://127.0.0.1:{port}")), "{message}");
        assert!(!message.contains("geheim"), "{message}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    desk.run(&["--snapshots", &tier, "streams"]).succeeded();
}

#[test]
fn a_password_opens_the_tier_and_is_never_told() {
    let server = RedisServer::builder().password("geheim").start().unwrap();
    let desk = Desk::new();
    desk.write("flights.csv", &first_rows(20));
    let tier = |password: &str| server.url().replace("//", &format!("//:{password}@"));
    let run = desk.run(&["demo", "--input", "flights.csv", "--snapshots", &tier("geheim")]).succeeded();
    assert!(
        !run.stdout.contains("geheim") && !run.stderr.contains("geheim"),
        "{} {}",
        run.stdout,
        run.stderr
    );
    let message = desk.run(&["demo", "--input", "flights.csv", "--snapshots", &tier("versteckt")]).failed(1);
    assert!(message.contains("connect to redis://") && !message.contains("versteckt"), "{message}");
    for wrong in
        ["redis://ada:geheim@h?color=red", "memcached://ada:geheim@h", "redis://ada:geheim@h/x", "geheim"]
    {
        let run = desk.run(&["--snapshots", wrong, "stats"]);
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains("--snapshots") && !run.stderr.contains("geheim"), "{}", run.stderr);
    }
}
