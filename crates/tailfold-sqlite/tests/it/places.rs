//! Files where they should not be: left over, linked, replaced, empty, copied by half, or where nobody may write.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use rusqlite::Transaction;
use serde::{Deserialize, Serialize};
use tailfold::{
    Batch, BoxError, Checkpoint, Claim, Commit, Delivery, ErrorKind, Event, EventId, EventStore as _,
    EventStoreExt as _, Expected, Filter, Follow, HandleError, Position, ReadModel, StoreId, VersionRange,
};
use tailfold_sqlite::{SqliteConfig, SqliteReadModel, SqliteStore, checkpoints, drop_parked, parked_events};

use crate::support::*;

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "a")]
enum Happened {
    Happened {},
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies files as another process does: this one must not open and close what SQLite has locked.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// A store with its log beside it, as a process leaves them that is killed.
async fn killed(count: usize) -> Place {
    let (running, killed) = (Place::new(), Place::new());
    let store = running.open().await;
    append(&store, "a/1", Expected::NoStream, events(count)).await;
    for suffix in ["", "-wal", "-shm"] {
        copy(&beside(&running.path, suffix), &beside(&killed.path, suffix));
    }
    killed
}

#[tokio::test]
async fn nothing_is_made_where_another_file_has_left_its_log() {
    let backup = Place::new();
    let source = backup.open().await;
    append(&source, "a/1", Expected::NoStream, events(10)).await;
    for suffix in ["-wal", "-shm", "-journal"] {
        let place = killed(5).await;
        let left = beside(&place.path, suffix);
        for other in ["", "-wal", "-shm"] {
            if other != suffix {
                std::fs::remove_file(beside(&place.path, other)).unwrap();
            }
        }
        if suffix == "-journal" {
            std::fs::write(&left, "what a transaction was to be rolled back by").unwrap();
        }
        let before = std::fs::read(&left).unwrap();
        for error in [
            SqliteStore::restore(&backup.path, &place.path).await.unwrap_err(),
            source.backup_to(&place.path).await.unwrap_err(),
            SqliteStore::open(&place.path).await.unwrap_err(),
        ] {
            assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains(&format!("`{}`", left.display())), "{error}");
        }
        assert!(!place.path.exists());
        assert_eq!(std::fs::read(&left).unwrap(), before, "it is left as it was");
        std::fs::remove_file(&left).unwrap();
        SqliteStore::restore(&backup.path, &place.path).await.unwrap();
        assert_eq!(read(&place.open().await, "a/1").await.len(), 10);
    }
}

const NAMES_CHILD: &str = "TAILFOLD_TEST_NAMES_CHILD";

/// Runs only as the child of the test below, in a directory of its own.
#[tokio::test]
async fn child_that_uses_names_that_are_urls_elsewhere() {
    if std::env::var(NAMES_CHILD).is_err() {
        return;
    }
    let store = SqliteStore::open("file:a.db?mode=memory").await.unwrap();
    append(&store, "a/1", Expected::NoStream, events(3)).await;
    store.backup_to("file:bk.db").await.unwrap();
    SqliteStore::restore("file:bk.db", ":memory:").await.unwrap();
    let restored = SqliteStore::open(":memory:").await.unwrap();
    assert_eq!(read(&restored, "a/1").await.len(), 3);
    let handler = |_: &Transaction<'_>, _: &Delivery<Happened>| Ok::<(), BoxError>(());
    drop(SqliteReadModel::open("file:model.db", handler).unwrap());
    assert!(checkpoints("file:model.db").unwrap().is_empty());
    let empty = SqliteStore::open("").await.unwrap_err();
    assert!(empty.to_string().contains("the path is empty"), "{empty}");
    // Connections that are opened later mean the same file.
    std::env::set_current_dir(std::env::temp_dir()).unwrap();
    assert_eq!(read(&store, "a/1").await.len(), 3);
    store.close().await.unwrap();
}

