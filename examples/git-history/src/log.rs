//! Reads what `git log --first-parent --raw --reverse --format='commit %H %ct'` prints, commit by commit.

use std::fmt;
use std::io::{self, BufRead};
use std::sync::Arc;

use tailfold::Timestamp;

use crate::tree::{File, ObjectId};

/// One commit and what it changed against its first parent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) id: ObjectId,
    pub(crate) time: Timestamp,
    pub(crate) entries: Vec<Entry>,
}

/// One path of a commit: what stood there, and what stands there now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Arc<str>,
    pub(crate) before: Option<File>,
    pub(crate) after: Option<File>,
}

/// The commits of a log, oldest first, as an iterator; ends after the first error.
pub(crate) struct Log<R> {
    lines: R,
    line: u64,
    begun: Option<Commit>,
    failed: bool,
}

/// Why a log could not be read on, and at which line (the first is 1).
#[derive(Debug)]
pub(crate) struct LogError {
    line: u64,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Unreadable(io::Error),
    Malformed(String),
}

enum Line {
    Commit(Commit),
    Entry(Entry),
    Blank,
    End,
}

impl<R: BufRead> Log<R> {
    pub(crate) fn new(lines: R) -> Self {
        Self { lines, line: 0, begun: None, failed: false }
    }

    /// A commit is complete where the next one begins, or the log ends.
    fn next_commit(&mut self) -> Result<Option<Commit>, Problem> {
        loop {
            match self.next_line()? {
                Line::Blank => {}
                Line::End => return Ok(self.begun.take()),
                Line::Entry(entry) => match &mut self.begun {
                    Some(commit) => commit.entries.push(entry),
                    None => return Err("a change before the first commit".to_owned().into()),
                },
                Line::Commit(commit) => {
                    if let Some(complete) = self.begun.replace(commit) {
                        return Ok(Some(complete));
                    }
                }
            }
        }
    }

    fn next_line(&mut self) -> Result<Line, Problem> {
        let mut line = String::new();
        self.line += 1;
        if self.lines.read_line(&mut line)? == 0 {
            return Ok(Line::End);
        }
        let line =
            line.strip_suffix('\n').ok_or_else(|| "the log ends in the middle of the line".to_owned())?;
        if line.is_empty() {
            return Ok(Line::Blank);
        }
        if let Some(commit) = line.strip_prefix("commit ") {
            return Ok(Line::Commit(parse_commit(commit)?));
        }
        match line.strip_prefix(':') {
            Some(entry) => Ok(Line::Entry(parse_entry(entry)?)),
            None => Err("neither `commit ..` nor `:..` nor empty".to_owned().into()),
        }
    }
}

impl<R: BufRead> Iterator for Log<R> {
    type Item = Result<Commit, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_commit();
        self.failed = next.is_err();
        next.map_err(|problem| LogError { line: self.line, problem }).transpose()
    }
}

/// `<name> <seconds since 1970>`
fn parse_commit(text: &str) -> Result<Commit, String> {
    let (id, seconds) = text.split_once(' ').ok_or("a commit without its time")?;
    let micros = seconds.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000));
    let time = Timestamp::from_micros(micros.ok_or_else(|| format!("{seconds:?} is no time in seconds"))?);
    Ok(Commit { id: id.parse()?, time, entries: Vec::new() })
}

/// `<old mode> <new mode> <old blob> <new blob> <status>\t<path>`
fn parse_entry(text: &str) -> Result<Entry, String> {
    let (fields, path) = text.split_once('\t').ok_or("a change without a path")?;
    let fields: Vec<_> = fields.split(' ').collect();
    let &[old_mode, new_mode, old_blob, new_blob, status] = fields.as_slice() else {
        return Err(format!("a change has 5 fields before its path, not {}", fields.len()));
    };
    let (before, after) = (parse_side(old_mode, old_blob)?, parse_side(new_mode, new_blob)?);
    let fits = match status {
        "A" => before.is_none() && after.is_some(),
        "D" => before.is_some() && after.is_none(),
        "M" | "T" => before.is_some() && after.is_some(),
        _ => return Err(format!("status {status:?}: must be A, D, M or T; renames need `--no-renames`")),
    };
    if !fits {
        return Err(format!("status {status} contradicts the modes {old_mode} and {new_mode}"));
    }
    // Git quotes a path that holds a tab, so a bare one separates two paths.
    if path.is_empty() || path.contains('\t') {
        return Err("a change must have exactly one path".to_owned());
    }
    Ok(Entry { path: path.into(), before, after })
}

