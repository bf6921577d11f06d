//! Where the programs of PostgreSQL are.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest major version to test against.
const OLDEST: u32 = 15;
/// Where Debian has a directory for each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The directory with `initdb` and `postgres`: the one that `TAILFOLD_POSTGRES_BIN` names, else the newest of Debian's, else
/// the first on the `PATH`.
pub(super) fn directory() -> io::Result<PathBuf> {
    let named = env::var_os("TAILFOLD_POSTGRES_BIN").filter(|directory| !directory.is_empty());
    let found = match named {
        Some(directory) => Some(PathBuf::from(directory)),
        None => newest_of_debian().or_else(on_path),
    };
    let advice = "on Debian: apt-get install postgresql, or name the directory that has `initdb` and `postgres` in \
                  TAILFOLD_POSTGRES_BIN";
    let not_found = |problem: String| io::Error::new(io::ErrorKind::NotFound, format!("{problem}; {advice}"));
    let directory = found
        .ok_or_else(|| not_found(format!("find PostgreSQL: it is neither in {DEBIAN} nor on the PATH")))?;
    let version = major_version(&directory)
        .ok_or_else(|| not_found(format!("find PostgreSQL: no `postgres` in {}", directory.display())))?;
    if version < OLDEST {
        let directory = directory.display();
        return Err(not_found(format!("{directory} has PostgreSQL {version}, older than {OLDEST}")));
    }
    Ok(directory)
}

fn newest_of_debian() -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        Some((version, path.join("bin")))
    });
    let complete = versions.filter(|(_, directory)| is_complete(directory));
    complete.max().map(|(_, directory)| directory)
}

fn on_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find(|directory| is_complete(directory))
}

fn is_complete(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file())
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, `postgres (PostgreSQL) 18beta1`
fn major_version(directory: &Path) -> Option<u32> {
    let answer =
        Command::new(directory.join("postgres")).arg("--version").stderr(Stdio::null()).output().ok()?;
    let answer = String::from_utf8_lossy(&answer.stdout);
    let version = answer.split(") ").nth(1)?;
    let digits = version.find(|character: char| !character.is_ascii_digit()).unwrap_or(version.len());
    version.get(..digits)?.parse().ok()
}
