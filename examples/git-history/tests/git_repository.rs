//! Real git repositories, small and awkward: the tree of every commit must be the one that git has.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::Value;
use support::{Repository, failure, git_history, summary};
use tailfold::EventId;
use tailfold_testkit::servers::{NatsVersion, RedisServer, nats_url, postgres_url};

/// Adds, changes, deletes, renames, modes, links, awkward names, a submodule, a merge, an empty commit.
fn awkward_history() -> Repository {
    let repository = Repository::new();
    let at = |path: &str| repository.path().join(path);
    let executable =
        |path: &str, mode| fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();

    repository.write("README", "one\n").write("src/main.rs", "fn main() {}\n").commit("begin");
    repository.write("README", "two\n").write("b\u{fc}cher/\u{1f980}.txt", "crab\n").commit("awkward names");
    repository
        .write("tab\there", "\n")
        .write("quote\"d", "\n")
        .write("with space", "\n")
        .commit("quoted names");
    executable("src/main.rs", 0o755);
    repository.commit("a mode");
    symlink("README", at("link")).unwrap();
    repository.commit("a link");
    repository.git(&["mv", "src/main.rs", "src/renamed.rs"]).commit("a rename");
    fs::remove_file(at("link")).unwrap();
    repository.write("link", "a file now\n").commit("a link becomes a file");
    fs::remove_file(at("README")).unwrap();
    repository.write("README/chapter", "a directory now\n").commit("a file becomes a directory");

    repository.git(&["checkout", "-q", "-b", "side"]);
    repository.write("side", "1\n").commit("on the side");
    repository.write("side", "2\n").write("with space", "changed\n").commit("on the side again");
    repository.git(&["checkout", "-q", "main"]).write("main", "1\n").commit("meanwhile");
    repository.git(&["merge", "-q", "--no-ff", "-m", "a merge", "side"]);

    repository.git(&["commit", "-q", "--allow-empty", "-m", "nothing"]);
    let gitlink = format!("160000,{},vendored", "5".repeat(40));
    repository.git(&["update-index", "--add", "--cacheinfo", &gitlink]).git(&[
        "commit",
        "-q",
        "-m",
        "a submodule",
    ]);
    repository
        .git(&["rm", "-q", "--cached", "vendored", "side", "tab\there"])
        .git(&["commit", "-q", "-m", "removals"]);
    repository
}

fn commits(repository: &Repository) -> u64 {
    repository.output(&["rev-list", "--first-parent", "--count", "HEAD"]).trim().parse().unwrap()
}

/// The digest, from `git ls-tree` alone.
fn digest_by_git(repository: &Repository, commit: u64) -> (usize, String) {
    let names = repository.output(&["rev-list", "--first-parent", "--reverse", "HEAD"]);
    let name = names.lines().nth(usize::try_from(commit).unwrap() - 1).unwrap();
    support::digest_of_ls_tree(&repository.output(&["ls-tree", "-r", name]))
}

fn check(repository: &Repository, commit: u64, policy: &str, source: &str, replayed: u64) {
    let at = commit.to_string();
    let summary = summary(&["--repo", repository.text(), "--at", &at, "--policy", policy]);
    let (files, digest) = digest_by_git(repository, commit);
    let expected = serde_json::json!({
        "commit": commit, "files": files, "digest": digest, "replayed_events": replayed, "source": source,
    });
    assert_eq!(summary, expected, "commit {commit} with policy {policy}");
}

#[test]
fn the_tree_of_every_commit_is_the_one_that_git_has() {
    let repository = awkward_history();
    assert_eq!(commits(&repository), 13);
    for commit in 1..=13 {
        check(&repository, commit, "never", "replay", commit);
        // The background writer may leave a snapshot out where the next one follows at once, but never the last.
        let source = if commit < 4 { "replay" } else { "snapshot" };
        check(&repository, commit, "every:4", source, commit % 4);
    }
}

#[test]
fn a_configuration_of_git_changes_nothing() {
    let repository = awkward_history();
    let usual = summary(&["--repo", repository.text()]);
    for setting in [
        ["core.quotePath", "false"],
        ["diff.renames", "copies"],
        ["log.diffMerges", "combined"],
        ["log.showRoot", "false"],
        ["log.showSignature", "true"],
        ["log.decorate", "full"],
        ["diff.noprefix", "true"],
        ["diff.relative", "true"],
        ["diff.ignoreSubmodules", "all"],
        ["color.ui", "always"],
        ["core.abbrev", "8"],
    ] {
        repository.git(&["config", setting[0], setting[1]]);
        assert_eq!(summary(&["--repo", repository.text()]), usual, "{setting:?}");
    }
}

