//! Programs that the tests need besides cargo.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::apt;

pub(crate) struct Tool {
    program: &'static str,
    /// What it must be able to do besides being there.
    asked: &'static [&'static str],
    /// An environment variable that names another program for the same.
    named_by: Option<&'static str>,
    /// A directory with a subdirectory for each version, each with the program in `bin`.
    versions_in: Option<&'static str>,
    needed_for: &'static str,
    debian: &'static [&'static str],
}

pub(crate) const FOR_TESTS: [Tool; 2] = [
    Tool {
        program: "cc",
        asked: &[],
        named_by: Some("CC"),
        versions_in: None,
        needed_for: "the SQLite that is built in, and linking",
        debian: &["gcc", "libc6-dev"],
    },
    Tool {
        program: "git",
        asked: &[],
        named_by: None,
        versions_in: None,
        needed_for: "the tests of examples/git-history",
        debian: &["git"],
    },
];

/// Servers that tests start as the system has them.
pub(crate) const SERVERS: [Tool; 4] = [
    Tool {
        program: "postgres",
        asked: &[],
        named_by: Some("TAILFOLD_POSTGRES_BIN"),
        versions_in: Some("/usr/lib/postgresql"),
        needed_for: "tests that start PostgreSQL, 15 or later",
        debian: &["postgresql"],
    },
    Tool {
        program: "redis-server",
        asked: &[],
        named_by: None,
        versions_in: None,
        needed_for: "tests that start Redis, 7 or later",
        debian: &["redis-server"],
    },
    Tool {
        program: "memcached",
        asked: &[],
        named_by: None,
        versions_in: None,
        needed_for: "tests that start memcached",
        debian: &["memcached"],
    },
    Tool {
        program: "pgbouncer",
        asked: &[],
        named_by: None,
        versions_in: None,
        needed_for: "tests that start PgBouncer",
        debian: &["pgbouncer"],
    },
];

pub(crate) const FOR_SERVERS: [Tool; 1] = [Tool {
    program: "python3",
    asked: &["-m", "pip", "--version"],
    named_by: None,
    versions_in: None,
    needed_for: "fetching the servers that tests run against",
    debian: &["python3", "python3-pip"],
}];

/// Installs what is missing with apt where that is possible, else says what to install.
pub(crate) fn ensure(tools: &[Tool]) -> Result<(), String> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.debian).copied().collect();
    if is_root() && on_path("apt-get").is_some() {
        apt::install(&packages)?;
    }
    let missing: Vec<String> = missing
        .iter()
        .filter(|tool| !tool.is_there())
        .map(|tool| format!("`{}` is missing (needed for {})", tool.name(), tool.needed_for))
        .collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(format!("{}; on Debian: apt-get install {}", missing.join("; "), packages.join(" "))),
    }
}

impl Tool {
    fn is_there(&self) -> bool {
        self.named_by.is_some_and(|name| env::var_os(name).is_some())
            || on_path(self.program)
                // Where Debian keeps servers, which is on the path of administrators only.
                .or_else(|| {
                    Some(Path::new("/usr/sbin").join(self.program)).filter(|program| program.is_file())
                })
                .is_some_and(|program| self.asked.is_empty() || succeeds(&program, self.asked))
            || self.versions_in.is_some_and(|directory| has_version(Path::new(directory), self.program))
    }

    fn name(&self) -> String {
        let asked = self.asked.iter().filter(|argument| **argument != "--version");
        std::iter::once(&self.program).chain(asked).copied().collect::<Vec<_>>().join(" ")
    }
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|directory| directory.join(program)).find(|candidate| candidate.is_file())
}

fn has_version(directory: &Path, program: &str) -> bool {
    fs::read_dir(directory).is_ok_and(|versions| {
        versions.flatten().any(|version| version.path().join("bin").join(program).is_file())
    })
}

pub(crate) fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    answer.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}

fn succeeds(program: &Path, arguments: &[&str]) -> bool {
    let answer = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    answer.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_is_missing_where_it_cannot_do_what_is_asked() {
        let tool = |program, asked| {
            let versions_in = Some("/nowhere");
            Tool { program, asked, named_by: None, versions_in, needed_for: "", debian: &[] }
        };
        assert!(tool("sh", &[]).is_there());
        assert!(!tool("no-such-tool", &[]).is_there());
        assert!(!tool("sh", &["-c", "exit 1"]).is_there());
        assert_eq!(FOR_SERVERS.map(|tool| tool.name()), ["python3 -m pip"]);
    }

    #[test]
    fn tool_is_found_among_the_versions_of_its_directory() {
        let directory = env::temp_dir().join(format!("tailfold-xtask-versions-{}", std::process::id()));
        assert!(!has_version(&directory, "server"));
        fs::create_dir_all(directory.join("15/bin")).unwrap();
        assert!(!has_version(&directory, "server"));
        fs::write(directory.join("15/bin/server"), "").unwrap();
        assert!(has_version(&directory, "server"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
