//! A disk that does not always read. SQLite says "malformed" of it; the file is sound.

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use std::time::Duration;

use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};
use tailfold::{
    BoxError, Commit, Delivery, ErrorKind, Event, EventStore as _, EventStoreExt as _, Expected, Filter,
    MemoryStore, Position, Retry, Subscription, VersionRange,
};
use tailfold_sqlite::{SqliteReadModel, checkpoints, parked_events};

use crate::support::*;

/// Fails reads of files whose name tells that they are the test's: so many of a thousand, or all while another file is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static __thread unsigned seed;

static int fails(int fd) {
    char *rate = getenv("TAILFOLD_TEST_EIO"), *flag = getenv("TAILFOLD_TEST_EIO_WHILE");
    if (!rate && !flag) return 0;
    if (flag && access(flag, F_OK) != 0) return 0;
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length <= 0) return 0;
    name[length] = 0;
    if (!strstr(name, "test.tailfold") || strstr(name, "-shm")) return 0;
    if (flag) return 1;
    if (!seed) seed = (unsigned)(size_t)&seed ^ (unsigned)getpid();
    return rand_r(&seed) % 1000 < (unsigned)atoi(rate);
}

#define FAILING(NAME, PARAMETERS, ARGUMENTS)                      \
    ssize_t NAME PARAMETERS {                                     \
        static ssize_t(*real) PARAMETERS;                         \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #NAME);     \
        if (fails(fd)) { errno = EIO; return -1; }                \
        return real ARGUMENTS;                                    \
    }

FAILING(read, (int fd, void *bytes, size_t length), (fd, bytes, length))
FAILING(pread, (int fd, void *bytes, size_t length, off_t at), (fd, bytes, length, at))
FAILING(pread64, (int fd, void *bytes, size_t length, off64_t at), (fd, bytes, length, at))
"#;

const CHILD: &str = "TAILFOLD_TEST_EIO_CHILD";
const STREAMS: usize = 40;

fn note(what: &str, error: tailfold::Error) {
    let kind = match error.kind() {
        ErrorKind::Corrupt => "CORRUPT",
        ErrorKind::Unavailable(_) if error.to_string().contains("Input/output error") => "unavailable",
        _ => "OTHER",
    };
    println!("{kind} {what}: {error}");
}

/// Runs only as the child of the tests below, with reads that fail.
#[tokio::test(flavor = "multi_thread")]
async fn child_whose_reads_fail() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let mut acknowledged = 0;
    for _ in 0..20 {
        // Caches so small that the file is read.
        let config =
            tailfold_sqlite::SqliteConfig::new(&path).reader_cache_bytes(1 << 16).writer_cache_bytes(1 << 16);
        let store = match config.open().await {
            Ok(store) => store,
            Err(error) => {
                note("open", error);
                continue;
            }
        };
        for _ in 0..20 {
            let id = stream(&format!("a/{}", fastrand::usize(0..STREAMS)));
            match store.append(Commit::new(id.clone(), Expected::Any, events(1))).await {
                Ok(_) => acknowledged += 1,
                Err(error) => note("append", error),
            }
            if let Err(error) = store.read_to_vec(&id, VersionRange::ALL).await {
                note("read", error);
            }
        }
        if let Err(error) = store.read_all_to_vec(Position::ZERO, Filter::all()).await {
            note("read the log", error);
        }
        if let Err(error) = store.check().await {
            note("check", error);
        }
        if let Err(error) = store.close().await {
            note("close", error);
        }
    }
    println!("acknowledged {acknowledged}");
}

const FLAG: &str = "TAILFOLD_TEST_EIO_WHILE";