#[test]
fn a_subdirectory_stands_for_its_repository() {
    let repository = awkward_history();
    let directory = repository.path().join("src");
    let output = git_history(&["--json"]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let inside: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(inside, summary(&["--repo", repository.text()]));
}

#[test]
fn a_shallow_clone_begins_with_a_whole_tree() {
    let repository = awkward_history();
    let clone = tempfile::tempdir().unwrap();
    let (url, target) = (format!("file://{}", repository.text()), clone.path().to_str().unwrap());
    repository.git(&["clone", "-q", "--depth", "3", &url, target]);
    let whole = summary(&["--repo", repository.text()]);
    let shallow = summary(&["--repo", target]);
    assert_eq!((&shallow["commit"], &whole["commit"]), (&3.into(), &13.into()));
    assert_eq!(shallow["digest"], whole["digest"]);
}

#[test]
fn names_of_32_bytes_are_read_too() {
    let repository = Repository::with_format("sha256");
    repository.write("a", "1\n").commit("one").write("b", "2\n").commit("two");
    check(&repository, 2, "every:1", "snapshot", 0);
}

/// The URL of a new store on a server that others use too.
fn store_on_nats() -> String {
    let (_, own) = EventId::fresh().as_uuid().as_u64_pair();
    format!("{}/history-{own:016x}", nats_url(NatsVersion::V2_15_1))
}

#[test]
fn a_url_that_is_wrong_or_leads_nowhere_is_said_without_its_password() {
    let repository = Repository::new();
    repository.write("a", "1\n").commit("one");
    for (store, reason) in [
        (
            "nats://ada:geheim@127.0.0.1:1/history",
            "connect to nats://127.0.0.1:1/history: no server lets us in",
        ),
        ("nats://ada:geheim@h?color=red", "no setting `color`"),
        ("postgres://ada:geheim@h?color=red", "color"),
    ] {
        let error = failure(&["--repo", repository.text(), "--store", store]);
        assert!(error.contains(reason) && !error.contains("geheim"), "{error}");
    }
    for (tier, reason) in [
        ("redis://ada:geheim@h?color=red", "no setting `color`"),
        ("cache://ada:geheim@h", "its scheme is neither"),
    ] {
        let error = failure(&["--repo", repository.text(), "--snapshots", tier]);
        assert!(error.contains(reason) && !error.contains("geheim"), "{error}");
    }
}

#[test]
fn a_store_is_fed_on_where_it_ends_and_can_be_asked_for_any_commit() {
    let directory = tempfile::tempdir().unwrap();
    fed_on(directory.path().join("history.tailfold").to_str().unwrap());
}

#[test]
fn a_store_on_nats_is_fed_on_where_it_ends_and_can_be_asked_for_any_commit() {
    fed_on(&store_on_nats());
}

#[test]
fn a_store_on_postgres_is_fed_on_where_it_ends_and_can_be_asked_for_any_commit() {
    let (_, own) = EventId::fresh().as_uuid().as_u64_pair();
    fed_on(&format!("{}?schema=history_{own:016x}", postgres_url()));
}

#[test]
fn snapshots_on_redis_are_asked_for_first_and_are_no_loss_when_they_are_gone() {
    let repository = awkward_history();
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("history.tailfold");
    let mut redis = RedisServer::start().unwrap();
    let tier = redis.url();
    let run = |at: &str| {
        let places = ["--store", store.to_str().unwrap(), "--snapshots", &tier];
        summary(&[&["--repo", repository.text(), "--at", at, "--policy", "every:4"], &places[..]].concat())
    };
    let served = |at: &str| {
        let summary = run(at);
        assert_eq!(summary["digest"], digest_by_git(&repository, at.parse().unwrap()).1.as_str());
        summary["tier"].as_str().map(str::to_owned)
    };
    assert_eq!(served("9").as_deref(), Some("redis"));
    redis.kill().unwrap();
    assert_eq!(served("9").as_deref(), Some("own"));
    redis.start_again().unwrap();
    served("13");
    assert_eq!(served("13").as_deref(), Some("redis"));
    // A temporary store leaves nothing behind that the next one could stumble over.
    let forgetful = ["--repo", repository.text(), "--policy", "every:4", "--snapshots", &tier];
    for _ in 0..2 {
        assert_eq!(summary(&forgetful)["tier"], "redis");
    }
}

fn fed_on(store: &str) {
    let repository = awkward_history();
    for (commit, replayed, source) in
        [(5, 1, "snapshot"), (13, 1, "snapshot"), (13, 1, "snapshot"), (3, 3, "replay")]
    {
        let at = commit.to_string();
        let arguments = ["--repo", repository.text(), "--store", store, "--at", &at, "--policy", "every:4"];
        let summary = summary(&arguments);
        let (files, digest) = digest_by_git(&repository, commit);
        assert_eq!((&summary["commit"], &summary["files"]), (&commit.into(), &files.into()));
        assert_eq!(summary["digest"], digest.as_str());
        assert_eq!(
            (&summary["replayed_events"], &summary["source"]),
            (&replayed.into(), &source.into()),
            "{commit}"
        );
    }
}

#[test]
fn a_store_of_another_history_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("history.tailfold");
    for store in [file.to_str().unwrap(), &store_on_nats()] {
        refuses_another_history(store);
    }
}

