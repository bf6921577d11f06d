//! What only stores on PostgreSQL have.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use tailfold::EventStore as _;
use tailfold_testkit::servers::PostgresServer;

use crate::support::{Desk, first_rows};

#[test]
fn a_server_that_is_not_there_is_named_at_once() {
    let desk = Desk::new();
    desk.write("nothing.jsonl", "{\"end\":{\"events\":0}}\n");
    // Bound and let go: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = format!("postgresql://ada:geheim@127.0.0.1:{port}/bank");
    for command in [&["stats"][..], &["import", "nothing.jsonl"], &["demo"]] {
        let started = Instant::now();
        let message = desk.run(&[&["--store", &store], command].concat()).failed(1);
        assert!(message.contains(&format!("connect to postgres://127.0.0.1:{port}/bank")), "{message}");
        assert!(!message.contains("geheim"), "{message}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}

#[test]
fn a_store_that_is_missing_is_said_and_not_made() {
    let desk = Desk::on_postgres();
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
            &["reindex"],
            &["renew-id"],
            &["sweep", "--unused-for", "1"],
        ] {
            let message = desk.run(command).failed(1);
            assert!(message.contains("there is no such store"), "{message}");
        }
    }
    assert_eq!(desk.files(), Vec::<String>::new());
}

#[test]
fn a_schema_without_read_models_is_said_to_have_none() {
    let desk = Desk::on_postgres();
    desk.record_flights(5);
    let message = desk.run(&["projections", "--read-models", &desk.store("tailfold")]).failed(1);
    assert!(
        message.contains("list the checkpoints in postgres://") && message.contains("read models"),
        "{message}"
    );
}

#[test]
fn a_password_opens_and_is_never_told() {
    let server = PostgresServer::builder().password("geheim").start().unwrap();
    let desk = Desk::new();
    desk.write("flights.csv", &first_rows(20));
    let store = |password: &str| server.url().replace("tailfold@", &format!("tailfold:{password}@"));
    let run = desk.run(&["demo", "--input", "flights.csv", "--store", &store("geheim")]).succeeded();
    assert!(
        run.stdout.contains(&format!("postgres://127.0.0.1:{}/postgres", server.port())),
        "{}",
        run.stdout
    );
    assert!(
        !run.stdout.contains("geheim") && !run.stderr.contains("geheim"),
        "{} {}",
        run.stdout,
        run.stderr
    );
    let message = desk.run(&["--store", &store("versteckt"), "stats"]).failed(1);
    assert!(message.contains("password") && !message.contains("versteckt"), "{message}");
    for wrong in [
        "postgres://ada:geheim@h?schema=a-b",
        "postgres://ada:geheim@",
        "postgresql://ada:geheim@h?color=red",
    ] {
        let run = desk.run(&["--store", wrong, "stats"]);
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains("--store") && !run.stderr.contains("geheim"), "{}", run.stderr);
    }
}

#[test]
fn backups_are_left_to_its_own_tools_and_a_copy_gets_an_id_of_its_own() {
    let desk = Desk::on_postgres();
    desk.record_flights(150);
    let message = desk.run(&["backup", "flights.backup"]).failed(1);
    assert!(message.contains("back up to `flights.backup`: ") && message.contains("pg_dump"), "{message}");
    let message = desk.run(&["--store", &desk.store("copy"), "restore", "flights.backup"]).failed(1);
    assert!(message.contains("restore `flights.backup`: ") && message.contains("renew-id"), "{message}");
    assert_eq!(desk.files(), ["flights.csv"]);

    let id = || desk.run(&["stats", "--json"]).succeeded().object()["store_id"].clone();
    let before = id();
    let renewed = desk.run(&["renew-id", "--json"]).succeeded().object()["store_id"].clone();
    assert_ne!(renewed, before);
    assert_eq!(id(), renewed);
    desk.run(&["verify"]).succeeded();

    let message = Desk::with_flights(10).run(&["renew-id"]).failed(1);
    assert!(message.contains("renew the store's id: `restore` makes"), "{message}");
}

#[test]
fn the_index_of_tags_is_built_anew() {
    let desk = Desk::on_postgres();
    desk.record_flights(10);
    assert!(desk.run(&["reindex"]).succeeded().stdout.contains("new"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let id = runtime.block_on(async { desk.open("tailfold").await.store_id().await.unwrap() });
    assert_eq!(desk.run(&["stats", "--json"]).succeeded().object()["store_id"], id.to_string());
}
