//! A disk that does not always read. SQLite says "malformed" of it; the file is sound.

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tailfold::{
    Commit, ErrorKind, EventStore as _, EventStoreExt as _, Expected, Filter, Position, VersionRange,
};

use crate::support::*;

/// Fails reads of files whose name tells that they are the test's, so many of a thousand, once they are asked to.
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
    char *rate = getenv("TAILFOLD_TEST_EIO");
    if (!rate) return 0;
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length <= 0) return 0;
    name[length] = 0;
    if (!strstr(name, "test.tailfold") || strstr(name, "-shm")) return 0;
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

/// Runs only as the child of the tests below, with reads that fail.
#[tokio::test(flavor = "multi_thread")]
async fn child_whose_reads_fail() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let note = |what: &str, error: tailfold::Error| {
        let kind = match error.kind() {
            ErrorKind::Corrupt => "CORRUPT",
            ErrorKind::Unavailable(_) if error.to_string().contains("Input/output error") => "unavailable",
            _ => "OTHER",
        };
        println!("{kind} {what}: {error}");
    };
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

fn shim(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("shim.c"), directory.join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    library
}

/// How often something was told, and what was acknowledged, while so many of a thousand reads failed.
fn with_failing_reads(place: &Place, per_thousand: u32) -> (Vec<String>, usize) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "io_errors::child_whose_reads_fail", "--nocapture"])
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
        let place = Place::new();
        let store = place.open().await;
        for number in 0..STREAMS {
            let payloads = (0..100).map(|_| event(&"x".repeat(500))).collect();
            append(&store, &format!("a/{number}"), Expected::NoStream, payloads).await;
        }
        store.close().await.unwrap();
        let (told, acknowledged) = with_failing_reads(&place, per_thousand);
        let wrong: Vec<_> = told.iter().filter(|line| !line.starts_with("unavailable ")).collect();
        assert!(wrong.is_empty(), "{per_thousand}: {} of {}: {:?}", wrong.len(), told.len(), wrong.first());
        match per_thousand {
            2 | 50 => assert!(acknowledged > 100, "{per_thousand}: {acknowledged} acknowledged, {told:?}"),
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
