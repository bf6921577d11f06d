//! A log that somebody keeps from being brought into the file.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use tailfold::Expected;
use tailfold_sqlite::SqliteStore;

use crate::support::*;

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Collects warnings of all threads.
struct Collector;

impl tracing::Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        TOLD.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

const CHILD: &str = "TAILFOLD_TEST_HOLDING_CHILD";

/// Runs only as the child of the test below: reads, and goes on reading.
#[test]
fn child_that_holds_a_read_transaction() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let sqlite = rusqlite::Connection::open(path).unwrap();
    sqlite.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    println!("reads");
    std::io::stdin().lines().next();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_growing_log_is_told_and_the_log_is_cut_afterwards() {
    static COLLECTING: Once = Once::new();
    COLLECTING.call_once(|| tracing::subscriber::set_global_default(Collector).unwrap());
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(1)).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log_growth::child_that_holds_a_read_transaction", "--nocapture"])
        .env(CHILD, &place.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    while output.next().unwrap().unwrap() != "reads" {}

    let about = |text: &&String| text.contains(&place.path.display().to_string());
    let told = || TOLD.lock().unwrap().iter().find(about).cloned();
    let mut filled = 0;
    let told = loop {
        fill(&store).await;
        filled += 1;
        if let Some(told) = told() {
            break told;
        }
        assert!(filled < 40, "nobody says why the log grows");
    };
    assert!(told.contains("cannot be brought into the file"), "{told}");
    if cfg!(target_os = "linux") {
        assert!(told.contains(&format!("process {} (", child.id())), "{told}");
    }
    let log = place.path.with_extension("tailfold-wal");
    let megabytes = || std::fs::metadata(&log).unwrap().len() >> 20;
    assert!(megabytes() > 100, "{} MiB", megabytes());

    // Nothing more is appended.
    drop(child.stdin.take());
    child.wait().unwrap();
    let begun = Instant::now();
    while megabytes() > 64 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the log stays at {} MiB", megabytes());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    store.close().await.unwrap();
}

/// 16 MiB.
async fn fill(store: &SqliteStore) {
    let payloads = (0..16).map(|_| event(&"x".repeat(1 << 20))).collect();
    append(store, "a/long", Expected::Any, payloads).await;
}