#[test]
fn every_path_is_a_files_name() {
    let place = Place::new();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "places::child_that_uses_names_that_are_urls_elsewhere", "--nocapture"])
        .env(NAMES_CHILD, "1")
        .current_dir(place.directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["file:a.db?mode=memory", "file:bk.db", ":memory:", "file:model.db"] {
        let bytes = std::fs::metadata(place.directory.path().join(name)).unwrap().len();
        assert!(bytes > 4096, "{name} has {bytes} bytes");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_with_two_names_is_refused() {
    let place = Place::new();
    place.open().await.close().await.unwrap();
    let other = place.directory.path().join("other.tailfold");
    std::fs::hard_link(&place.path, &other).unwrap();
    for config in [place.config(), SqliteConfig::new(&other), SqliteConfig::new(&other).read_only(true)] {
        let error = config.open().await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("2 names (hard links)"), "{error}");
    }
    assert!(place.config().open().await.unwrap_err().to_string().contains("other.tailfold`"), "it is named");
    std::fs::remove_file(&other).unwrap();
    // A symbolic link is another matter: the log is found by the file itself.
    std::os::unix::fs::symlink(&place.path, &other).unwrap();
    let store = SqliteStore::open(&other).await.unwrap();
    append(&store, "a/1", Expected::NoStream, events(1)).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    append(&place.open().await, "a/1", Expected::Any, events(1)).await;
    append(&store, "a/1", Expected::Any, events(1)).await;
    assert_eq!(read(&store, "a/1").await.len(), 3);
}

/// Fails unless appends are refused soon. What is acknowledged meanwhile is counted.
async fn appends_before_it_is_noticed(store: &SqliteStore) -> usize {
    let begun = Instant::now();
    for appended in 0.. {
        match store.append(Commit::new(stream("a/1"), Expected::Any, events(1))).await {
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
                assert!(error.to_string().contains("was removed or replaced"), "{error}");
                return appended;
            }
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(20), "nobody notices"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("the loop returns")
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_taken_away_is_noticed_before_anything_is_acknowledged() {
    for replaced in [false, true] {
        let place = Place::new();
        let store = place.open().await;
        append(&store, "a/1", Expected::NoStream, events(1)).await;
        let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
        assert_eq!(live.try_next().await.unwrap().unwrap().events.len(), 1);
        let away = place.directory.path().join("away");
        for suffix in ["", "-wal", "-shm"] {
            std::fs::rename(beside(&place.path, suffix), beside(&away, suffix)).unwrap();
        }
        if replaced {
            let other = place.open().await;
            append(&other, "a/1", Expected::NoStream, events(7)).await;
        }
        assert_eq!(appends_before_it_is_noticed(&store).await, 0, "nothing is acknowledged into nothing");
        // Reads are refused as well: new connections would be to another file.
        let error = store.read_to_vec(&stream("a/1"), VersionRange::ALL).await.unwrap_err();
        assert!(error.to_string().contains("was removed or replaced"), "{error}");
        let told = tokio::time::timeout(Duration::from_secs(10), live.try_next()).await;
        assert!(told.expect("a live reader is told").is_err());
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_taken_away_or_replaced_is_noticed() {
    for (suffix, replaced) in [("-wal", false), ("-wal", true), ("-shm", false), ("-shm", true)] {
        let place = Place::new();
        let store = place.open().await;
        append(&store, "a/1", Expected::NoStream, events(1)).await;
        let log = beside(&place.path, suffix);
        if replaced {
            // As another process makes one that opens the store then.
            let other = beside(&place.path, "-other");
            std::fs::write(&other, "").unwrap();
            std::fs::rename(&other, &log).unwrap();
        } else {
            std::fs::remove_file(&log).unwrap();
        }
        appends_before_it_is_noticed(&store).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_read_that_needs_a_connection_to_a_file_that_was_taken_away_is_told_so() {
    let place = Place::new();
    let store = place.open().await;
    // No connection for reading is open yet.
    std::fs::rename(&place.path, place.directory.path().join("away")).unwrap();
    let error = store.read_to_vec(&stream("a/1"), VersionRange::ALL).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("was removed or replaced"), "{error}");
}

/// A file system that is away for a moment, for one.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_cannot_be_looked_at_for_a_moment_is_not_taken_for_gone() {
    let place = Place::new();
    let inside = |name: &str| place.directory.path().join(name);
    let lead = |to: &Path| {
        std::os::unix::fs::symlink(to, inside("next")).unwrap();
        std::fs::rename(inside("next"), inside("link")).unwrap();
    };
    std::fs::create_dir(inside("here")).unwrap();
    lead(&inside("here"));
    let store = SqliteStore::open(inside("link").join("test.tailfold")).await.unwrap();
    append(&store, "a/1", Expected::NoStream, events(1)).await;
    lead(&inside("link"));
    let commit = Commit::new(stream("a/1"), Expected::Any, events(1));
    let error = store.append(commit.clone()).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    assert!(error.to_string().contains("cannot tell whether"), "{error}");
    lead(&inside("here"));
    store.append(commit).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_copy_that_is_just_being_given_its_name_can_be_opened() {
    let place = Place::new();
    place.open().await.close().await.unwrap();
    let partial = beside(&place.path, ".part");
    std::fs::hard_link(&place.path, &partial).unwrap();
    let published = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        std::fs::remove_file(partial).unwrap();
    });
    place.open().await;
    published.join().unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_made_through_a_link_where_another_file_has_left_its_log() {
    let place = killed(5).await;
    std::fs::remove_file(&place.path).unwrap();
    let [first, second] = ["first", "second"].map(|name| place.directory.path().join(name));
    std::os::unix::fs::symlink("second", &first).unwrap();
    std::os::unix::fs::symlink(&place.path, &second).unwrap();
    let log = beside(&place.path, "-wal");
    let before = std::fs::read(&log).unwrap();
    let error = SqliteStore::open(&first).await.unwrap_err();
    assert!(error.to_string().contains(&format!("`{}`", log.display())), "{error}");
    assert_eq!(std::fs::read(&log).unwrap(), before, "it is left as it was");
}

fn model(path: &Path) -> tailfold::Result<impl ReadModel<Event = Happened> + use<>> {
    SqliteReadModel::open(path, |_: &Transaction<'_>, _: &Delivery<Happened>| Ok::<(), BoxError>(()))
}

#[cfg(unix)]
#[test]
fn a_read_model_with_two_names_is_refused() {
    let place = Place::new();
    drop(model(&place.path).unwrap());
    let other = place.directory.path().join("other");
    std::fs::hard_link(&place.path, &other).unwrap();
    for error in [
        model(&place.path).err().unwrap(),
        model(&other).err().unwrap(),
        checkpoints(&other).unwrap_err(),
        parked_events(&other, "seen").unwrap_err(),
        drop_parked(&other, "seen", None).unwrap_err(),
    ] {
        assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("2 names (hard links)"), "{error}");
    }
    std::fs::remove_file(&other).unwrap();
    drop(model(&place.path).unwrap());
    // Nor is one made of what another file has left.
    std::fs::write(beside(&other, "-wal"), "of another one").unwrap();
    let error = model(&other).err().unwrap();
    assert!(error.to_string().contains("is left of another file"), "{error}");
    std::fs::write(&other, "no database, however long it may be").unwrap();
    let error = model(&other).err().unwrap();
    assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_read_model_that_is_taken_away_is_noticed_before_anything_counts_as_handled() {
    for (taken, replaced) in
        [(&["", "-wal", "-shm"][..], false), (&["", "-wal", "-shm"], true), (&["-wal"], false)]
    {
        for claims in [false, true] {
            let place = Place::new();
            let mut running = model(&place.path).unwrap();
            let claim =
                Claim { name: "seen".into(), owner: EventId::fresh(), lease: Duration::from_secs(30) };
            running.claim(&claim).await.unwrap();
            for suffix in taken {
                let away = place.directory.path().join("away");
                std::fs::rename(beside(&place.path, suffix), beside(&away, suffix)).unwrap();
            }
            let other = replaced.then(|| model(&place.path).unwrap());
            let noticed = if claims {
                running.claim(&claim).await.unwrap_err()
            } else {
                let store = StoreId::from_uuid(*EventId::fresh().as_uuid());
                let after = Checkpoint { store, position: Position(1), last: None };
                let batch =
                    Batch { before: None, deliveries: &[], parked: None, unparked: None, after: &after };
                match running.handle(&claim, batch).await.unwrap_err() {
                    HandleError::Store(error) => error,
                    other => panic!("{other}"),
                }
            };
            assert!(matches!(noticed.kind(), ErrorKind::Unavailable(_)), "{noticed}");
            assert!(noticed.to_string().contains("was removed or replaced"), "{noticed}");
            running.parked("seen").await.unwrap_err();
            if other.is_some() {
                assert_eq!(checkpoints(&place.path).unwrap(), []);
            }
        }
    }
}

#[tokio::test]
async fn an_empty_file_becomes_a_store_only_where_one_may_be_created() {
    let place = Place::new();
    std::fs::write(&place.path, "").unwrap();
    for config in [place.config().create_if_missing(false), place.config().read_only(true)] {
        let error = config.open().await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().ends_with("the file is empty: there is no store in it"), "{error}");
        assert_eq!(std::fs::metadata(&place.path).unwrap().len(), 0);
    }
    append(&place.open().await, "a/1", Expected::NoStream, events(1)).await;
}

#[tokio::test]
async fn a_copy_of_the_file_alone_is_the_same_store_from_the_beginning() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(1)).await;
    let young = Place::new();
    copy(&place.path, &young.path);
    let opened = young.open().await;
    assert_eq!(opened.store_id().await.unwrap(), store.store_id().await.unwrap());
}

/// Releases before made the store in the log, so that a copy of the file alone held nothing.
#[tokio::test]
async fn a_copy_without_the_log_that_held_everything_is_no_empty_store() {
    let place = Place::new();
    place.sqlite().query_row("PRAGMA journal_mode = wal", [], |_| Ok(())).unwrap();
    assert!(std::fs::metadata(&place.path).unwrap().len() > 0);
    let error = place.config().open().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("copied without the `-wal`"), "{error}");
}

/// Closing, and dropping what is over it last, leave everything in the one file.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_closed_or_dropped_is_one_file() {
    for dropped in [false, true] {
        let place = Place::new();
        let store = place.open().await;
        let clone = store.clone();
        append(&store, "a/1", Expected::NoStream, (0..500).map(|_| event(&"x".repeat(5000))).collect()).await;
        let mut unfinished = store.read_all(Position::ZERO, Filter::all(), Follow::ToEnd);
        assert!(unfinished.try_next().await.unwrap().is_some());
        drop(unfinished);
        if dropped {
            drop(store);
            drop(clone);
        } else {
            clone.close().await.unwrap();
        }
        for suffix in ["-wal", "-shm"] {
            assert!(!beside(&place.path, suffix).exists(), "{suffix} is left, dropped: {dropped}");
        }
        let copied = Place::new();
        copy(&place.path, &copied.path);
        assert_eq!(read(&copied.open().await, "a/1").await.len(), 500);
    }
}

const READING_CHILD: &str = "TAILFOLD_TEST_READING_CHILD";

/// Runs only as the child of the test below.
#[tokio::test]
async fn child_that_reads_where_it_may_not_write() {
    let Ok(path) = std::env::var(READING_CHILD) else { return };
    let read = async {
        let store = SqliteConfig::new(&path).read_only(true).open().await?;
        let events = store.read_to_vec(&stream("a/1"), VersionRange::ALL).await?;
        let log = store.read_all_to_vec(Position::ZERO, Filter::all()).await?;
        let streams = store.streams_to_vec(Filter::all()).await?;
        assert_eq!((log.len(), streams.len()), (events.len(), 1));
        store.check().await?;
        let copy = std::env::temp_dir().join(format!("tailfold-{}", tailfold::EventId::fresh()));
        store.backup_to(&copy).await?;
        std::fs::remove_file(&copy).unwrap();
        store.close().await?;
        Ok::<_, tailfold::Error>(events.len())
    };
    match read.await {
        Ok(events) => println!("read {events}"),
        Err(error) => println!("refused {:?} {error}", error.kind()),
    }
}

const LIVE_CHILD: &str = "TAILFOLD_TEST_LIVE_CHILD";

/// Runs only as the child of the test below.
#[tokio::test]
async fn child_that_reads_live_where_it_may_not_write() {
    let Ok(path) = std::env::var(LIVE_CHILD) else { return };
    let store = SqliteConfig::new(&path).read_only(true).open().await.unwrap();
    let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    println!("read {}", live.try_next().await.unwrap().unwrap().events.len());
    let more = tokio::time::timeout(Duration::from_secs(20), live.try_next()).await;
    println!("then {}", if more.is_ok() { "woken" } else { "silence" });
}

/// What runs a test of this program as a user who may write nothing.
#[cfg(unix)]
fn as_nobody(test: &str) -> (Command, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    // The superuser may write everything, so the child becomes nobody, in a copy of this program that nobody can read.
    let program = std::env::temp_dir().join(format!("tailfold-{}", tailfold::EventId::fresh()));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.args(["--exact", test, "--nocapture"]);
    if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
        command.uid(65534).gid(65534);
    }
    (command, program)
}