/// Runs only as the child of the test below, with a disk that does not read while a file is there.
#[tokio::test(flavor = "multi_thread")]
async fn child_whose_disk_fails_for_a_while() {
    let (Ok(flag), Ok(path)) = (std::env::var(FLAG), std::env::var(CHILD)) else { return };
    let fail = |fails: bool| match fails {
        true => std::fs::write(&flag, "").unwrap(),
        false => std::fs::remove_file(&flag).unwrap(),
    };
    let config = tailfold_sqlite::SqliteConfig::new(&path).writer_cache_bytes(1 << 16);
    let store = config.open().await.unwrap();
    let append =
        |number: usize| store.append(Commit::new(stream(&format!("a/{number}")), Expected::Any, events(1)));
    let until_it_fails = async || {
        for number in 0..STREAMS {
            if let Err(error) = append(number).await {
                return error;
            }
        }
        panic!("nothing needs the disk")
    };

    // What is not done in a transaction is told what the system said, too.
    fail(true);
    until_it_fails().await;
    let error = store.reset_snapshots().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("Input/output error"), "{error}");
    fail(false);
    store.reset_snapshots().await.unwrap();

    // A connection that takes the place of one that failed knows what was acknowledged.
    append(1).await.unwrap();
    let last = append(1).await.unwrap().position;
    fail(true);
    until_it_fails().await;
    fail(false);
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    let sql = "DELETE FROM events WHERE position >= ?1";
    assert!(sqlite.execute(sql, [last.0.cast_signed()]).unwrap() > 0);
    sqlite.execute("UPDATE meta SET positions_used = 0", []).unwrap();
    let error = append(2).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("the log went back"), "{error}");
    println!("all is told");
}

async fn filled() -> Place {
    let place = Place::new();
    let store = place.open().await;
    for number in 0..STREAMS {
        let payloads = (0..100).map(|_| event(&"x".repeat(500))).collect();
        append(&store, &format!("a/{number}"), Expected::NoStream, payloads).await;
    }
    store.close().await.unwrap();
    place
}

#[tokio::test]
async fn whoever_asks_for_anything_on_a_disk_that_fails_for_a_while_is_told_so() {
    let place = filled().await;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "io_errors::child_whose_disk_fails_for_a_while", "--nocapture"])
        .env("LD_PRELOAD", shim(place.directory.path()))
        .env(FLAG, place.directory.path().join("fails"))
        .env(CHILD, &place.path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("all is told"), "{text}\n{errors}");
}

fn shim(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("shim.c"), directory.join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    library
}

/// How often something was told, and what was acknowledged, while so many of a thousand reads of a child
/// failed.
fn with_failing_reads(place: &Place, child: &str, per_thousand: u32) -> (Vec<String>, usize) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("io_errors::{child}"), "--nocapture"])
        .env("LD_PRELOAD", shim(place.directory.path()))
        .env("TAILFOLD_TEST_EIO", per_thousand.to_string())
        .env(CHILD, &place.path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let kinds = ["unavailable ", "CORRUPT ", "OTHER "];
    let told = text.lines().filter(|line| kinds.iter().any(|kind| line.starts_with(kind)));
    let acknowledged = text.lines().find_map(|line| line.strip_prefix("acknowledged ")).unwrap();
    (told.map(ToOwned::to_owned).collect(), acknowledged.parse().unwrap())
}

#[tokio::test]
async fn reads_that_fail_are_told_as_what_the_system_said_and_never_as_damage() {
    for per_thousand in [2, 50, 200, 1000] {
        let place = filled().await;
        let (told, acknowledged) = with_failing_reads(&place, "child_whose_reads_fail", per_thousand);
        let wrong: Vec<_> = told.iter().filter(|line| !line.starts_with("unavailable ")).collect();
        assert!(wrong.is_empty(), "{per_thousand}: {} of {}: {:?}", wrong.len(), told.len(), wrong.first());
        match per_thousand {
            2 => assert!(acknowledged > 100, "{per_thousand}: {acknowledged} acknowledged, {told:?}"),
            50 => assert!(acknowledged > 0, "{per_thousand}: {told:?}"),
            1000 => assert!(acknowledged == 0 && told.len() == 20, "{told:?}"),
            _ => assert!(!told.is_empty()),
        }
        // The next process reads everything.
        let store = place.open().await;
        store.check().await.unwrap();
        let log = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
        let most = STREAMS * 100 + acknowledged;
        assert!(log.len() >= most, "{} events, {most} acknowledged", log.len());
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "a")]
enum Happened {
    #[event(name = "test.happened")]
    Happened { number: i64 },
}

