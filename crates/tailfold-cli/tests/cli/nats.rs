//! What only stores on NATS have.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use tailfold::{Day, Keep, Save, SlotFilter, SnapshotStore as _};
use tailfold_testkit::servers::{NatsServer, NatsVersion, nats_url};

use crate::support::{Desk, first_rows};

#[test]
fn a_server_that_is_not_there_is_named_at_once() {
    let desk = Desk::new();
    desk.write("nothing.jsonl", "{\"end\":{\"events\":0}}\n");
    // Bound and let go: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = format!("nats://ada:geheim@127.0.0.1:{port}/bank");
    let started = Instant::now();
    for command in [&["stats"][..], &["verify"], &["import", "nothing.jsonl"], &["demo"]] {
        let message = desk.run(&[&["--store", &store], command].concat()).failed(1);
        assert!(message.contains(&format!("connect to nats://127.0.0.1:{port}/bank: ")), "{message}");
        assert!(message.contains("no server lets us in") && !message.contains("geheim"), "{message}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_store_that_is_missing_is_said_and_not_made() {
    let desk = Desk::on_nats();
    for _ in 0..2 {
        for command in [
            &["streams"][..],
            &["show", "a/b"],
            &["state", "a/b"],
            &["snapshots"],
            &["projections"],
            &["project", "rebuild", "delays-by-carrier"],
            &["stats"],
            &["verify"],
            &["export"],
            &["backup", "missing.backup"],
            &["reindex"],
            &["sweep", "--unused-for", "1"],
        ] {
            let message = desk.run(command).failed(1);
            assert!(
                message.contains(&format!("connect to {}: there is no such store", desk.store("tailfold"))),
                "{message}"
            );
        }
    }
    assert_eq!(desk.files(), Vec::<String>::new());
}

#[test]
fn a_password_opens_and_is_never_told() {
    let server = NatsServer::builder(NatsVersion::V2_15_1).user_password("ada", "geheim").start().unwrap();
    let desk = Desk::new();
    desk.write("flights.csv", &first_rows(20));
    let store = |login: &str| server.url().replace("//", &format!("//{login}@"));
    let demo = ["demo", "--input", "flights.csv", "--store", &store("ada:geheim")];
    let run = desk.run(&demo).succeeded();
    assert!(run.stdout.contains(&format!("{}/tf", server.url())), "{}", run.stdout);
    assert!(
        !run.stdout.contains("geheim") && !run.stderr.contains("geheim"),
        "{} {}",
        run.stdout,
        run.stderr
    );
    let message = desk.run(&["--store", &store("ada:versteckt"), "stats"]).failed(1);
    assert!(message.contains("no server lets us in") && !message.contains("versteckt"), "{message}");
    for wrong in ["nats://ada:geheim@h/a.b", "nats://ada:geheim@", "nats://ada:geheim@h?color=red"] {
        let run = desk.run(&["--store", wrong, "stats"]);
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains("--store") && !run.stderr.contains("geheim"), "{}", run.stderr);
    }
}

#[test]
fn there_is_no_index_of_tags_to_build() {
    let desk = Desk::on_nats();
    desk.record_flights(10);
    let message = desk.run(&["reindex"]).failed(1);
    assert!(message.contains("reindex: a store on NATS has no index of tags"), "{message}");
}

#[test]
fn a_sweep_removes_what_was_not_used_and_nothing_else() {
    let desk = Desk::on_nats();
    desk.record_flights(400);
    let sweep = |args: &[&str]| {
        let sweep = [&["sweep", "--unused-for", "90", "--json"], args].concat();
        desk.run(&sweep).succeeded().object()["snapshots"].as_u64().unwrap()
    };
    assert_eq!(sweep(&[]), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = desk.open("tailfold").await;
        let batches: Vec<_> = store.list(SlotFilter::all()).try_collect().await.unwrap();
        for info in batches.into_iter().flatten().filter(|info| info.slot.key() != "airport/JFK") {
            let bytes = store.newest(&info.slot, None).await.unwrap().unwrap().bytes;
            let save = Save { head: info.head, bytes, keep: Keep::Newest, day: Day(info.used.0 - 91) };
            store.save(&info.slot, save).await.unwrap();
        }
    });
    assert_eq!(sweep(&["--fold", "aircraft"]), 0);
    assert_eq!(sweep(&[]), 3);
    assert_eq!(desk.run(&["snapshots", "--json"]).succeeded().objects().len(), 1);
    desk.run(&["verify"]).succeeded();
}

#[test]
fn older_servers_serve_the_command_too() {
    for version in [NatsVersion::V2_9_10, NatsVersion::V2_12_8] {
        let desk = Desk::on_server(&nats_url(version));
        desk.record_flights(150);
        desk.run(&["backup", "flights.backup"]).succeeded();
        desk.run(&["--store", &desk.store("copy"), "restore", "flights.backup"]).succeeded();
        for store in ["tailfold", "copy"] {
            desk.run(&["--store", &desk.store(store), "verify"]).succeeded();
        }
    }
}