#[cfg(unix)]
fn read_as_nobody(path: &Path) -> String {
    let (mut command, program) = as_nobody("places::child_that_reads_where_it_may_not_write");
    let output = command.env(READING_CHILD, path).output().unwrap();
    std::fs::remove_file(&program).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What others write is no part of what is read as it is, but nobody waits for it in silence.
#[cfg(unix)]
#[tokio::test]
async fn a_live_reader_that_may_not_write_is_told_when_others_write() {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::fs::PermissionsExt as _;

    let place = killed(5).await;
    place.open().await.close().await.unwrap();
    let mode = |mode| {
        std::fs::set_permissions(place.directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o555);
    let (mut command, program) = as_nobody("places::child_that_reads_live_where_it_may_not_write");
    let mut child =
        command.env(LIVE_CHILD, &place.path).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(output.any(|line| line.contains("read 5")));
    mode(0o755);
    let store = place.open().await;
    append(&store, "a/1", Expected::Any, events(1)).await;
    store.close().await.unwrap();
    let then = output.find(|line| line.contains("then"));
    child.wait().unwrap();
    std::fs::remove_file(&program).unwrap();
    assert!(then.is_some_and(|line| line.contains("woken")), "it waits in silence");
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_is_read_where_nothing_may_be_written() {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (left, of_directory, expected) in [
        // Closed, and killed: with all that lay beside it, and with the log alone.
        (&[""][..], 0o555, "read 5"),
        (&["", "-wal", "-shm"][..], 0o555, "read 5"),
        (&["", "-wal"][..], 0o555, "refused Invalid"),
        // A file that its user may only read, in a directory that they may write to.
        (&[""][..], 0o777, "read 5"),
        (&["", "-wal"][..], 0o777, "read 5"),
        // In the middle of a transaction that has to be rolled back.
        (&["", "-journal"][..], 0o555, "refused Invalid"),
    ] {
        let place = killed(5).await;
        if !left.contains(&"-wal") {
            place.open().await.close().await.unwrap();
        }
        if left.contains(&"-journal") {
            std::fs::write(beside(&place.path, "-journal"), "what it is rolled back by").unwrap();
        }
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let path = beside(&place.path, suffix);
            if left.contains(&suffix) {
                mode(&path, 0o444);
            } else if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
        mode(place.directory.path(), of_directory);
        // The path may begin with two slashes.
        let slashes = PathBuf::from(format!("/{}", place.path.display()));
        let outputs = [&place.path, &slashes].map(|path| read_as_nobody(path));
        mode(place.directory.path(), 0o755);
        for output in outputs {
            assert!(output.contains(expected), "{left:?} in {of_directory:o}: {output}");
            let (named, helps) = match left {
                _ if !expected.starts_with("refused") => continue,
                [_, "-journal"] => ("-journal` is of a transaction", "copy both"),
                _ => ("-wal` holds", "copy the file with its `-wal`"),
            };
            assert!(output.contains(named) && output.contains(helps), "{output}");
        }
        if left.contains(&"-journal") {
            std::fs::remove_file(beside(&place.path, "-journal")).unwrap();
            mode(&place.path, 0o644);
            continue;
        }
        // The owner opens it afterwards.
        for suffix in left {
            mode(&beside(&place.path, suffix), 0o644);
        }
        assert_eq!(read(&place.open().await, "a/1").await.len(), 5);
    }
}
