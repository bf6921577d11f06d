use std::process::Command;

use tailfold::{
    Commit, ErrorKind, EventStore as _, EventStoreExt as _, Expected, Outcome, Position, SnapshotStore as _,
};
use tailfold_sqlite::{SqliteConfig, SqliteStore};

use crate::support::*;

async fn refusal(config: SqliteConfig) -> (ErrorKind, String) {
    let error = config.open().await.unwrap_err();
    (error.kind().clone(), error.to_string())
}

#[tokio::test]
async fn a_file_that_is_not_a_store_is_refused_and_left_as_it_is() {
    let place = Place::new();
    std::fs::write(&place.path, "year,month,day\n2013,1,1\n".repeat(100)).unwrap();
    let before = std::fs::read(&place.path).unwrap();
    let (kind, text) = refusal(place.config()).await;
    assert_eq!(kind, ErrorKind::Invalid);
    let path = place.path.display();
    assert!(text.starts_with(&format!("open store `{path}`: the file is not a tailfold store")), "{text}");
    assert_eq!(std::fs::read(&place.path).unwrap(), before);
}

#[tokio::test]
async fn somebody_elses_database_is_refused_and_left_as_it_is() {
    let place = Place::new();
    place
        .sqlite()
        .execute_batch("CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('ada');")
        .unwrap();
    let before = std::fs::read(&place.path).unwrap();
    let (kind, text) = refusal(place.config()).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(text.ends_with("the file is an SQLite database, but not a tailfold store"), "{text}");
    assert_eq!(std::fs::read(&place.path).unwrap(), before);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_by_name() {
    let place = Place::new();
    place.open().await.close().await.unwrap();
    place.sqlite().execute_batch("PRAGMA user_version = 7").unwrap();
    let (kind, text) = refusal(place.config()).await;
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("format version 7") && text.contains("up to 2"), "{text}");
}

