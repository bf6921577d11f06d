use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tailfold::{Chain, Commit, EventStore as _, Expected, SnapshotStore as _, Version};
use tailfold_sqlite::SqliteStore;

use crate::support::*;

const CHILD: &str = "TAILFOLD_TEST_CRASH_CHILD";
const STREAMS: u64 = 8;

/// Runs only as the child of the test below: appends and saves snapshots until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_appends_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = SqliteStore::open(path).await.unwrap();
    let tasks: Vec<_> = (0..STREAMS)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let id = stream(&format!("a/{number}"));
                let mut expected = Expected::from_head(store.head(&id).await.unwrap());
                loop {
                    let count = fastrand::usize(1..4);
                    let receipt =
                        store.append(Commit::new(id.clone(), expected, events(count))).await.unwrap();
                    let head = receipt.writes[0].head;
                    let line = format!("event {number} {} {}\n", head.version, head.chain);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                    expected = Expected::Head(head);
                    if head.version.0 % 3 == 0 {
                        let bytes = vec![b's'; fastrand::usize(1..20_000)];
                        store.save(&slot("f", id.as_str()), save(head, bytes)).await.unwrap();
                        let line = format!("snapshot {number} {} {}\n", head.version, head.chain);
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                    }
                }
            })
        })
        .collect();
    futures_util::future::join_all(tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_every_acknowledged_event_is_there_without_a_gap_and_no_snapshot_is_ahead() {
    let place = Place::new();
    let mut acknowledged = HashMap::new();
    let mut snapshots = HashMap::new();
    for _ in 0..12 {
        for line in lines_of_killed_child(&place.path) {
            let words: Vec<_> = line.split(' ').collect();
            let (number, version): (u64, u64) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            let told = if words[0] == "event" { &mut acknowledged } else { &mut snapshots };
            told.insert(number, (version, words[3].parse::<Chain>().unwrap()));
        }
        let store = place.open().await;
        for number in 0..STREAMS {
            let id = stream(&format!("a/{number}"));
            let events = read(&store, id.as_str()).await;
            let head = verify(&events, Chain::genesis(&id));
            let (version, chain) = acknowledged.get(&number).copied().unwrap_or((0, Chain::genesis(&id)));
            assert!(
                head.version >= Version(version),
                "stream {number} ends at {head}, acknowledged was {version}"
            );
            if version > 0 {
                assert_eq!(events[version as usize - 1].chain, chain);
            }
            let snapshot = store.newest(&slot("f", id.as_str()), None).await.unwrap();
            if let Some((version, _)) = snapshots.get(&number) {
                assert!(snapshot.as_ref().is_some_and(|kept| kept.head.version >= Version(*version)));
            }
            if let Some(kept) = snapshot {
                assert_eq!(
                    events[kept.head.version.0 as usize - 1].head(),
                    kept.head,
                    "ahead or of another history"
                );
                assert!(kept.bytes.iter().all(|byte| *byte == b's'));
            }
        }
        store.check().await.unwrap();
        drop(store);
    }
    assert!(acknowledged.values().any(|(version, _)| *version > 50), "too little happened: {acknowledged:?}");
}

fn lines_of_killed_child(path: &Path) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_appends_until_it_is_killed", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut output = BufReader::new(output);
        let mut line = String::new();
        // A line that is cut off by the kill was not heard.
        while output.read_line(&mut line).is_ok_and(|length| length > 0) {
            if line.ends_with('\n') && (line.starts_with("event ") || line.starts_with("snapshot ")) {
                lines.push(line.trim_end().to_owned());
            }
            line.clear();
        }
        lines
    });
    std::thread::sleep(Duration::from_millis(fastrand::u64(80..350)));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}
