//! `cargo xtask test`: all tests of the workspace, and how many passed.

use std::env;
use std::num::NonZero;
use std::process::Stdio;
use std::thread;

use crate::running::Servers;
use crate::servers;
use crate::steps::{Watched, cargo, run_watched};
use crate::tools;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// One process a test, side by side across all crates.
    Nextest,
    /// What comes with cargo.
    CargoTest,
}

impl Runner {
    pub(crate) fn best() -> Self {
        let answer = cargo(&["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if answer.is_ok_and(|status| status.success()) { Self::Nextest } else { Self::CargoTest }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

pub(crate) fn run(runner: Runner) -> Result<(), String> {
    tools::ensure(&tools::FOR_TESTS)?;
    let mut count = Count::default();
    let done = run_steps(runner, &mut count);
    if env::var_os("TAILFOLD_HISTORY_LOG").is_none() {
        println!("NOT RUN: git-history on 4,441 commits; TAILFOLD_HISTORY_LOG does not name their log");
    }
    if done.is_err() && count.failed == 0 {
        // It did not get as far as failing a test.
        count.failed = 1;
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    done
}

fn run_steps(runner: Runner, count: &mut Count) -> Result<(), String> {
    servers::get()?;
    // One set for the whole run: with nextest every test is a process.
    let servers = Servers::start()?;
    let cargo = |arguments: &[&str]| {
        let mut command = cargo(arguments);
        command.envs(servers.environment.iter().map(|(name, value)| (name, value)));
        command
    };
    let at_once = tests_at_once().to_string();
    match runner {
        Runner::Nextest => {
            let tests = ["nextest", "run", "--workspace", "--no-fail-fast", "--test-threads", &at_once];
            run_watched(&mut cargo(&tests), Watched::Stderr, |line| count.see_nextest(line))?;
        }
        Runner::CargoTest => {
            let tests = ["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"];
            let mut tests = cargo(&tests);
            tests.env("RUST_TEST_THREADS", &at_once);
            run_watched(&mut tests, Watched::Stdout, |line| count.see_libtest(line))?;
        }
    }
    run_watched(&mut cargo(&WITH_ARBITRARY_PRECISION), Watched::Stdout, |line| count.see_libtest(line))?;
    let doctests = ["test", "--workspace", "--doc", "--no-fail-fast"];
    run_watched(&mut cargo(&doctests), Watched::Stdout, |line| count.see_libtest(line))
}

/// One test with a feature that some dependency of a user's may switch on. Of the whole workspace, although
/// it is in one crate: with the features of that crate alone, every dependency would be built again, and not
/// only `serde_json` and what uses it.
const WITH_ARBITRARY_PRECISION: [&str; 6] =
    ["test", "--workspace", "--features", "serde_json/arbitrary_precision", "--test", "arbitrary_precision"];

/// More than there are processors: most tests wait most of their time, for a server, a disk or a timeout.
fn tests_at_once() -> usize {
    2 * thread::available_parallelism().map_or(1, NonZero::get)
}

impl Count {
    /// `Summary [   1.234s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped`
    fn see_nextest(&mut self, line: &str) {
        let line = plain(line);
        let Some((_, outcomes)) =
            line.split_once(" run: ").filter(|_| line.trim_start().starts_with("Summary"))
        else {
            return;
        };
        for outcome in outcomes.split(", ") {
            let Some((number, what)) = outcome.trim().split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            if what.starts_with("passed") {
                self.passed += number;
            } else if !what.starts_with("skipped") {
                self.failed += number;
            }
        }
    }

    /// `test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
    fn see_libtest(&mut self, line: &str) {
        let line = plain(line);
        let Some((_, outcomes)) = line.split_once(". ").filter(|_| line.starts_with("test result: ")) else {
            return;
        };
        for outcome in outcomes.split("; ") {
            match outcome.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Without the escape sequences that colour a line.
fn plain(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners_are_counted() {
        let mut count = Count::default();
        for line in [
            "     Summary [   1.234s] 12 tests run: 9 passed (1 slow), 1 failed, 2 timed out, 3 skipped\n",
            "\u{1b}[32;1m     Summary\u{1b}[0m [   0.010s] \u{1b}[1m1\u{1b}[0m test run: \u{1b}[1m1\u{1b}[0m passed, \u{1b}[1m0\u{1b}[0m skipped",
            "        PASS [   0.010s] crate a_test_run: 7 passed",
        ] {
            count.see_nextest(line);
        }
        assert_eq!(count, Count { passed: 10, failed: 3 });
        for line in [
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test a ... ok\n",
        ] {
            count.see_libtest(line);
        }
        assert_eq!(count, Count { passed: 15, failed: 5 });
    }
}
