//! Programs that the tests need besides cargo.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::steps;

struct Tool {
    program: &'static str,
    /// An environment variable that names another program for the same.
    named_by: Option<&'static str>,
    needed_for: &'static str,
    debian: &'static [&'static str],
}

const TOOLS: [Tool; 2] = [
    Tool {
        program: "cc",
        named_by: Some("CC"),
        needed_for: "the SQLite that is built in, and linking",
        debian: &["gcc", "libc6-dev"],
    },
    Tool {
        program: "git",
        named_by: None,
        needed_for: "the tests of examples/git-history",
        debian: &["git"],
    },
];

/// Installs what is missing with apt where that is possible, else says what to install.
pub(crate) fn ensure() -> Result<(), String> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.debian).copied().collect();
    if is_root() && is_on_path("apt-get") {
        steps::run(Command::new("apt-get").arg("update"))?;
        let install = ["install", "--yes", "--no-install-recommends"];
        steps::run(
            Command::new("apt-get").args(install).args(&packages).env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
    }
    let missing: Vec<String> = missing
        .iter()
        .filter(|tool| !tool.is_there())
        .map(|tool| format!("`{}` is missing (needed for {})", tool.program, tool.needed_for))
        .collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(format!("{}; on Debian: apt-get install {}", missing.join("; "), packages.join(" "))),
    }
}

impl Tool {
    fn is_there(&self) -> bool {
        self.named_by.is_some_and(|name| env::var_os(name).is_some()) || is_on_path(self.program)
    }
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory: std::path::PathBuf| Path::new(&directory).join(program).is_file())
}

fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    answer.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}