#[tokio::test]
async fn a_missing_file_a_directory_and_a_missing_directory_are_refused() {
    let place = Place::new();
    for config in [place.config().create_if_missing(false), place.config().read_only(true)] {
        let (kind, text) = refusal(config).await;
        assert!(kind == ErrorKind::Invalid && text.ends_with("there is no such file"), "{text}");
        assert!(!place.path.exists());
    }
    let (kind, text) = refusal(SqliteConfig::new(place.directory.path())).await;
    assert!(kind == ErrorKind::Invalid && text.ends_with("is a directory"), "{text}");
    let (kind, _) = refusal(SqliteConfig::new(place.directory.path().join("no/such/store"))).await;
    assert_eq!(kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_store_that_is_open_for_reading_reads_and_refuses_to_write() {
    let place = Place::new();
    let writing = place.open().await;
    append(&writing, "a/1", Expected::NoStream, events(2)).await;
    let store = place.config().read_only(true).open().await.unwrap();
    assert_eq!(read(&store, "a/1").await.len(), 2);
    append(&writing, "a/1", Expected::Any, events(1)).await;
    assert_eq!(read(&store, "a/1").await.len(), 3);
    let error = store.append(Commit::new(stream("a/1"), Expected::Any, events(1))).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(store.save(&slot("f", "k"), save(head(1, 1), "s")).await.is_err());
    store.close().await.unwrap();
    assert_eq!(read(&writing, "a/1").await.len(), 3);

    writing.close().await.unwrap();
    let alone = place.config().read_only(true).open().await.unwrap();
    assert_eq!(read(&alone, "a/1").await.len(), 3);
    alone.check().await.unwrap();
    let copy = place.directory.path().join("copy");
    alone.backup_to(&copy).await.unwrap();
    SqliteStore::restore(&place.path, place.directory.path().join("restored")).await.unwrap();
    let copy = SqliteConfig::new(copy).read_only(true).open().await.unwrap();
    assert_eq!(read(&copy, "a/1").await.len(), 3);
}

const CHILD: &str = "TAILFOLD_TEST_PERMISSIONS_CHILD";

/// Runs only as the child of the test below.
#[tokio::test]
async fn child_that_opens_what_it_may_not_write() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let error = SqliteStore::open(path).await.unwrap_err();
    println!("refused {:?} {error}", error.kind());
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_or_directory_without_write_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (of_file, of_directory, name) in
        [(0o444, 0o777, "test.tailfold"), (0o666, 0o555, "test.tailfold"), (0o666, 0o555, "new.tailfold")]
    {
        let place = Place::new();
        let store = place.open().await;
        append(&store, "a/1", Expected::Any, events(1)).await;
        store.close().await.unwrap();
        let directory = place.directory.path();
        let path = directory.join(name);
        mode(&place.path, of_file);
        mode(directory, of_directory);
        // The superuser may write everything, so the child becomes nobody, in a copy of this program that nobody can read.
        let program = std::env::temp_dir().join(format!("tailfold-{}", tailfold::EventId::fresh()));
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        mode(&program, 0o755);
        let mut command = Command::new(&program);
        command
            .args(["--exact", "files::child_that_opens_what_it_may_not_write", "--nocapture"])
            .env(CHILD, &path);
        if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            command.uid(65534).gid(65534);
        }
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        std::fs::remove_file(&program).unwrap();
        assert!(output.contains("refused Invalid"), "{of_file:o} {of_directory:o} {output}");
        assert!(output.contains(&format!("open store `{}`", path.display())), "{output}");
        mode(directory, 0o755);
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_append_loses_nothing_and_is_survived() {
    let place = Place::new();
    let store = place.config().page_limit(200).open().await.unwrap();
    let mut acknowledged = 0;
    let error = loop {
        let commit = Commit::new(stream("a/1"), Expected::Any, vec![event(&"x".repeat(20_000))]);
        match store.append(commit).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(acknowledged > 10);
    assert_eq!(*error.kind(), ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    assert!(error.to_string().starts_with("append to stream `a/1`: the disk is full"), "{error}");
    assert_eq!(read(&store, "a/1").await.len(), acknowledged);
    // A small one may still fit, and does not suffer from a large one of its group.
    let (large, small) = tokio::join!(
        store.append(Commit::new(stream("a/2"), Expected::Any, vec![event(&"x".repeat(100_000))])),
        store.append(Commit::new(stream("a/3"), Expected::Any, vec![event("small")])),
    );
    assert!(large.is_err());
    small.unwrap();
    store.close().await.unwrap();

    let store = place.open().await;
    assert_eq!(read(&store, "a/1").await.len(), acknowledged);
    append(&store, "a/2", Expected::NoStream, vec![event(&"x".repeat(100_000))]).await;
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_lock_that_is_kept_too_long_fails_the_append_as_not_done() {
    let place = Place::new();
    let store = place.config().busy_timeout(std::time::Duration::from_millis(50)).open().await.unwrap();
    let foreign = place.sqlite();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.append(Commit::new(stream("a/1"), Expected::Any, events(1))).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    assert!(error.to_string().contains("locked"), "{error}");
    foreign.execute_batch("ROLLBACK").unwrap();
    append(&store, "a/1", Expected::NoStream, events(1)).await;
}

#[tokio::test]
async fn a_backup_is_a_consistent_copy_and_a_restored_one_has_a_new_id() {
    let place = Place::new();
    let store = place.open().await;
    append(&store, "a/1", Expected::NoStream, events(100)).await;
    append(&store, "a/2", Expected::NoStream, vec![tagged("1", &["t"])]).await;
    let backup = place.directory.path().join("backup");
    let busy = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                store
                    .append(Commit::new(stream("b/1"), Expected::Any, events(1)).and(
                        stream("b/2"),
                        Expected::Any,
                        events(1),
                    ))
                    .await
                    .unwrap();
            }
        })
    };
    store.backup_to(&backup).await.unwrap();
    busy.await.unwrap();
    append(&store, "a/1", Expected::Any, events(1)).await;
    assert_eq!(*store.backup_to(&backup).await.unwrap_err().kind(), ErrorKind::Invalid);

    let target = place.directory.path().join("restored");
    SqliteStore::restore(&backup, &target).await.unwrap();
    let error = SqliteStore::restore(&backup, &target).await.unwrap_err();
    assert!(error.to_string().ends_with("exists already"), "{error}");
    let restored = SqliteStore::open(&target).await.unwrap();
    assert_ne!(restored.store_id().await.unwrap(), store.store_id().await.unwrap());
    assert_eq!(read(&restored, "a/1").await, read(&store, "a/1").await[..100]);
    let (b1, b2) = (read(&restored, "b/1").await, read(&restored, "b/2").await);
    assert_eq!(b1.len(), b2.len(), "no commit was copied by half");
    let tagged = tailfold::Filter::tag(tailfold::Tag::new("t").unwrap());
    assert_eq!(restored.read_all_to_vec(Position::ZERO, tagged).await.unwrap().len(), 1);
    append(&restored, "a/1", Expected::Any, events(1)).await;
    restored.check().await.unwrap();
    let left: Vec<_> =
        std::fs::read_dir(place.directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[tokio::test]
async fn a_backup_that_is_not_a_store_is_not_restored() {
    let place = Place::new();
    let target = place.directory.path().join("target");
    let missing = SqliteStore::restore(&place.path, &target).await.unwrap_err();
    assert_eq!(*missing.kind(), ErrorKind::Invalid, "{missing}");
    std::fs::write(&place.path, "nonsense".repeat(1000)).unwrap();
    let nonsense = SqliteStore::restore(&place.path, &target).await.unwrap_err();
    assert_eq!(*nonsense.kind(), ErrorKind::Invalid, "{nonsense}");
    assert!(!target.exists());
}

#[tokio::test]
async fn the_log_can_be_read_with_any_sqlite_tool() {
    let place = Place::new();
    let store = place.open().await;
    let mut data = tagged("{\"a\":1}", &["x"]).into_data();
    data.recorded_at = "2013-01-01T05:15:00.25Z".parse().unwrap();
    append(&store, "a/1", Expected::NoStream, vec![tailfold::NewEvent::new(data).unwrap()]).await;
    let row: (String, i64, String, String, String) = place
        .sqlite()
        .query_row("SELECT stream, version, recorded_at, payload, tags FROM event_log", [], |row| {
            row.try_into()
        })
        .unwrap();
    assert_eq!(
        row,
        ("a/1".into(), 1, "2013-01-01T05:15:00.250Z".into(), "{\"a\":1}".into(), "[\"x\"]".into())
    );
}