const HANDLED: i64 = 30;

/// Reads a table that the cache does not hold, and writes.
fn handle(transaction: &Transaction<'_>, delivery: &Delivery<Happened>) -> Result<(), BoxError> {
    let Some(Happened::Happened { number }) = delivery.event() else { return Ok(()) };
    transaction.pragma_update(None, "cache_size", 10)?;
    let _: i64 = transaction.query_row("SELECT sum(length(text)) FROM large", [], |row| row.get(0))?;
    transaction.execute("INSERT INTO seen VALUES (?1)", [number])?;
    Ok(())
}

/// Runs only as the child of the test below, with reads that fail.
#[tokio::test(flavor = "multi_thread")]
async fn child_whose_reads_of_a_read_model_fail() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = MemoryStore::new();
    let commit = Commit::new(stream("a/1"), Expected::NoStream, events(HANDLED as usize));
    let last = store.append(commit).await.unwrap().position;
    match SqliteReadModel::open(&path, handle) {
        Err(error) => note("open", error),
        Ok(model) => {
            // An event that is blamed for the disk would be parked at once.
            let retry = Retry { limit: 0, ..Retry::default() };
            let builder = Subscription::builder(store, "seen", model).batch(1).retry(retry);
            let subscription = builder.start().unwrap();
            let handled = async {
                tokio::select! {
                    handled = subscription.wait_for(last) => handled,
                    failed = subscription.failed() => Err(failed),
                }
            };
            if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), handled).await {
                note("handle", error);
            }
        }
    }
    for _ in 0..10 {
        for error in [checkpoints(&path).map(drop), parked_events(&path, "seen").map(drop)]
            .into_iter()
            .filter_map(Result::err)
        {
            note("list", error);
        }
    }
    println!("acknowledged 0");
}

#[tokio::test]
async fn no_event_of_a_read_model_is_blamed_for_reads_that_fail() {
    for per_thousand in [1, 20, 1000] {
        let place = Place::new();
        let model = SqliteReadModel::open(&place.path, handle).unwrap();
        model
            .prepare("CREATE TABLE large (text TEXT); CREATE TABLE seen (number INTEGER PRIMARY KEY)")
            .unwrap();
        drop(model);
        let filling = Connection::open(&place.path).unwrap();
        let fill = "WITH RECURSIVE rows (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM rows WHERE n < 100)
                    INSERT INTO large SELECT hex(randomblob(1500)) FROM rows";
        filling.execute_batch(fill).unwrap();
        drop(filling);
        let child = "child_whose_reads_of_a_read_model_fail";
        let (told, _) = with_failing_reads(&place, child, per_thousand);
        let wrong: Vec<_> = told.iter().filter(|line| !line.starts_with("unavailable ")).collect();
        assert!(wrong.is_empty(), "{per_thousand}: {} of {}: {:?}", wrong.len(), told.len(), wrong.first());
        assert_eq!(told.len() == 21, per_thousand == 1000, "{told:?}");
        assert_eq!(parked_events(&place.path, "seen").unwrap(), [], "{per_thousand}");
        let sound = Connection::open(&place.path).unwrap();
        let seen = "SELECT count(*), coalesce(max(number), -1) FROM seen";
        let (count, max): (i64, i64) = sound.query_row(seen, [], |row| row.try_into()).unwrap();
        assert_eq!(count, max + 1, "each once, and none passed over");
        match per_thousand {
            1 => assert!(count > 0),
            1000 => assert_eq!(count, 0),
            _ => {}
        }
    }
}
