//! Runs the program, and makes repositories for it.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The program, with nothing of the user's git in its environment.
pub(crate) fn git_history(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_git-history"));
    without_environment(command.args(arguments));
    command
}

/// What it prints with `--json`; it must succeed.
pub(crate) fn summary(arguments: &[&str]) -> Value {
    let output = git_history(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What it says when it fails; it must fail, and print no result.
pub(crate) fn failure(arguments: &[&str]) -> String {
    let output = git_history(arguments).arg("--json").output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Number of files and digest of what `git ls-tree -r` printed. It orders by the bytes of the true path, the digest by
/// those of the printed one.
pub(crate) fn digest_of_ls_tree(printed: &str) -> (usize, String) {
    let mut lines: Vec<_> = printed
        .lines()
        .map(|line| {
            let (file, path) = line.split_once('\t').unwrap();
            let fields: Vec<_> = file.split(' ').collect();
            (path, format!("{} {}\t{path}\n", fields[0], fields[2]))
        })
        .collect();
    lines.sort_by_key(|(path, _)| path.as_bytes());
    let text: String = lines.iter().map(|(_, line)| line.as_str()).collect();
    (lines.len(), Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A git repository in a directory of its own.
pub(crate) struct Repository(TempDir);

impl Repository {
    pub(crate) fn new() -> Self {
        Self::with_format("sha1")
    }

    pub(crate) fn with_format(names: &str) -> Self {
        let repository = Self(tempfile::tempdir().unwrap());
        repository.git(&["init", "-q", "-b", "main", &format!("--object-format={names}")]);
        repository
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn text(&self) -> &str {
        self.path().to_str().unwrap()
    }

    pub(crate) fn write(&self, path: &str, content: &str) -> &Self {
        let file = self.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
        self
    }

    pub(crate) fn commit(&self, message: &str) -> &Self {
        self.git(&["add", "-A"]).git(&["commit", "-q", "-m", message])
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> &Self {
        self.output(arguments);
        self
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        let output = without_environment(&mut command)
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "core.autocrlf=false"])
            .args(arguments)
            .current_dir(self.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn without_environment(command: &mut Command) -> &mut Command {
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1")
}