fn parse_side(mode: &str, blob: &str) -> Result<Option<File>, String> {
    let file = File { mode: mode.parse()?, blob: blob.parse()? };
    Ok(if mode == "000000" { None } else { Some(file) })
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Malformed(problem)
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read the log: line {}: ", self.line)?;
        match &self.problem {
            Problem::Unreadable(error) => error.fmt(f),
            Problem::Malformed(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for LogError {}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const NONE: &str = "0000000000000000000000000000000000000000";

    fn read(log: &str) -> Result<Vec<Commit>, LogError> {
        Log::new(log.as_bytes()).collect()
    }

    fn problem_at(log: &str, line: u64) -> String {
        let error = read(log).unwrap_err();
        assert_eq!(error.line, line, "{error}");
        error.to_string()
    }

    #[test]
    fn commits_come_with_their_changes_and_may_have_none() {
        let log = format!(
            "commit {A} 1492458544\n\n:000000 100644 {NONE} {B} A\ta b\n:100755 000000 {A} {NONE} D\t\"\\303\\244\"\n\
             commit {B} -1\n"
        );
        let commits = read(&log).unwrap();
        let file = |mode: &str, blob: &str| File { mode: mode.parse().unwrap(), blob: blob.parse().unwrap() };
        let [one, two] = commits.as_slice() else { panic!("{commits:?}") };
        assert_eq!(one.time.to_string(), "2017-04-17T19:49:04Z");
        assert_eq!(
            one.entries,
            [
                Entry { path: "a b".into(), before: None, after: Some(file("100644", B)) },
                Entry { path: "\"\\303\\244\"".into(), before: Some(file("100755", A)), after: None },
            ]
        );
        assert_eq!((two.id.to_string().as_str(), two.entries.len()), (B, 0));
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn malformed_lines_are_reported_with_their_number() {
        let begin = format!("commit {A} 1\n\n");
        let entry = |rest: &str| format!("{begin}:100644 100644 {A} {B} {rest}\n");
        assert!(problem_at("commit x 1\n", 1).contains("no object name"));
        assert!(problem_at(&format!("commit {A}\n"), 1).contains("without its time"));
        assert!(problem_at(&format!("commit {A} noon\n"), 1).contains("\"noon\""));
        assert!(problem_at(&format!("{begin}fatal: bad object\n"), 3).contains("neither"));
        assert!(problem_at(&format!(":100644 100644 {A} {B} M\ta\n"), 1).contains("before the first commit"));
        assert!(problem_at(&entry("M a"), 3).contains("without a path"));
        assert!(problem_at(&entry("M\t"), 3).contains("exactly one path"));
        assert!(problem_at(&entry("R100\ta\tb"), 3).contains("--no-renames"));
        assert!(problem_at(&entry("M\ta\tb"), 3).contains("exactly one path"));
        assert!(problem_at(&entry("A\ta"), 3).contains("contradicts"));
        assert!(problem_at(&entry("M extra\ta"), 3).contains("not 6"));
        assert!(problem_at(entry("M\tabc").trim_end_matches("c\n"), 3).contains("in the middle"));
    }

    #[test]
    fn nothing_is_read_after_an_error() {
        let log = format!("commit {A} 1\nnonsense\ncommit {B} 2\n");
        let mut log = Log::new(log.as_bytes());
        assert!(log.next().unwrap().is_err());
        assert!(log.next().is_none());
    }
}