fn refuses_another_history(store: &str) {
    let repository = Repository::new();
    repository.write("a", "1\n").commit("one").write("a", "2\n").commit("two");
    summary(&["--repo", repository.text(), "--store", store]);
    repository.git(&["commit", "-q", "--amend", "-m", "rewritten"]).write("a", "3\n").commit("three");
    for at in ["2", "3"] {
        let error = failure(&["--repo", repository.text(), "--store", store, "--at", at]);
        assert!(error.contains("the store holds another history: its commit 2 is not"), "{error}");
    }
}

#[test]
fn a_tree_that_is_not_the_one_that_git_has_is_said() {
    let repository = Repository::new();
    repository.write("a", "1\n").write("b", "1\n").commit("one");
    let directory = tempfile::tempdir().unwrap();
    let (forged, store) = (directory.path().join("forged.log"), directory.path().join("history.tailfold"));
    let (forged, store) = (forged.to_str().unwrap(), store.to_str().unwrap());
    // The commit's true name, with a file left out and another one's mode changed.
    let log = repository.output(&["log", "--raw", "--no-abbrev", "--root", "--format=commit %H %ct"]);
    let lines = log.lines().filter(|line| !line.ends_with("\ta"));
    let lines: String = lines.map(|line| line.replace("000000 100644", "000000 100755") + "\n").collect();
    fs::write(forged, lines).unwrap();
    assert_eq!(summary(&["--log", forged, "--store", store])["files"], 1);
    let error = failure(&["--repo", repository.text(), "--store", store]);
    assert!(error.contains("differs from `git ls-tree` at 2 paths, first at `a`"), "{error}");
}

#[test]
fn a_commit_beyond_the_history_is_refused() {
    let repository = Repository::new();
    repository.write("a", "1\n").commit("one");
    let error = failure(&["--repo", repository.text(), "--at", "2"]);
    assert!(error.contains("there is no commit 2: the log ends at commit 1"), "{error}");
}

#[test]
fn what_is_no_repository_and_what_has_no_commit_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let error = failure(&["--repo", directory.path().to_str().unwrap()]);
    assert!(error.contains("not a git repository") && error.contains("git failed"), "{error}");
    let error = failure(&["--repo", Repository::new().text()]);
    assert!(error.contains("git failed"), "{error}");
}

#[test]
fn the_history_of_this_project_is_told_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if !root.join(".git").exists() {
        eprintln!("NOT RUN: these sources are no git checkout");
        return;
    }
    let root = root.to_str().unwrap();
    let replayed = summary(&["--repo", root, "--policy", "never"]);
    let snapshot = summary(&["--repo", root, "--policy", "every:10"]);
    assert_eq!((&replayed["commit"], &replayed["digest"]), (&snapshot["commit"], &snapshot["digest"]));
    assert!(snapshot["replayed_events"].as_u64().unwrap() < 10, "{snapshot}");
}
