//! Asks git itself: for the log to import, and for the tree to compare with.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use crate::tree::{File, ObjectId, Tree};

/// A repository on disk.
pub(crate) struct Git {
    directory: PathBuf,
}

/// The output of a running git. A git that failed is an error at the end of it, never a shorter log.
pub(crate) struct GitOutput {
    child: Child,
    stdout: ChildStdout,
}

/// A git that could not be run, or did not answer as expected.
#[derive(Debug)]
pub(crate) struct GitError(String);

impl Git {
    pub(crate) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The first-parent log up to `HEAD`, oldest commit first. What a user's configuration could change about it is set
    /// here.
    pub(crate) fn log(&self) -> Result<GitOutput, GitError> {
        let mut child = self
            .command("log.showRoot=true")
            .args([
                "log",
                "--first-parent",
                "--diff-merges=first-parent",
                "--raw",
                "--no-renames",
                "--no-abbrev",
            ])
            .args(["--no-relative", "--ignore-submodules=none", "--no-show-signature", "--no-color"])
            .args(["--reverse", "--format=commit %H %ct"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| self.failed("log", &error))?;
        let stdout = child.stdout.take().ok_or_else(|| self.failed("log", &"no output"))?;
        Ok(GitOutput { child, stdout })
    }

    /// The tree of a commit, as `git ls-tree` tells it.
    pub(crate) fn tree(&self, commit: ObjectId) -> Result<Tree, GitError> {
        let output = self
            .command("core.abbrev=no")
            .args(["ls-tree", "-r", "--full-tree", &commit.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| self.failed("ls-tree", &error))?;
        if !output.status.success() {
            return Err(self.failed("ls-tree", &output.status));
        }
        let text = String::from_utf8(output.stdout).map_err(|error| self.failed("ls-tree", &error))?;
        let files = text.lines().map(|line| parse_ls_tree(line).ok_or(line));
        files
            .collect::<Result<_, _>>()
            .map_err(|line| self.failed("ls-tree", &format!("unexpected line {line:?}")))
    }

    fn command(&self, setting: &str) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.directory).args(["-c", "core.quotePath=true", "-c", setting]);
        command
    }

    fn failed(&self, operation: &str, problem: &dyn fmt::Display) -> GitError {
        GitError(format!("run `git {operation}` in {}: {problem}", self.directory.display()))
    }
}

/// `<mode> <type> <name>\t<path>`
fn parse_ls_tree(line: &str) -> Option<(Arc<str>, File)> {
    let (file, path) = line.split_once('\t')?;
    let mut fields = file.split(' ');
    let (mode, _type, blob) = (fields.next()?, fields.next()?, fields.next()?);
    Some((path.into(), File { mode: mode.parse().ok()?, blob: blob.parse().ok()? }))
}

impl Read for GitOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stdout.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("git failed: {status}")));
            }
        }
        Ok(read)
    }
}

impl Drop for GitOutput {
    fn drop(&mut self) {
        // Not read to the end: nobody wants the rest. Ended already: killing it changes nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for GitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GitError {}
